# Does what it is told, one line after another, until that is `end`:
#
#   WIRE WAY PIECE SEED BLOCKS   so many blocks from $FIRST on are written with a pattern of their own and read back, over a wire that is
#                                bare or has digests, past the page cache (direct) or through it (buffered), PIECE bytes at a time
. ./lib.sh
. ./patched.sh

cell() {
    local way=$2 piece=$3 seed=$4 blocks=$5
    if [ "$wire" != "$1" ]; then
        [ "$wire" = none ] || disconnect
        wire=$1
        connect "$wire"
    fi
    ./pattern write "$way" "/dev/$(disk)" "$seed" "$FIRST" "$blocks" "$piece"
    echo 3 >/proc/sys/vm/drop_caches
    ./pattern check "$way" "/dev/$(disk)" "$seed" "$FIRST" "$blocks" "$piece"
    echo "guest: $* done at $(cut -d' ' -f1 /proc/uptime) s"
}

chmod +x pattern
wire=none
while phase ready && [ "$told" != end ]; do
    # shellcheck disable=SC2086 # What we are told are words.
    cell $told
done
describe_profile
disconnect
report_kernel_errors
