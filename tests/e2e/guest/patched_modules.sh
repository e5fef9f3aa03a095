# A host with the modules of kernel-patches/dkms and its tuples on the wire. For each word FILESYSTEM/WIRE of $ROUNDS (WIRE:
# bare or digests): write past the cache and find it unchanged; then make the file system, write a tree, and find that unchanged.
. ./lib.sh

connect() {
    # shellcheck disable=SC2046 # The options are words.
    connect_all $(digest_options "$1")
    profile=/sys/block/$(disk)/integrity
}

# What is written past the cache, in pieces of several sizes, comes back as it was.
direct_round() {
    local size
    dd if=/dev/urandom of=/run/random bs=1048576 count=4 2>/dev/null
    for size in 4k 64k 1m; do
        xfs_io -d -c "pwrite -q -b $size -i /run/random 64m 4m" "/dev/$(disk)"
        xfs_io -d -c "pread -q -b $size 64m 4m" "/dev/$(disk)"
        dd if="/dev/$(disk)" bs=1048576 skip=64 count=4 iflag=direct 2>/dev/null | cmp - /run/random ||
            fail "pieces of $size came back changed"
    done
    rm /run/random
}

one_round() {
    connect "$2"
    direct_round
    account
    disconnect
    tree_round "$@"
}

modprobe nvme-tcp pi=1
modprobe -a ext4 xfs
result version "$(cat /sys/module/nvme_tcp/version)"
start_accounting
connect bare
result format "$(cat "$profile/format")"
result interval "$(cat "$profile/protection_interval_bytes")"
result generates "$(cat "$profile/write_generate")"
result verifies "$(cat "$profile/read_verify")"
# Every path was asked for aligned buffers, so the disk above them does.
result alignment "$(cat "/sys/block/$(disk)/queue/dma_alignment")"
account
disconnect
for word in $ROUNDS; do
    one_round "${word%/*}" "${word#*/}"
    echo "guest: $word done at $(cut -d' ' -f1 /proc/uptime) s"
done
report_accounts
result kernel_errors "$(dmesg | grep -Ec "$KERNEL_ERRORS|protection error|ref tag error|guard tag error")" || true
