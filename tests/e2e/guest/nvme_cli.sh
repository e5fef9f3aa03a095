# What an administrator asks with nvme-cli, and what the kernel goes through meanwhile: identify, log pages, features,
# commands of every kind, reset and disconnect under I/O, namespaces that come, grow and go.
. ./lib.sh

BLOCK=4096
controller() { echo "/dev/$(basename /sys/class/nvme/nvme*)"; }

# refused STATUS COMMAND...: the command must fail with this status (type and code), 285 say; above it nvme-cli shows
# whether to retry, and whether the error log has more.
refused() {
    local status=$1
    shift
    ! "$@" >/run/refused 2>&1 || fail "passed: $*"
    grep -Eqi "\(0x[246]?$status\)" /run/refused || { cat /run/refused; fail "not $status: $*"; }
    echo "--- $*: $status, as it should be"
}

# field KEY NAME: the value behind `NAME :` in an answer.
field() { awk -F: -v name="$2" '{ key = $1; gsub(/[ \t]+$/, "", key) } key == name { gsub(/[ \t]/, "", $2); print $2; exit }' "/run/$1"; }

# number KEY NAME: a number of an answer in JSON.
number() { sed -n "s/.*\"$2\" *: *\"\{0,1\}\([0-9]*\).*/\1/p" "/run/$1" | head -n1; }

block_is() { dd if="/dev/$1" of=/run/block bs=$BLOCK skip="$2" count=1 iflag=direct 2>/dev/null && cmp -s /run/block "$3"; }

# size_of NSID: bytes of the disk with this namespace identifier; nothing if there is none.
size_of() {
    local entry
    for entry in /sys/block/nvme*; do
        case ${entry##*/} in nvme*c*n*) continue ;; esac
        [ "$(cat "$entry/nsid" 2>/dev/null)" != "$1" ] || { echo "$(($(cat "$entry/size") * 512))"; return 0; }
    done
}
has_size() { [ "$(size_of "$1")" = "$2" ]; }
live() { [ "$(cat /sys/class/nvme/nvme*/state)" = live ]; }

identify() {
    asked id_ctrl nvme id-ctrl "$(controller)"
    for word in mdts oncs fuses vwc ver cntlid; do result "$word" "$(field id_ctrl $word)"; done
    asked id_ns nvme id-ns "$disk"
    for word in nsze flbas dps; do result "$word" "$(field id_ns $word)"; done
    asked ns_descs nvme ns-descs "$disk"
    grep -q "$UUID" /run/ns_descs || fail "the descriptors do not name the volume"
    asked list nvme list
    asked csts nvme get-property "$(controller)" -o 0x1c
    asked cap nvme get-property "$(controller)" -o 0
    asked supported nvme supported-log-pages "$(controller)"
    asked effects nvme effects-log "$(controller)"
    asked fid_effects nvme fid-support-effects-log "$(controller)"
    asked firmware nvme fw-log "$(controller)"
    asked changed nvme changed-ns-list-log "$(controller)"
    asked events nvme persistent-event-log "$(controller)" -a 1 -l 512
    asked events_end nvme persistent-event-log "$(controller)" -a 2
}

features() {
    local id
    # Arbitration, power, temperature, error recovery, write cache, queues, atomicity, events, keep alive, behavior.
    for id in 1 2 4 6 7 0xa 0xb 0xf 0x16; do
        asked "feature" nvme get-feature "$(controller)" -f $id -H
    done
    asked feature nvme get-feature "$disk" -f 5 -H
    # Interrupts are not for fabrics.
    refused 002 nvme get-feature "$(controller)" -f 8
    asked cache_off nvme set-feature "$(controller)" -f 6 -v 0
    asked cache nvme get-feature "$(controller)" -f 6
    result cache_off "$(sed -n 's/.*value: *//p' /run/cache)"
    asked cache_on nvme set-feature "$(controller)" -f 6 -v 1
}

commands() {
    head -c $((16 * BLOCK)) /dev/urandom >/run/data
    head -c $BLOCK /dev/urandom >/run/other
    head -c $BLOCK /dev/zero >/run/blank
    head -c $BLOCK /run/data >/run/first
    dd if=/run/data of="$disk" bs=$((16 * BLOCK)) oflag=direct 2>/dev/null
    asked compare nvme compare "$disk" -s 0 -c 0 -z $BLOCK -d /run/first
    refused 285 nvme compare "$disk" -s 0 -c 0 -z $BLOCK -d /run/other
    asked verify nvme verify "$disk" -s 0 -c 15
    asked flush nvme flush "$disk" -n 1
    asked copy nvme copy "$disk" -d 64 -s 0,8 -b 3,7
    block_is "$name" 64 /run/first || fail "the copy differs"
    dd if="$disk" bs=$BLOCK skip=68 count=8 iflag=direct 2>/dev/null >/run/copied
    dd if=/run/data bs=$BLOCK skip=8 count=8 2>/dev/null | cmp - /run/copied || fail "the second range differs"
    asked zeroes nvme write-zeroes "$disk" -s 64 -c 0
    block_is "$name" 64 /run/blank || fail "not zeroes"
    asked dsm nvme dsm "$disk" -d -s 65 -b 3
    block_is "$name" 65 /run/blank || fail "a deallocated block is not zeroes"
    asked uncorrectable nvme write-uncor "$disk" -s 100 -c 0
    refused 281 nvme read "$disk" -s 100 -c 0 -z $BLOCK -d /run/block
    asked rewrite nvme write "$disk" -s 100 -c 0 -z $BLOCK -d /run/other
    block_is "$name" 100 /run/other || fail "a rewritten block is not right"
    refused 080 nvme read "$disk" -s $((1 << 40)) -c 0 -z $BLOCK -d /run/block
}

# What was read and written since the last look is in the SMART log: units of 1000 sectors.
smart() {
    asked smart_before nvme smart-log "$(controller)" -o json
    dd if="$disk" of=/dev/null bs=1M count=64 iflag=direct 2>/dev/null
    dd if=/dev/zero of="$disk" bs=1M count=32 seek=64 oflag=direct 2>/dev/null
    asked smart_after nvme smart-log "$(controller)" -o json
    result units_read $(($(number smart_after data_units_read) - $(number smart_before data_units_read)))
    result units_written $(($(number smart_after data_units_written) - $(number smart_before data_units_written)))
    result reads $(($(number smart_after host_read_commands) - $(number smart_before host_read_commands)))
    result smart_errors "$(number smart_after num_err_log_entries)"
    asked errors nvme error-log "$(controller)" -e 4 -o json
    result last_error_count "$(number errors error_count)"
}

# Direct I/O that notices a wrong block, until it is stopped.
work() {
    local round=0
    while [ ! -e /run/stop ]; do
        round=$((round + 1))
        head -c 262144 /dev/urandom >/run/round
        dd if=/run/round of="$disk" bs=65536 seek=512 oflag=direct 2>/dev/null || return 1
        dd if="$disk" of=/run/back bs=65536 skip=512 count=4 iflag=direct 2>/dev/null || return 1
        cmp /run/round /run/back || return 1
        echo $round >/run/rounds
    done
}
rounds() { cat /run/rounds 2>/dev/null || echo 0; }
goes_on_from() { [ "$(rounds)" -gt "$1" ] || [ ! -e "/proc/$worker" ]; }

resets() {
    rm -f /run/stop /run/rounds
    work &
    worker=$!
    local before
    for _ in 1 2 3; do
        before=$(rounds)
        wait_until goes_on_from "$before"
        asked reset nvme reset "$(controller)"
        wait_until live
    done
    before=$(rounds)
    wait_until goes_on_from "$((before + 1))"
    touch /run/stop
    wait "$worker" || fail "I/O failed over a reset"
    result rounds "$(rounds)"
}

disconnect_under_load() {
    dd if=/dev/zero of="$disk" bs=65536 count=100000 oflag=direct 2>/dev/null &
    worker=$!
    usleep 300000
    disconnect
    ! wait "$worker" || fail "a write succeeded on a disk that is gone"
    [ -z "$(disk)" ] || fail "the disk is still there"
}

modprobe -a nvme-tcp
connect_all
name=$(disk)
disk=/dev/$name
identify
features
commands
smart
resets
phase alone
wait_until has_size 7 $((64 << 20))
phase added
wait_until has_size 7 $((96 << 20))
phase grown
wait_until has_size 7 ""
phase removed
[ "$(size_of 1)" -gt 0 ] || fail "the first namespace went with the second"
disconnect_under_load
connect_all
name=$(disk)
disk=/dev/$name
asked verify nvme verify "$disk" -s 0 -c 15
disconnect
result kernel_errors "$(dmesg | grep -Ec 'nvme.*(invalid|bogus|unsupported|failed)')" || true
