# What jobs with hostile targets share.

# load_with_pi MODULE: with protection information. A kernel that has it built in was told on its command line.
load_with_pi() {
    if [ -d "/lib/modules/$(uname -r)" ]; then
        modprobe "$1" pi=1
    fi
    [ "$(cat "/sys/module/$(echo "$1" | tr - _)/parameters/pi")" = Y ] || fail "$1 carries no protection information"
}

# unload MODULE: nothing holds it any more.
unload() {
    [ ! -d "/lib/modules/$(uname -r)" ] || rmmod "$1"
}

# What a kernel says of its own mistakes.
REPORTS='BUG|WARNING|Oops|KASAN|general protection|blocked for more than|lockdep|corruption|refcount_t|sleeping function|ODEBUG|unreferenced object'

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
