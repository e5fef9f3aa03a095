# Two portals under one dm-multipath device: one is cut off under I/O, the target behind the other is killed, and the volume
# grows meanwhile.
. ./lib.sh

login() {
    iscsiadm -m node -o new -T "$IQN" -p "$GATEWAY:$1,1" >/dev/null
    # A path that does not come back is given up after so many seconds.
    iscsiadm -m node -T "$IQN" -p "$GATEWAY:$1" --op update -n node.session.timeo.replacement_timeout -v 5
    iscsiadm -m node -T "$IQN" -p "$GATEWAY:$1" --login
}
appeared() { [ -n "$(block_of "$1" 0)" ]; }
number_of() { cat "/sys/block/${1#/dev/}/dev"; }
sectors() { cat "/sys/block/${1#/dev/}/size"; }
rescanned() {
    echo 1 >"/sys/block/${first#/dev/}/device/rescan"
    [ "$(sectors "$first")" = "$1" ]
}

# Direct I/O that notices a wrong block, until it is stopped.
work() {
    local round=0
    while [ ! -e /run/stop ]; do
        round=$((round + 1))
        head -c 262144 /dev/urandom >/run/round
        dd if=/run/round of=/dev/mapper/paths bs=65536 seek=512 oflag=direct 2>/dev/null || return 1
        dd if=/dev/mapper/paths of=/run/back bs=65536 skip=512 count=4 iflag=direct 2>/dev/null || return 1
        cmp /run/round /run/back || return 1
        echo $round >/run/rounds
    done
}
rounds() { cat /run/rounds 2>/dev/null || echo 0; }
goes_on_from() { [ "$(rounds)" -gt "$1" ] || [ ! -e "/proc/$worker" ]; }
# A path that was given up while the target was away is there again: what multipathd would see.
goes_on_again_from() {
    dmsetup message paths 0 "reinstate_path $(number_of "$first")"
    goes_on_from "$1"
}

iscsi_starts
modprobe -a dm-multipath dm-round-robin
login "$PORT"
wait_until appeared 1
login "$OTHER_PORT"
wait_until appeared 2
first=$(block_of 1 0) second=$(block_of 2 0)
result same_name "$([ "$(cat "/sys/block/${first#/dev/}/device/wwid")" = "$(cat "/sys/block/${second#/dev/}/device/wwid")" ] && echo 1)"
dmsetup create paths --noudevsync --table "0 $(sectors "$first") multipath 1 queue_if_no_path 0 1 1 round-robin 0 2 1 \
    $(number_of "$first") 100 $(number_of "$second") 100"
[ -e /dev/mapper/paths ] || dmsetup mknodes
work &
worker=$!
wait_until goes_on_from 3
phase both_work
before=$(rounds)
wait_until goes_on_from "$((before + 3))"
dmsetup status paths
result failed_paths "$(dmsetup status paths | grep -o ' F ' | grep -c .)"
phase one_is_cut
before=$(rounds)
wait_until goes_on_again_from "$((before + 3))"
phase target_was_killed
wait_until rescanned "$GROWN_SECTORS"
before=$(rounds)
wait_until goes_on_from "$((before + 2))"
touch /run/stop
wait "$worker" || fail "I/O failed"
result rounds "$(rounds)"
dmsetup remove --noudevsync paths
result size "$(sectors "$first")"
