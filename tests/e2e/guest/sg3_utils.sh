# What an administrator asks of SCSI disks with open-iscsi and sg3-utils: discovery, vital product data, capacity, operation
# codes, mode pages, reservations between two sessions, copies, comparisons, unmapping, writing the same.
. ./lib.sh

BLOCK=512

# refused STATUS COMMAND...: the command must end with this exit status of sg3-utils: 24 a reservation conflict, 14 a miscompare.
refused() {
    local status=$1 found=0
    shift
    "$@" >/run/refused 2>&1 || found=$?
    [ "$found" = "$status" ] || { cat /run/refused; fail "status $found, not $status: $*"; }
    echo "--- $*: $status, as it should be"
}

# told KEY TEXT: an answer must hold this.
told() { grep -q -- "$2" "/run/$1" || fail "the answer to $1 does not say: $2"; }

# generic LUN: the sg device of the LUN of the first session; generic_of SESSION LUN: of another.
generic() { generic_of 1 "$1"; }
generic_of() {
    local entry
    for entry in /sys/class/iscsi_session/session"$1"/device/target*/*:"$2"/scsi_generic/*; do
        [ ! -e "$entry" ] || echo "/dev/${entry##*/}"
    done
}
both_appeared() { [ -n "$(block_of "$1" 0)" ] && [ -n "$(block_of "$1" 1)" ]; }

discover() {
    asked discovery iscsiadm -m discovery -t sendtargets -p "$GATEWAY:$PORT"
    told discovery "$GATEWAY:$PORT,1 $IQN"
}

identify() {
    asked inquiry sg_inq "$one"
    told inquiry 'HOLDFAST'
    told inquiry '3PC=1'
    for page in sv sn di ei tpc bl bdc lbpv; do asked "page_$page" sg_vpd --page=$page "$one"; done
    told page_di 'NAA'
    asked capacity sg_readcap --long "$one"
    told capacity 'lbpme=1'
    asked luns sg_luns "$one"
    told luns 'Lun list length = 16'
    asked opcodes sg_opcodes "$one"
    told opcodes 'Extended copy'
    told opcodes 'Persistent reserve out, preempt and abort'
    asked functions sg_opcodes --tmf "$one"
    asked modes sg_modes --all "$one"
    asked logs sg_logs --all "$one"
    asked groups sg_rtpg --decode "$one"
    told groups 'active/optimized'
    asked requests sg_requests "$one"
    asked ready sg_turs --number=3 "$one"
}

blocks() {
    head -c $((64 * BLOCK)) /dev/urandom >/run/data
    head -c $BLOCK /run/data >/run/old
    head -c $BLOCK /dev/urandom >/run/new
    dd if=/run/data of="$disk" bs=$((64 * BLOCK)) oflag=direct 2>/dev/null
    asked verify sg_verify --lba=0 --count=64 "$one"
    asked sync sg_sync "$one"
    cat /run/old /run/new >/run/pair
    asked compare_and_write sg_compare_and_write --in=/run/pair --lba=0 --num=1 --xferlen=1024 "$one"
    dd if="$disk" bs=$BLOCK count=1 iflag=direct 2>/dev/null | cmp - /run/new || fail "nothing was written"
    refused 14 sg_compare_and_write --in=/run/pair --lba=0 --num=1 --xferlen=1024 "$one"
    asked unmap sg_unmap --force --lba=8 --num=8 "$one"
    dd if="$disk" bs=$BLOCK skip=8 count=8 iflag=direct 2>/dev/null | cmp -n $((8 * BLOCK)) - /dev/zero || fail "not unmapped"
    asked status sg_get_lba_status --lba=8 "$one"
    told status 'deallocated'
    asked same sg_write_same --in=/run/new --lba=100 --num=50 --xferlen=$BLOCK "$one"
    for at in 100 149; do
        dd if="$disk" bs=$BLOCK skip=$at count=1 iflag=direct 2>/dev/null | cmp - /run/new || fail "not the same at $at"
    done
    asked same_unmap sg_write_same --unmap --lba=100 --num=50 --xferlen=$BLOCK "$one"
    dd if="$disk" bs=$BLOCK skip=100 count=50 iflag=direct 2>/dev/null | cmp -n $((50 * BLOCK)) - /dev/zero || fail "not unmapped"
}

copies() {
    head -c $((4096 * BLOCK)) /dev/urandom >/run/data
    dd if=/run/data of="$disk" bs=1M oflag=direct 2>/dev/null
    asked copy sg_xcopy if="$one" of="$other" bs=$BLOCK count=4096 skip=0 seek=1000 --verbose
    dd if="$other_disk" bs=$BLOCK skip=1000 count=4096 iflag=direct 2>/dev/null | cmp - /run/data || fail "the copy differs"
    asked copy_within sg_xcopy if="$one" of="$one" bs=$BLOCK count=100 skip=10 seek=8000
    dd if="$disk" bs=$BLOCK skip=8000 count=100 iflag=direct 2>/dev/null >/run/copied
    dd if=/run/data bs=$BLOCK skip=10 count=100 2>/dev/null | cmp - /run/copied || fail "the copy within differs"
}

# Two sessions are two I_T nexuses.
reservations() {
    iscsiadm -m session -r 1 --op new >/run/second || { cat /run/second; fail "no second session"; }
    wait_until both_appeared 2
    local stranger
    stranger=$(generic_of 2 0)
    asked capabilities sg_persist --in --report-capabilities "$one"
    told capabilities 'Persist Through Power Loss Capable(PTPL_C): 1'
    told capabilities 'Write Exclusive, all registrants: 1'
    asked register sg_persist --out --register --param-sark=0xabc "$one"
    asked reserve sg_persist --out --reserve --param-rk=0xabc --prout-type=3 "$one"
    asked keys sg_persist --in --read-keys "$stranger"
    told keys '0xabc'
    asked reservation sg_persist --in --read-reservation "$stranger"
    told reservation 'Exclusive Access'
    refused 24 sg_verify --lba=0 --count=1 "$stranger"
    ! dd if="$(block_of 2 0)" bs=$BLOCK count=1 iflag=direct of=/dev/null 2>/dev/null || fail "a stranger reads"
    asked ready sg_turs "$stranger"
    asked register_other sg_persist --out --register-ignore --param-sark=0xdef "$stranger"
    asked full_status sg_persist --in --read-full-status "$one"
    told full_status "$INITIATOR,i,0x"
    refused 24 sg_persist --out --release --param-rk=0xbad --prout-type=3 "$one"
    asked preempt sg_persist --out --preempt-abort --param-rk=0xdef --param-sark=0xabc --prout-type=5 "$stranger"
    sg_turs "$one" >/run/told 2>&1 || true
    asked keys sg_persist --in --read-keys "$one"
    told keys '0xdef'
    ! grep -q '0xabc' /run/keys || fail "the preempted is registered"
    refused 24 sg_unmap --force --lba=8 --num=8 "$one"
    asked verify sg_verify --lba=0 --count=1 "$one"
    asked clear sg_persist --out --clear --param-rk=0xdef "$stranger"
    sg_turs "$one" >/run/told 2>&1 || true
    asked unmap sg_unmap --force --lba=8 --num=8 "$one"
    iscsiadm -m session -r 2 -u >/dev/null
}

file_system() {
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$other_disk"
    mount -t ext4 "$other_disk" /mnt
    make_tree /mnt/tree
    list_tree /mnt/tree >/run/before
    umount /mnt
    iscsiadm -m session -r 1 -u >/dev/null
    iscsiadm -m node -T "$IQN" --op update -n node.conn[0].iscsi.HeaderDigest -v CRC32C
    iscsiadm -m node -T "$IQN" --op update -n node.conn[0].iscsi.DataDigest -v CRC32C
    iscsiadm -m node -T "$IQN" --login >/dev/null
    session=$(ls /sys/class/iscsi_session | sed -n 's/^session//p')
    wait_until both_appeared "$session"
    result header_digest "$(cat /sys/class/iscsi_connection/connection"$session":0/header_digest)"
    result data_digest "$(cat /sys/class/iscsi_connection/connection"$session":0/data_digest)"
    e2fsck -fn "$(block_of "$session" 1)" || fail "the file system is damaged"
    mount -t ext4 "$(block_of "$session" 1)" /mnt
    list_tree /mnt/tree >/run/after
    umount /mnt
    cmp /run/before /run/after || fail "another tree"
    result files "$(grep -c . /run/after)"
    iscsiadm -m node -T "$IQN" -u >/dev/null
}

iscsi_starts
discover
asked login iscsiadm -m node -T "$IQN" --login
wait_until both_appeared 1
one=$(generic 0) other=$(generic 1) disk=$(block_of 1 0) other_disk=$(block_of 1 1)
identify
blocks
copies
reservations
file_system
result kernel_errors "$(dmesg | grep -Ec 'EXT4-fs error|timed out' || true)"
