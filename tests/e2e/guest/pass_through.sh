# Reads and writes one block with its tuple by NVMe pass-through, past the kernel's block layer.
# NVM Command Set 1.1, Read and Write: LBA in CDW10/11; PRACT (29), PRCHK guard (28), application (27), reference
# (26) in CDW12; the expected initial reference tag in CDW14; application tag and mask in CDW15.
. ./lib.sh

BLOCK=4096
TUPLE=8
PRACT=$((1 << 29))
CHECK_ALL=$((7 << 26))
CHECK_NONE=0

# transfer read|write LBA LENGTH PRINFO: one command on one block; data to or from the files read.bin and write.bin.
transfer() {
    local direction=$1 lba=$2 length=$3 prinfo=$4 opcode=2
    [ "$direction" = read ] || opcode=1
    set -- --namespace-id=1 --opcode=$opcode --data-len="$length" --timeout=60000 \
        --cdw10="$lba" --cdw12="$prinfo" --cdw14="$lba" --cdw15=$((0xffff << 16 | APPLICATION_TAG))
    if [ "$direction" = read ]; then
        nvme io-passthru "$device" "$@" --read --raw-binary >/run/read.bin 2>/run/answer
    else
        nvme io-passthru "$device" "$@" --write --input-file=/run/write.bin >/run/answer 2>&1
    fi
}

must() { transfer "$@" || { cat /run/answer; fail "$*"; }; }

modprobe nvme-tcp
connect_all
name=$(disk)
device=/dev/ng${name#nvme}
nvme id-ns "/dev/$name" | grep -E '^(flbas|dps|mc) '

# Our tuple goes in and comes back, all three tags checked both times.
cp good.bin /run/write.bin
must write "$LBA" $((BLOCK + TUPLE)) $CHECK_ALL
must read "$LBA" $((BLOCK + TUPLE)) $CHECK_ALL
cmp /run/read.bin good.bin || fail "the block came back changed"
result tuple "$(tail -c $TUPLE /run/read.bin | xxd -p)"

# With PRACT=1 the controller checks the tuple and keeps it.
must read "$LBA" $BLOCK $((PRACT | CHECK_ALL))
head -c $BLOCK good.bin | cmp - /run/read.bin || fail "the stripped block came back changed"

# A bad guard that is to be checked is refused, and nothing of it is stored.
cp bad.bin /run/write.bin
! transfer write "$LBA" $((BLOCK + TUPLE)) $CHECK_ALL || fail "a bad guard was taken"
cat /run/answer
result refused_status "$(sed -n 's/.*(\(0x[0-9a-f]*\)).*/\1/p' /run/answer)"
must read "$LBA" $((BLOCK + TUPLE)) $CHECK_ALL
cmp /run/read.bin good.bin || fail "the refused write left something behind"

# The same block is stored as it came when no check is asked for.
must write $((LBA + 1)) $((BLOCK + TUPLE)) $CHECK_NONE
must read $((LBA + 1)) $((BLOCK + TUPLE)) $CHECK_NONE
cmp /run/read.bin bad.bin || fail "the unchecked block came back changed"
disconnect
