# Writers load a file system while the test kills the target $CRASHES times, and at last its control plane. Nothing
# here helps the host to go on: it reconnects by itself, and each writer only sees a write that takes longer.
. ./lib.sh
WRITERS="1 2 3"
FILES_PER_WRITER=24

# writer N: rewrites its files, each with new contents and an fsync, until told to stop. The checksum of what was
# synchronised last is kept in memory beside it.
writer() {
    local n=$1 file=0 round=0
    mkdir "/mnt/$n"
    while [ ! -e /run/stop ]; do
        head -c $((100001 + n * 65536)) /dev/urandom >"/run/source.$n"
        dd if="/run/source.$n" of="/mnt/$n/$file" bs=65536 conv=fsync 2>/dev/null || return 1
        echo "$(sha256sum <"/run/source.$n" | cut -d' ' -f1)  $n/$file" >"/run/sums/$n.$file"
        file=$(((file + 1) % FILES_PER_WRITER))
        round=$((round + 1))
        echo "$round" >"/run/progress.$n.new"
        mv "/run/progress.$n.new" "/run/progress.$n"
    done
}

# mark_progress, each_writer_got_on: every writer has synchronised five more files since the mark.
mark_progress() {
    local n
    for n in $WRITERS; do
        eval "mark_$n=$(cat "/run/progress.$n" 2>/dev/null || echo 0)"
    done
}

each_writer_got_on() {
    local n mark
    for n in $WRITERS; do
        [ ! -e "/run/failed.$n" ] || fail "writer $n failed"
        eval "mark=\$mark_$n"
        [ "$(cat "/run/progress.$n" 2>/dev/null || echo 0)" -ge $((mark + 5)) ] || return 1
    done
}

modprobe -a nvme-tcp ext4 xfs
connect_all --keep-alive-tmo=5
make_file_system "$FILE_SYSTEM"
mount -t "$FILE_SYSTEM" "/dev/$(disk)" /mnt
mkdir /run/sums
for n in $WRITERS; do
    { writer "$n" || touch "/run/failed.$n"; } &
done
crash=0
while [ "$crash" -lt "$CRASHES" ]; do
    crash=$((crash + 1))
    mark_progress
    wait_until each_writer_got_on
    phase "loaded_$crash"
done
phase written
mark_progress
wait_until each_writer_got_on
touch /run/stop
wait
each_writer_got_on
umount /mnt
check_file_system "$FILE_SYSTEM" || fail "the file system is not clean"
disconnect

connect_all
mount -t "$FILE_SYSTEM" "/dev/$(disk)" /mnt
cat /run/sums/* >/run/manifest
(cd /mnt && sha256sum -c /run/manifest) >/run/checked || { grep -v ': OK$' /run/checked; fail "files have changed"; }
umount /mnt
disconnect
result files "$(wc -l </run/manifest)"
result rewrites "$(cat /run/progress.* | awk '{ total += $1 } END { print total }')"
result reconnects "$(dmesg | grep -c 'Successfully reconnected')"
result kernel_errors "$(dmesg | grep -Ec "$KERNEL_ERRORS")" || true
