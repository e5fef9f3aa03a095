# What the jobs share on hosts with the modules of kernel-patches/dkms and their tuples on the wire. Sourced after lib.sh: it loads the
# modules, and makes `connect bare|digests`, `disk` and `disconnect` those of $TRANSPORT (nvme or iscsi).

case $TRANSPORT in
    nvme)
        connect() {
            # shellcheck disable=SC2046 # The options are words.
            connect_all $(digest_options "$1")
        }
        modprobe nvme-tcp pi=1
        module=nvme_tcp
        ;;
    iscsi)
        connect() {
            local digest=None name
            [ "$1" = bare ] || digest=CRC32C
            iscsiadm -m node -o new -T "$IQN" -p "$GATEWAY:$PORT,1" >/dev/null
            for name in HeaderDigest DataDigest; do
                iscsiadm -m node -T "$IQN" -p "$GATEWAY:$PORT" --op update -n "node.conn[0].iscsi.$name" -v $digest
            done
            iscsiadm -m node -T "$IQN" -p "$GATEWAY:$PORT" --login
            wait_until disk_appeared
        }
        disk() {
            local path
            path=$(block_of '*' 0)
            echo "${path#/dev/}"
        }
        disconnect() { iscsiadm -m node -T "$IQN" -p "$GATEWAY:$PORT" --logout; }
        modprobe iscsi_tcp pi=1
        module=iscsi_tcp
        iscsi_starts
        ;;
esac

# describe_profile: what the modules are, and what the connected disk's block layer does, as results.
describe_profile() {
    local profile
    profile=/sys/block/$(disk)/integrity
    result version "$(cat /sys/module/$module/version)"
    result format "$(cat "$profile/format")"
    result interval "$(cat "$profile/protection_interval_bytes")"
    result generates "$(cat "$profile/write_generate")"
    result verifies "$(cat "$profile/read_verify")"
    # Every path was asked for aligned buffers, so the disk above them does.
    result alignment "$(cat "/sys/block/$(disk)/queue/dma_alignment")"
}

# report_kernel_errors: what the kernel has complained about since it was started.
report_kernel_errors() {
    result kernel_errors "$(dmesg | grep -Ec "$KERNEL_ERRORS|protection error|ref tag error|guard tag error")" || true
}
