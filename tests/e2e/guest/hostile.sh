# What jobs with hostile targets share. Each has `device`, which names the disk, and `resets`: how often the connection was made anew.

READ_MIB=16
WRITE_MIB=20
NEW_MIB=24

# load_with_pi MODULE: with protection information. A kernel that has it built in was told on its command line.
load_with_pi() {
    # What the kernel said before is not about us: it may complain of a busy machine.
    dmesg -c >/dev/null
    if [ -d "/lib/modules/$(uname -r)" ]; then
        modprobe "$1" pi=1
    fi
    [ "$(cat "/sys/module/$(echo "$1" | tr - _)/parameters/pi")" = Y ] || fail "$1 carries no protection information"
}

# unload MODULE: nothing holds it any more.
unload() {
    [ ! -d "/lib/modules/$(uname -r)" ] || rmmod "$1"
}

# bounded COMMAND...: its status is left in /run/status; fails when it has not ended in time.
bounded() {
    local waited=0
    rm -f /run/status
    { if "$@"; then echo 0; else echo $?; fi >/run/ended && mv /run/ended /run/status; } 2>/run/errors &
    until [ -s /run/status ]; do
        usleep 100000
        waited=$((waited + 1))
        [ $waited -lt $((BOUND * 10)) ] || return 1
    done
}

# as_ended: how the last bounded command ended.
as_ended() {
    case $(cat /run/status) in
        0) echo ok ;;
        *) echo failed ;;
    esac
}

read_from() { dd if="$(device)" of="$3" bs="$2" skip=$(($1 * 1048576 / $2)) count=$((1048576 / $2)) iflag=direct; }
write_to() { dd if=/run/new of="$(device)" bs="$2" seek=$(($1 * 1048576 / $2)) count=$((1048576 / $2)) oflag=direct; }

# operation WORD: a MiB in commands of that size.
operation() {
    case $1 in
        read) read_from $READ_MIB 65536 /run/back ;;
        read-large) read_from $READ_MIB 1048576 /run/back ;;
        write) write_to $WRITE_MIB 65536 ;;
        write-large) write_to $WRITE_MIB 1048576 ;;
        write-small) write_to $WRITE_MIB 4096 ;;
    esac
}

# one_case NAME OPERATION
one_case() {
    local name=$1 before ended
    head -c 1048576 /dev/urandom >/run/new
    before=$(resets)
    phase "$name"
    bounded operation "$2" || fail "$name: has not ended"
    ended=$(as_ended)
    # What the rule did is over before the next begins.
    phase "$name-over"
    case $2/$ended in
        read*/ok) cmp /run/back /run/known || fail "$name: wrong data came back" ;;
        write*/ok)
            read_from $WRITE_MIB 1048576 /run/back 2>/dev/null || fail "$name: cannot be read back"
            cmp /run/back /run/new || fail "$name: wrong data was written" ;;
    esac
    bounded operation "$2" && [ "$(as_ended)" = ok ] || fail "$name: nothing works any more"
    result "$name" "$ended $(($(resets) - before))"
    echo "guest: $name done at $(cut -d' ' -f1 /proc/uptime) s"
}

# all_cases: each word NAME/OPERATION of $CASES, on a disk that is there.
all_cases() {
    local word
    head -c 1048576 /dev/urandom >/run/known
    dd if=/run/known of="$(device)" bs=1048576 seek=$READ_MIB oflag=direct 2>/dev/null
    for word in $CASES; do
        one_case "${word%/*}" "${word#*/}"
    done
}

# works: what is written comes back.
works() {
    head -c 1048576 /dev/urandom >/run/new
    write_to $NEW_MIB 65536 2>/dev/null
    read_from $NEW_MIB 65536 /run/back 2>/dev/null
    cmp /run/back /run/new || fail "something else came back"
}

wait_briefly() {
    local tries=0
    until "$@" || [ $tries -ge 40 ]; do
        usleep 50000
        tries=$((tries + 1))
    done
}
nothing_runs() { ! pidof dd >/dev/null; }

# What a kernel says of its own mistakes.
REPORTS='BUG:|WARNING:|Oops|KASAN:|general protection|blocked for more than|rcu: INFO|corruption|refcount_t:|ODEBUG:|kmemleak: [0-9]+ new'

report_kernel() {
    if mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null && [ -e /sys/kernel/debug/kmemleak ]; then
        # Twice: the first look may find what was just being handed over.
        echo scan >/sys/kernel/debug/kmemleak
        sleep 6
        echo scan >/sys/kernel/debug/kmemleak
        cat /sys/kernel/debug/kmemleak
        result leaks "$(grep -c 'unreferenced object' /sys/kernel/debug/kmemleak)" || true
    fi
    result reports "$(dmesg | grep -Ec "$REPORTS")" || true
    dmesg | grep -E "$REPORTS" || true
}
