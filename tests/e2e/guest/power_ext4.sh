# A file system through losses of power, of which each ends a guest like this one. First: is what the guest before has
# synchronised there, and the file system whole? Then: more files, until the power goes. $MANIFEST names the files that were
# synchronised, in round $ROUND - 1; in round 0 the file system is made.
. ./lib.sh
WRITERS="1 2 3"
before=$((ROUND - 1))

# synchronised NAME SUM: told to the test alone, in one piece, as several writers do.
synchronised() { echo "RESULT $1=$2" >&7; }

# writer N: one new file after the other. Every second one gets its name only when its contents are synchronised.
writer() {
    local n=$1 file=0 name
    mkdir "/mnt/$ROUND/$n"
    while :; do
        name=$ROUND/$n/$file
        head -c $((5001 + (file % 7) * 20011 + n * 700)) /dev/urandom >"/run/source.$n"
        if [ $((file % 2)) = 0 ]; then
            dd if="/run/source.$n" of="/mnt/$name" bs=16384 conv=fsync 2>/dev/null || return 1
        else
            dd if="/run/source.$n" of="/mnt/$name.new" bs=16384 conv=fsync 2>/dev/null || return 1
            mv "/mnt/$name.new" "/mnt/$name"
            xfs_io -r -c fsync "/mnt/$ROUND/$n" || return 1
        fi
        synchronised "$name" "$(sha256sum <"/run/source.$n" | cut -d' ' -f1)"
        file=$((file + 1))
    done
}

# Never synchronises anything by itself: it may all be gone, and must harm nobody.
careless_writer() {
    local file=0
    mkdir "/mnt/$ROUND/careless"
    while :; do
        head -c $((1 + file * 31013 % 262144)) /dev/urandom >"/mnt/$ROUND/careless/$((file % 5))"
        [ $((file % 3)) != 0 ] || rm "/mnt/$ROUND/careless/$((file % 5))"
        file=$((file + 1))
    done
}

modprobe -a nvme-tcp ext4
connect_all
if [ "$ROUND" = 0 ]; then
    make_file_system ext4
else
    # As a host that starts again does it: the journal is replayed. Then there must be nothing left to repair.
    mount -t ext4 "/dev/$(disk)" /mnt
    umount /mnt
    check_file_system ext4 || fail "the file system is not clean"
fi
mount -t ext4 -o "$OPTIONS" "/dev/$(disk)" /mnt
if [ -s ./manifest ]; then
    (cd /mnt && sha256sum -c /job/manifest) >/run/checked || { grep -v ': OK$' /run/checked; fail "synchronised files have changed"; }
fi
[ "$(dmesg | grep -Ec "$KERNEL_ERRORS")" = 0 ] || fail "the kernel complains"
phase checked
[ "$ROUND" -lt "$ROUNDS" ] || exit 0

[ "$before" -lt 0 ] || rm -r "/mnt/$before"
mkdir "/mnt/$ROUND"
sync
for n in $WRITERS; do
    { writer "$n" || echo "FAILED writer $n" >&7; } &
done
careless_writer &
wait
