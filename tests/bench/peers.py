"""Debian's iSCSI targets, tgt and istgt: each with one disk in memory and no protection, on the core that it is given."""

import itertools
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from servers import start

START_LIMIT_S = 20
# The highest control number that tgtd takes.
CONTROL_MAX = 32_767
# Files here are memory.
MEMORY = Path("/dev/shm")


class Peer:
    """A daemon with a disk of `size` bytes in memory; what starts it and sets it up differs."""

    def __init__(self, args, work, name, size):
        self.name, self.work = name, work
        self.port = free_port()
        self.disk = MEMORY / f"holdfast-bench-{os.getpid()}-{name}"
        with self.disk.open("wb") as disk:
            disk.truncate(size)
        log = open(work / f"{name}.log", "w", encoding="utf-8")
        self.process = start(args.server_core, self.command(), stdout=log, stderr=log)
        try:
            self.wait_for_port()
            self.set_up()
        except BaseException:
            self.stop()
            raise

    def set_up(self):
        pass

    def wait_for_port(self):
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"{self.name} does not listen: {(self.work / (self.name + '.log')).read_text(encoding='utf-8')}")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.disk.unlink()

    @property
    def portal(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid


class Tgt(Peer):
    iqn, lun = "iqn.2026-11.io.holdfast:tgt", 1

    def __init__(self, args, work, size):
        # Of the numbers that it takes, one that no other start of this program has.
        self.control = os.getpid() % CONTROL_MAX + 1
        super().__init__(args, work, "tgt", size)

    def command(self):
        return ["/usr/sbin/tgtd", "-f", "-C", self.control, "--iscsi", f"portal=127.0.0.1:{self.port}"]

    def set_up(self):
        self.admin("new", "target", "-T", self.iqn)
        self.admin("new", "logicalunit", "--lun", "1", "-b", self.disk)
        self.admin("bind", "target", "-I", "ALL")

    def admin(self, operation, mode, *more):
        command = ["/usr/sbin/tgtadm", "-C", self.control, "--lld", "iscsi", "--op", operation, "--mode", mode, "--tid", "1"]
        subprocess.run([str(word) for word in [*command, *more]], check=True)


class Istgt(Peer):
    iqn, lun = "iqn.2026-11.io.holdfast:istgt", 0

    def __init__(self, args, work, size):
        self.size = size
        super().__init__(args, work, "istgt", size)

    def command(self):
        settings = {
            "Global": [
                f"NodeBase {self.iqn.partition(':')[0]}", f"PidFile {self.work}/istgt.pid", f"AuthFile {self.work}/istgt.auth",
                f"MediaDirectory {MEMORY}", "Timeout 30", "NopInInterval 20", "DiscoveryAuthMethod None", "MaxSessions 16",
                "MaxConnections 1", "MaxR2T 32", "MaxOutstandingR2T 16", "DefaultTime2Wait 2", "DefaultTime2Retain 0",
                "FirstBurstLength 262144", "MaxBurstLength 1048576", "MaxRecvDataSegmentLength 262144", "InitialR2T Yes",
                "ImmediateData Yes", "DataPDUInOrder Yes", "DataSequenceInOrder Yes", "ErrorRecoveryLevel 0",
            ],
            "UnitControl": ["AuthMethod None", "AuthGroup None", f"Portal UC1 127.0.0.1:{free_port()}", "Netmask 127.0.0.1"],
            "PortalGroup1": [f"Portal DA1 {self.portal}"],
            "InitiatorGroup1": ['InitiatorName "ALL"', "Netmask 127.0.0.0/8"],
            "LogicalUnit1": [
                "TargetName istgt", "Mapping PortalGroup1 InitiatorGroup1", "AuthMethod None", "AuthGroup None",
                "UseDigest Auto", "UnitType Disk", "QueueDepth 64", f"LUN0 Storage {self.disk} {self.size >> 20}MB",
            ],
        }
        lines = itertools.chain(*([f"[{section}]", *(f"  {line}" for line in words)] for section, words in settings.items()))
        path = self.work / "istgt.conf"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.work / "istgt.auth").write_text("", encoding="utf-8")
        (self.work / "istgt.auth").chmod(0o600)
        return ["/usr/sbin/istgt", "-D", "-c", path]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
