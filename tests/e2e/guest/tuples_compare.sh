# For each wire (bare, digests), way (direct, buffered) and piece: $BLOCKS blocks from $FIRST on are written with a pattern of their own
# and read back; then the test looks at them, too.
. ./lib.sh
. ./patched.sh

chmod +x pattern
seed=0
for wire in bare digests; do
    connect $wire
    [ $seed != 0 ] || describe_profile
    for way in direct buffered; do
        for piece in 4096 65536 1048576; do
            seed=$((seed + 1))
            ./pattern write $way "/dev/$(disk)" $seed "$FIRST" "$BLOCKS" $piece
            echo 3 >/proc/sys/vm/drop_caches
            ./pattern check $way "/dev/$(disk)" $seed "$FIRST" "$BLOCKS" $piece
            echo "guest: $wire $way $piece done at $(cut -d' ' -f1 /proc/uptime) s"
            phase written
        done
    done
    disconnect
done
report_kernel_errors
