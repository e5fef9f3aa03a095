# For each word FILESYSTEM/WIRE of $ROUNDS (WIRE: bare or digests): write past the cache and find it unchanged; then make the file
# system, write a tree, and find that unchanged.
. ./lib.sh
. ./patched.sh

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
    disconnect
    tree_round "$@"
}

modprobe -a ext4 xfs
start_accounting
connect bare
describe_profile
disconnect
for word in $ROUNDS; do
    one_round "${word%/*}" "${word#*/}"
    echo "guest: $word done at $(cut -d' ' -f1 /proc/uptime) s"
done
report_accounts
report_kernel_errors
