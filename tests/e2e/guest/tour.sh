# The host's half of the tour in README.md, with the commands as they stand there.
. ./lib.sh

# show COMMAND...: as a person would see it on a terminal.
show() {
    echo "# $*"
    "$@" || echo "(exit $?)"
}

modprobe nvme-tcp
show nvme discover -t tcp -a "$GATEWAY" -s "$PORT"
show nvme connect-all -t tcp -a "$GATEWAY" -s "$PORT"
wait_until disk_appeared
disk=$(disk)
modprobe ext4
mkdir -p /mnt
mkfs.ext4 -q "/dev/$disk" && mount "/dev/$disk" /mnt && cp -r /bin /mnt && umount /mnt || fail "no file system"
phase plain

show nvme disconnect-all
phase changed

show nvme connect-all -t tcp -a "$GATEWAY" -s "$PORT"
wait_until disk_appeared
device=/dev/ng$(disk | cut -c5-)
head -c 4104 /dev/urandom >random.bin
head -c 4104 /dev/zero >zeros.bin
for block in random.bin zeros.bin; do
    nvme io-passthru "$device" --opcode=1 --namespace-id=1 --write --data-len=4104 --input-file=$block \
        --cdw10=8 --cdw12=0x1c000000 --cdw14=8 >/run/answer 2>&1 || true
    cat /run/answer
    result "${block%.bin}" "$(sed -n 's/.*(\(0x[0-9a-f]*\)).*/\1/p' /run/answer)"
done
show nvme disconnect-all
