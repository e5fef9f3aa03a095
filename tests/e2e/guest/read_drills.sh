# Blocks that change in the target's memory, one for each of $LBAS: written, read with the target's checks on, and read with them taken out
# of the command on its way. Both reads must fail with EILSEQ, and what the kernel says of the second is that it found it itself.
. ./lib.sh
. ./hostile.sh

attach_nvme() {
    load_with_pi nvme-tcp
    nvme connect -t tcp -a "$GATEWAY" -s "$PORT" -n "$NQN"
    wait_until disk_appeared
    device=/dev/$(disk)
    detach=disconnect
}

attach_iscsi() {
    load_with_pi iscsi_tcp
    iscsi_starts
    iscsiadm -m node -o new -T "$IQN" -p "$GATEWAY:$PORT,1" >/dev/null
    iscsiadm -m node -T "$IQN" -p "$GATEWAY:$PORT" --login
    wait_until lun_appeared
    device=$(block_of '*' 0)
    detach='iscsiadm -m node -u'
}
lun_appeared() { [ -n "$(block_of '*' 0)" ]; }

read_block() { dd if="$device" of=/run/back bs=4096 skip="$1" count=1 iflag=direct 2>/run/said; }

# EILSEQ, and nothing else.
refused() {
    ! read_block "$1" || fail "block $1: a changed block was read"
    grep -q 'multibyte or wide character' /run/said || { cat /run/said; fail "block $1: not EILSEQ"; }
}

# What the kernel's own check says, each line of it new.
own_findings() { dmesg | grep -cE 'guard tag error at|ref tag error at' || true; }

"attach_$TRANSPORT"
for lba in $LBAS; do
    head -c 4096 /dev/urandom | dd of="$device" bs=4096 seek="$lba" oflag=direct iflag=fullblock 2>/dev/null
done
head -c 4096 /dev/urandom | dd of="$device" bs=4096 seek="$INTACT" oflag=direct iflag=fullblock 2>/dev/null
phase written
before=$(own_findings)
for lba in $LBAS; do refused "$lba"; done
read_block "$INTACT" || fail "a block beside them cannot be read"
result found_by_target_too "$(($(own_findings) - before))"
phase checked_by_target
before=$(own_findings)
for lba in $LBAS; do refused "$lba"; done
read_block "$INTACT" || fail "a block beside them cannot be read"
result found_by_host "$(($(own_findings) - before))"
dmesg | grep -E 'tag error|protection' || true
phase checked_by_host
$detach
report_kernel
