# A host with all patches and one disk in the PI view, over $TRANSPORT (nvme or iscsi). It does what it is told, one line after another:
#
#   cell POLICY FILE_SYSTEM LOAD GOAL SECONDS   provoke writes after checksums, until GOAL is reached (`error`: a guard error; a
#                                               number: that many blocks written) or the time is over
#   leave                                       unmount what the cells before have used
#   cost POLICY LOAD SECONDS                    how much of LOAD is done on ext4, each second
#   end
#
# FILE_SYSTEM: ext4, ext4-without-journal, xfs, btrfs, raw.
. ./lib.sh

# One run of wac before it is asked again whether the goal is reached, in seconds.
PIECE=1
# What the file systems are made in: small, so that making them takes no time.
BLOCKS=40000

main() {
    chmod +x wac
    attach
    result format "$(cat "/sys/block/$name/integrity/format")"
    while phase ready && [ "$told" != end ]; do
        # shellcheck disable=SC2086 # What we are told are words.
        $told
    done
    leave
    # File systems warn of buffers whose write has failed, as red cells have it: only warnings from the block layer downwards count.
    result complaints "$(dmesg | grep -E 'BUG|Oops|blocked for more than|WARNING: .* at (block|drivers)/' | head -n 3 | tr '\n' ' ')"
}

# attach: the disk is $name, its paths are $paths.
attach() {
    case $TRANSPORT in
        nvme)
            connect_all
            name=$(disk)
            paths=$(cd /sys/block && echo nvme*c*n*)
            [ -e "/sys/block/$paths" ] || paths=$name
            ;;
        iscsi)
            iscsi_starts
            iscsiadm -m node -o new -T "$IQN" -p "$GATEWAY:$PORT,1" >/dev/null
            iscsiadm -m node -T "$IQN" -p "$GATEWAY:$PORT" --login
            wait_until unit_appeared
            name=$(block_of '*' 0)
            name=${name#/dev/}
            paths=$name
            ;;
    esac
}

unit_appeared() { [ -n "$(block_of '*' 0)" ]; }

# policy WORD: of the disk and of its paths.
policy() {
    local entry
    for entry in $name $paths; do echo "$1" >"/sys/block/$entry/integrity/write_policy"; done
}

# The policy while the file system is made: one under which nothing goes wrong, and which makes tuples if the cell's does.
policy_before() {
    case $1 in
        none) policy none ;;
        *) policy stable-pages ;;
    esac
}

guard_errors() { cat "/sys/block/$paths/integrity/stats" | awk '$1 == "guard_errors" { print $2 }'; }

# Blocks of 4096 bytes written to the disk so far.
written() { awk '{ print int($7 / 8) }' "/sys/block/$paths/stat"; }

# use FILE_SYSTEM POLICY: a new one, mounted under this policy, unless it is there and nothing has gone wrong with it. A file system keeps to
# the policy under which it was mounted.
use() {
    [ "${used:-}" != "$1 $2" ] || return 0
    leave
    policy_before "$2"
    make_small "$1"
    policy "$2"
    [ "$1" = raw ] || mount -t "${1%-without-journal}" "/dev/$name" /mnt
    used="$1 $2"
}

# What is written at the end is no part of any cell: it comes with tuples, whatever was asked for.
leave() {
    policy stable-pages
    case ${used:-raw} in raw*) ;; *) umount /mnt || umount -l /mnt ;; esac
    used=
}

make_small() {
    case $1 in
        ext4) mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "/dev/$name" $BLOCKS ;;
        ext4-without-journal) mkfs.ext4 -q -F -O ^has_journal -E nodiscard,lazy_itable_init=0 "/dev/$name" $BLOCKS ;;
        xfs) mkfs.xfs -q -f -K "/dev/$name" ;;
        btrfs) mkfs.btrfs -q -f -K "/dev/$name" >/dev/null ;;
        raw) ;;
    esac
}

# options LOAD: of wac.
options() {
    case $1 in
        [A-F]) echo "-C $1" ;;
        buffer-changed) echo "-w 4 -d -b" ;;
        churn) echo "-c 4" ;;
        random-direct) echo "-w 4 -d -s 32M" ;;
    esac
}

# place FILE_SYSTEM LOAD: what wac works on.
place() {
    case $1/$2 in
        raw/*) echo "--device /dev/$name" ;;
        */churn) echo /mnt ;;
        *) echo /mnt/file ;;
    esac
}

cell() {
    local words=$1 file_system=$2 load=$3 goal=$4 seconds=$5 before errors start end begun
    before=$(written) errors=$(guard_errors)
    use "$file_system" "$words"
    start=$(now) begun=$(written)
    end=$((start + seconds * 100))
    : >/run/wac
    until reached "$goal" "$errors" "$begun" || [ "$(now)" -ge $end ]; do
        # A file remembers errors that nobody has asked for yet.
        rm -f /mnt/file
        # shellcheck disable=SC2046 # Words. What wac finds is no failure of this job.
        ./wac $(options "$load") -t $PIECE $(place "$file_system" "$load") >>/run/wac 2>>/run/wac.errors || [ $? = 3 ] || break
    done
    result hundredths $(($(now) - start))
    sync
    [ "$(guard_errors)" = "$errors" ] || leave
    result operations "$(sum operations)"
    result io_errors "$(sum errors)"
    result errors "$(sed 's/.*"errors":{\(.*\)}}$/\1/' /run/wac | tr '\n' ' ')"
    result runs "$(grep -c . /run/wac)" || true
    result guard_errors $(($(guard_errors) - errors))
    result written $(($(written) - before))
    result loaded $(($(written) - begun))
}

# reached GOAL ERRORS BEGUN
reached() {
    case $1 in
        error) [ "$(guard_errors)" -gt "$2" ] ;;
        *) [ $(($(written) - $3)) -ge "$1" ] ;;
    esac
}

# Hundredths of seconds.
now() { awk '{ print int($1 * 100) }' /proc/uptime; }

# sum SECTION: of all numbers in this object of the lines in /run/wac.
sum() {
    sed "s/.*\"$1\":{\([^}]*\)}.*/\1/" /run/wac | tr ',' '\n' | awk -F: '{ total += $2 } END { print total + 0 }'
}

cost() {
    local words=$1 load=$2 seconds=$3
    use ext4 "$words"
    case $load in
        sequential) pieces_in_time "$seconds" ;;
        sequential-direct) pieces_in_time "$seconds" -d ;;
        *)
            # shellcheck disable=SC2046 # Words.
            ./wac $(options "$load") -t "$seconds" /mnt/file >/run/wac
            result per_second "$(sed 's/^{"seconds":\([0-9.]*\),"bytes":\([0-9]*\).*/\1 \2/' /run/wac |
                awk '{ print int($2 / $1) }')"
            ;;
    esac
    leave
}

# pieces_in_time SECONDS [OPTION]: 32 MiB written and synchronised again and again, in pieces of 1 MiB.
pieces_in_time() {
    local start end count=0
    start=$(now)
    end=$((start + $1 * 100))
    shift
    while [ "$(now)" -lt $end ]; do
        xfs_io -f "$@" -c 'pwrite -q -b 1m 0 32m' -c fsync /mnt/file
        count=$((count + 1))
    done
    result per_second $((count * 32 * 1048576 * 100 / ($(now) - start)))
}

main
