# Proves the harness: results, phases, the modules, a file system; no target takes part.
. ./lib.sh
result release "$(uname -r)"
result hostnqn "$(cat /etc/nvme/hostnqn)"
result payload "$(sha256sum <payload | cut -d' ' -f1)"
phase standing
[ "$STATUS" -eq 0 ] || exit "$STATUS"
modprobe -a nvme-tcp xfs ext4
[ -c /dev/nvme-fabrics ]
modprobe brd rd_nr=1 rd_size=65536
mkfs.ext4 -q /dev/ram0
mount -t ext4 /dev/ram0 /mnt
make_tree /mnt
list_tree /mnt >/run/before
umount /mnt
e2fsck -fn /dev/ram0
mount -t ext4 /dev/ram0 /mnt
list_tree /mnt | cmp - /run/before
result files "$(wc -l </run/before)"
phase leaving
