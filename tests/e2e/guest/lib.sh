# What the jobs share. Sourced by each job; `variables.sh` holds what the test set. Runs under `sh -eu`.
. ./variables.sh

# --- talking to the test: descriptor 7 is the control channel

result() {
    echo "RESULT $1=$2" >&7
    echo "guest: $1=$2"
}

# phase NAME: waits until the test lets us go on; what it tells us then is $told.
phase() {
    local answer
    echo "guest: phase $1"
    echo "PHASE $1" >&7
    read -r answer told <&7
    [ "$answer" = GO ]
}

fail() {
    echo "guest: FAILED: $*"
    exit 1
}

# wait_until COMMAND...: for what is bound to become true; the guest's own time limit bounds it.
wait_until() {
    until "$@"; do usleep 50000; done
}

# asked KEY COMMAND...: the answer goes to the console and to /run/KEY; a failure ends the job.
asked() {
    local key=$1 status=0
    shift
    "$@" >"/run/$key" 2>&1 || status=$?
    echo "--- $*"
    cat "/run/$key"
    [ $status = 0 ] || fail "$*: status $status"
}

# load MODULE...: a kernel that was built for the guest has everything built in, and knows no modules.
load() { [ ! -d "/lib/modules/$(uname -r)" ] || modprobe -a "$@"; }

# What the kernel says when the disk or the file system let it down (and not when a path is being recovered).
KERNEL_ERRORS='I/O error|EXT4-fs (error|warning)|XFS.*([Ee]rror|[Cc]orrupt)|Buffer I/O'

# --- NVMe

# discover_subsystem: the discovery log must name the subsystem $NQN, at the address that we can reach.
discover_subsystem() {
    nvme discover -t tcp -a "$GATEWAY" -s "$PORT" | tee /run/discovery
    grep -qxF "subnqn:  $NQN" /run/discovery || fail "the discovery log does not name $NQN"
    grep -qxF "traddr:  $GATEWAY" /run/discovery || fail "the discovery log names another address"
    grep -qxF "trsvcid: $PORT" /run/discovery || fail "the discovery log names another port"
}

# connect_all OPTIONS...: connects to what the discovery log names. The controller is never given up.
connect_all() {
    nvme connect-all -t tcp -a "$GATEWAY" -s "$PORT" --ctrl-loss-tmo=-1 --reconnect-delay=1 "$@"
    wait_until disk_appeared
}

disconnect() {
    nvme disconnect -n "$NQN"
}

disk_appeared() { [ -n "$(disk)" ]; }

# disk: the name of the volume's disk (nvme0n1), found by the volume's UUID. A kernel's own number of a disk follows
# neither the namespace's nor the controller's.
disk() {
    local entry
    for entry in /sys/block/nvme*; do
        case ${entry##*/} in nvme*c*n*) continue ;; esac
        [ "$(cat "$entry/uuid" 2>/dev/null)" != "$UUID" ] || { echo "${entry##*/}"; return 0; }
    done
}

# --- iSCSI

# iscsi_starts: the initiator $INITIATOR is ready to log in.
iscsi_starts() {
    load crc32c_generic iscsi_tcp sd_mod sg ext4
    mkdir -p /run/lock/iscsi
    echo "InitiatorName=$INITIATOR" >/etc/iscsi/initiatorname.iscsi
    iscsid -f >/run/iscsid.log 2>&1 &
    wait_until grep -q ISCSIADM_ABSTRACT_NAMESPACE /proc/net/unix
}

# block_of SESSION LUN: the disk of a logical unit in a session of the initiator, `*` for any; nothing while there is none.
block_of() {
    local entry
    # shellcheck disable=SC2231 # The session may be a pattern.
    for entry in /sys/class/iscsi_session/session$1/device/target*/*:"$2"/block/*; do
        [ ! -e "$entry" ] || echo "/dev/${entry##*/}"
    done
}

# --- accounting: what this guest wrote and read, over several connections

# The kernel's statistics of a disk count what moves no data too: Write Zeroes as writes, and commands that come from the driver or a
# program. A trace of completed requests tells them apart (their letter is N); requests of admin queues belong to no disk.
TRACE=/sys/kernel/tracing/events/block/block_rq_complete

start_accounting() { echo 'hist:keys=rwbs:vals=nr_sector if dev != 0' >$TRACE/trigger; }

report_accounts() {
    cat $TRACE/hist
    result sectors_written "$(sectors_of W)"
    result sectors_read "$(sectors_of R)"
}

# sectors_of LETTER: of all requests whose `rwbs` begins so.
sectors_of() {
    sed -n "s/^{ rwbs: $1[A-Z]* *}.*nr_sector: *\([0-9]*\).*/\1/p" $TRACE/hist |
        awk '{ total += $1 } END { print total + 0 }'
}

# --- file systems

# make_file_system ext4|xfs: everything is written now rather than in the background after the mount.
make_file_system() {
    case $1 in
        ext4) mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "/dev/$(disk)" ;;
        xfs) mkfs.xfs -q -f "/dev/$(disk)" ;;
    esac
}

check_file_system() {
    case $1 in
        ext4) e2fsck -fn "/dev/$(disk)" ;;
        xfs) xfs_repair -n "/dev/$(disk)" ;;
    esac
}

# --- trees of files

# make_tree DIRECTORY: files of many sizes, some rewritten, moved, linked, cut, with holes, or written past the cache.
make_tree() {
    local root=$1 folder size
    for folder in 1 2 3 4 5 6; do
        mkdir -p "$root/$folder/below"
        for size in 0 1 511 512 513 4095 4096 4097 12288 65535 70001 300000 1048577; do
            head -c "$size" /dev/urandom >"$root/$folder/$size"
        done
        head -c 200000 /dev/urandom >"$root/$folder/moved-later"
        mv "$root/$folder/moved-later" "$root/$folder/below/moved"
        ln "$root/$folder/4097" "$root/$folder/below/linked"
        ln -s ../4096 "$root/$folder/below/pointing"
        head -c 50000 /dev/urandom >>"$root/$folder/12288"
        rm "$root/$folder/513"
        truncate -s 100000 "$root/$folder/300000"
    done
    sync
    # Rewritten in the middle, at a place that cuts blocks; with a hole; around the cache.
    dd if=/dev/urandom of="$root/1/1048577" bs=1000 seek=77 count=300 conv=notrunc 2>/dev/null
    dd if=/dev/urandom of="$root/holes" bs=4096 seek=1000 count=10 2>/dev/null
    dd if=/dev/urandom of=/run/random bs=1048576 count=6 2>/dev/null
    xfs_io -f -d -c 'pwrite -q -b 1m -i /run/random 0 6m' "$root/direct"
    rm /run/random
}

# list_tree DIRECTORY: contents and shapes, in an order that does not depend on the file system.
list_tree() {
    (cd "$1" && find . -path ./lost+found -prune -o -type f -print | sort | xargs sha256sum)
    (cd "$1" && find . -path ./lost+found -prune -o ! -type d -exec stat -c '%n %F %s %h' {} + | sort)
}

# digest_options bare|digests: what connect_all is told.
digest_options() {
    case $1 in
        bare) ;;
        digests) echo --hdr-digest --data-digest ;;
    esac
}

# tree_round FILESYSTEM WIRE: make the file system, write a tree, unmount, disconnect, connect again with the job's `connect WIRE`, and
# find the tree unchanged and the file system clean.
tree_round() {
    local file_system=$1 wire=$2
    connect "$wire"
    make_file_system "$file_system"
    mount -t "$file_system" "/dev/$(disk)" /mnt
    make_tree /mnt
    list_tree /mnt >/run/before
    umount /mnt
    disconnect

    connect "$wire"
    mount -t "$file_system" "/dev/$(disk)" /mnt
    list_tree /mnt | cmp - /run/before || fail "$file_system ($wire): the tree has changed"
    umount /mnt
    check_file_system "$file_system" || fail "$file_system ($wire): the file system is not clean"
    disconnect
}
