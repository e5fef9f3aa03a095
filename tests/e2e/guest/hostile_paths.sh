# A file system whose connections are cut in the midst of tuples, on one path and then on two. Files are written with direct I/O and
# through the page cache in turn, read back past it, and looked at once more at the end.
. ./lib.sh
. ./hostile.sh

FILES=16

connect() {
    nvme connect -t tcp -a "$GATEWAY" -s "$1" -n "$NQN" --ctrl-loss-tmo=-1 --reconnect-delay=1 --nr-io-queues=2
}
live() { cat /sys/class/nvme/nvme*/state | grep -c live || true; }
all_live() { [ "$(live)" = "$1" ]; }

work() {
    local round=0 file
    mkdir -p /run/sums
    while [ ! -e /run/stop ]; do
        round=$((round + 1))
        file=/mnt/$((round % FILES))
        head -c 2097152 /dev/urandom >/run/round
        if [ $((round % 2)) = 0 ]; then
            dd if=/run/round of=$file bs=524288 oflag=direct conv=notrunc 2>/dev/null || return 1
        else
            dd if=/run/round of=$file bs=524288 conv=notrunc,fsync 2>/dev/null || return 1
        fi
        dd if=$file bs=524288 iflag=direct 2>/dev/null | cmp - /run/round || return 1
        echo "$(sha256sum </run/round | cut -d' ' -f1)  $file" >"/run/sums/$((round % FILES))"
        echo $round >/run/rounds
    done
}
rounds() { cat /run/rounds 2>/dev/null || echo 0; }
goes_on_from() { [ "$(rounds)" -gt "$1" ] || [ ! -e "/proc/$worker" ]; }
goes_on() {
    local from
    from=$(rounds)
    wait_until goes_on_from $((from + 2))
    [ -e "/proc/$worker" ] || fail "I/O failed"
}

load_with_pi nvme-tcp
load ext4
echo "$IO_TIMEOUT" >/sys/module/nvme_core/parameters/io_timeout
connect "$PORT"
wait_until disk_appeared
make_file_system ext4
mount -t ext4 "/dev/$(disk)" /mnt
work &
worker=$!
goes_on
cut=0
while [ $cut -lt "$CUTS" ]; do
    cut=$((cut + 1))
    phase "one-path-$cut"
    goes_on
    wait_until all_live 1
done
connect "$OTHER_PORT"
wait_until all_live 2
cut=0
while [ $cut -lt "$CUTS" ]; do
    cut=$((cut + 1))
    phase "two-paths-$cut"
    goes_on
    wait_until all_live 2
done
phase one-is-gone
goes_on
result paths_left "$(live)"
touch /run/stop
wait "$worker" || fail "I/O failed"
umount /mnt
check_file_system ext4 || fail "the file system is not clean"
disconnect
connect "$OTHER_PORT"
wait_until disk_appeared
mount -t ext4 "/dev/$(disk)" /mnt
cat /run/sums/* | sha256sum -c >/run/checked || { grep -v ': OK$' /run/checked; fail "files have changed"; }
umount /mnt
disconnect
result rounds "$(rounds)"
result resets "$(dmesg | grep -c 'starting error recovery')"
result kernel_errors "$(dmesg | grep -Ec "$KERNEL_ERRORS|protection error|ref tag error|guard tag error")" || true
unload nvme_tcp
report_kernel
