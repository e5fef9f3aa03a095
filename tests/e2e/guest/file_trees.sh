# For each word FILESYSTEM/WIRE of $ROUNDS (WIRE: bare or digests): discover, connect to all, make the file system,
# write a tree, unmount, disconnect, connect again, and find the tree unchanged and the file system clean.
. ./lib.sh

connect() {
    # shellcheck disable=SC2046 # The options are words.
    connect_all $(digest_options "$1")
    echo "guest: /dev/$(disk), $(cat "/sys/block/$(disk)/queue/logical_block_size")-byte blocks"
}

modprobe -a nvme-tcp ext4 xfs
start_accounting
discover_subsystem
connect bare
# How the volume presents itself: `dps : 0x1` is protection type 1 in the first eight bytes of metadata or the last.
nvme id-ns "/dev/$(disk)" >/run/id-ns
cat /run/id-ns
result dps "$(awk '$1 == "dps" { print $3 }' /run/id-ns)"
result flbas "$(awk '$1 == "flbas" { print $3 }' /run/id-ns)"
result size_bytes "$(($(cat "/sys/block/$(disk)/size") * 512))"
disconnect
[ "${MEET:-}" = "" ] || phase "$MEET"
for word in $ROUNDS; do
    tree_round "${word%/*}" "${word#*/}"
    echo "guest: $word done at $(cut -d' ' -f1 /proc/uptime) s"
done
report_accounts
result kernel_errors "$(dmesg | grep -Ec "$KERNEL_ERRORS")" || true
