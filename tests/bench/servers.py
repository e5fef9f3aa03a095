"""The programs that are measured, each on the core that it is given."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NQN = "nqn.2026-11.io.holdfast:bench"
READY_LIMIT_S = 60


def build():
    packages = ["holdfast-bare-loop", "holdfast-pool-load", "holdfast-testkit", "holdfast-cli", "holdfast-control-plane", "holdfast-daemon"]
    command = ["cargo", "build", "--release", "--bins", *itertools.chain(*(("-p", name) for name in packages))]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "CARGO_TARGET_DIR": str(ROOT / "build")}, check=True)
    return ROOT / "build/release"


def start(core, command, **streams):
    """Starts a program on one core, in a session of its own with the best share of the processor that we may ask for.

    Whoever ends this program by SIGTERM ends what it has started: the clean-up of its caller runs.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    def settle():
        os.setsid()
        os.sched_setaffinity(0, {core})
        try:
            Path("/proc/self/autogroup").write_text("-20")
        except OSError:
            pass  # No autogroups, or not root: the run is noisier.

    return subprocess.Popen([str(word) for word in command], preexec_fn=settle, text=True, **streams)


class Server:
    """A program that says `ready …` and runs until it is told to end."""

    def __init__(self, core, command, log):
        self.process = start(core, command, stdout=subprocess.PIPE, stderr=open(log, "w", encoding="utf-8"))
        deadline = time.monotonic() + READY_LIMIT_S
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.ready = line.split()[1:]
                return
            if time.monotonic() > deadline:
                break
        self.stop()
        sys.exit(f"tests/bench/run: {command[0]} did not become ready: {Path(log).read_text(encoding='utf-8')}")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Bare(Server):
    def __init__(self, args, work):
        super().__init__(args.server_core, [args.bin / "holdfast-bare-loop", "serve"], work / "bare.log")
        self.args = args

    def load(self, operation, size, depth, connections, _way):
        args = self.args
        return [
            args.bin / "holdfast-bare-loop", "load", "--target", self.ready[0], "--mix", operation, "--size", size,
            "--depth", depth, "--connections", connections, "--seconds", args.seconds, "--warmup", args.warmup,
            "--server-pid", self.process.pid, "--format", "json",
        ]


class Appliance(Server):
    """An appliance with default settings but for its memory pool, and `set_up` carried out on it."""

    def __init__(self, args, work, ram_pool, extra=()):
        command = [args.bin / "holdfast", "up", "--state", work / "state", "--cores", args.server_core]
        command += ["--ram-pool", ram_pool, "--api", "127.0.0.1:0", "--nvme", "127.0.0.1:0", "--iscsi", "127.0.0.1:0", *extra]
        super().__init__(args.server_core, command, work / "up.log")
        self.args = args
        places = dict(word.split("=", 1) for word in self.ready)
        self.api, self.nvme, self.iscsi = places["api"], places["nvme"], places.get("iscsi")
        try:
            self.target_pid = child_named(self.process.pid, "holdfast-target")
            self.set_up()
        except BaseException:
            # Nobody has it yet who could stop it.
            self.stop()
            raise

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + "/api/v1" + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            sys.exit(f"tests/bench/run: {method} {path}: {error.read().decode()}")


class Holdfast(Appliance):
    def __init__(self, args, work):
        super().__init__(args, work, "4GiB")

    def set_up(self):
        for nsid, pi_type in [(1, 0), (2, 1)]:
            volume = f"bench-{nsid}"
            self.call("POST", "/volumes", {"name": volume, "pool": "ram", "size_bytes": 1 << 30, "pi": {"type": pi_type}})
            if nsid == 1:
                self.call("POST", "/subsystems", {"name": "bench"})
            self.call("POST", "/subsystems/bench/namespaces", {"volume": volume, "nsid": nsid})
        for view in ["plain", "pi"]:
            self.call("POST", "/hosts", {"name": f"bench-{view}", "nqn": f"{NQN}-{view}"})
            self.call("PUT", f"/subsystems/bench/hosts/bench-{view}", {"view": view})
        # Every block is written once, so that reads copy what a host wrote.
        for way in ["off", "stored"]:
            run(self.args.load_core, [*self.load("read", "128KiB", 8, 1, way), "--fill"])

    def load(self, operation, size, depth, connections, way):
        args = self.args
        command = [
            args.bin / "holdfast-bench", "run", "--target", self.nvme, "--subsystem", NQN, "--mix", operation,
            "--host-nqn", f"{NQN}-{'pi' if way == 'end-to-end' else 'plain'}", "--block-size", size, "--depth", depth,
            "--queues", connections, "--nsid", 2 if way in ("stored", "end-to-end") else 1, "--span", args.span,
            "--pi", "end-to-end" if way == "end-to-end" else "off", "--target-pid", self.target_pid,
            "--seconds", args.seconds, "--warmup", args.warmup, "--format", "json",
        ]
        return command + (["--header-digest", "--data-digest"] if way == "digests" else [])


def child_named(parent, name):
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    for pid in children:
        if Path(f"/proc/{pid}/exe").resolve().name == name:
            return int(pid)
    sys.exit(f"tests/bench/run: process {parent} has no child {name}")


def run(core, command):
    generator = start(core, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = generator.communicate()
    if generator.returncode != 0:
        sys.exit(f"tests/bench/run: {' '.join(str(word) for word in command)}: {err}{out}")
    return json.loads(out)
