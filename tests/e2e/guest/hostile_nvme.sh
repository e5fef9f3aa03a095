# A host whose target misbehaves: once for each word NAME/OPERATION of $CASES, and once for each of $FORMATS. The test sets the rule of a
# case while we stand at its phase, and takes it away again. Whatever happens, a command ends within $BOUND seconds, and the honest target
# behind has what it should have.
. ./lib.sh
. ./hostile.sh

connect() {
    # No keep alive that a busy machine misses: what makes the connection anew shall be the case.
    nvme connect -t tcp -a "$GATEWAY" -s "$1" -n "$NQN" --ctrl-loss-tmo=-1 --reconnect-delay=1 --nr-io-queues=2 --keep-alive-tmo=120
}

device() { echo "/dev/$(disk)"; }
resets() { dmesg | grep -c 'starting error recovery' || true; }

sectors() { cat "/sys/block/$(disk)/size" 2>/dev/null || echo 0; }

# What a disk says of itself must not matter: we look whether it can be used, read it, and write it.
one_format() {
    local name=$1 size integrity ended=none
    phase "$name"
    connect "$PORT" || true
    # It may never become a disk.
    wait_briefly disk_appeared
    size=$(sectors)
    integrity=$(cat "/sys/block/$(disk)/integrity/format" 2>/dev/null || echo none)
    if [ "$size" != 0 ]; then
        ended=late
        bounded read_from $READ_MIB 65536 /run/back && ended=$(as_ended)
        [ $ended != ok ] || cmp /run/back /run/known || fail "$name: wrong data came back"
    fi
    disconnect
    phase "$name-over"
    wait_until nothing_runs
    result "$name" "$size $integrity $ended"
    echo "guest: $name done at $(cut -d' ' -f1 /proc/uptime) s"
}
# At an honest portal everything works.
honest() {
    connect "$HONEST_PORT"
    wait_until disk_appeared
    works
    disconnect
}

load_with_pi nvme-tcp
# A command that is never answered is given up after so many seconds.
echo "$IO_TIMEOUT" >/sys/module/nvme_core/parameters/io_timeout
connect "$PORT"
wait_until disk_appeared
result generates "$(cat "/sys/block/$(disk)/integrity/write_generate")"
all_cases
disconnect
# Commands that are tried again for ever end with the connection.
BOUND=$((BOUND / 6))
for word in $FORMATS; do
    one_format "$word"
done
honest
unload nvme_tcp
report_kernel
