# As hostile_nvme.sh, over iSCSI: the session is recovered in the place of a reset.
. ./lib.sh
. ./hostile.sh

login() {
    iscsiadm -m node -o new -T "$IQN" -p "$GATEWAY:$1,1" >/dev/null
    # No ping that a busy machine misses: what makes the connection anew shall be the case.
    iscsiadm -m node -T "$IQN" -p "$GATEWAY:$1" --op update -n 'node.conn[0].timeo.noop_out_interval' -v 0
    iscsiadm -m node -T "$IQN" -p "$GATEWAY:$1" --login
}
logout() {
    iscsiadm -m node -u >/dev/null
    iscsiadm -m node -o delete >/dev/null
}
device() { block_of '*' 0; }
lun_appeared() { [ -n "$(device)" ]; }
resets() { dmesg | grep -c 'detected conn error' || true; }

# What the logical unit says of itself.
one_format() {
    local name=$1 size=0 integrity=none ended=none disk
    phase "$name"
    login "$PORT" || true
    wait_briefly lun_appeared
    if lun_appeared; then
        disk=$(device)
        disk=${disk#/dev/}
        size=$(cat "/sys/block/$disk/size")
        integrity=$(cat "/sys/block/$disk/integrity/format" 2>/dev/null || echo none)
    fi
    if [ "$size" != 0 ]; then
        ended=late
        bounded read_from $READ_MIB 65536 /run/back && ended=$(as_ended)
        [ $ended != ok ] || cmp /run/back /run/known || fail "$name: wrong data came back"
    fi
    logout
    phase "$name-over"
    wait_until nothing_runs
    result "$name" "$size $integrity $ended"
    echo "guest: $name done at $(cut -d' ' -f1 /proc/uptime) s"
}

load_with_pi iscsi_tcp
iscsi_starts
login "$PORT"
wait_until lun_appeared
disk=$(device)
result generates "$(cat "/sys/block/${disk#/dev/}/integrity/write_generate")"
# A command that is never answered is given up after so many seconds.
echo "$IO_TIMEOUT" >"/sys/block/${disk#/dev/}/device/timeout"
all_cases
logout
for word in $FORMATS; do
    one_format "$word"
done
login "$HONEST_PORT"
wait_until lun_appeared
works
logout
wait_until unload iscsi_tcp
report_kernel
