//! Every limit of the device server, by name, with its reason. VPD page B0h tells most of them.

/// MAXIMUM TRANSFER LENGTH in bytes of data: what one command moves at most.
pub(crate) const TRANSFER_BYTES_MAX: u64 = 1 << 20;

/// Blocks of the longest transfer that is taken all the same, where no tuples are seen: as many as the short ones that
/// [`TRANSFER_BYTES_MAX`] has. SBC-4 §6.6.4 has anything above MAXIMUM TRANSFER LENGTH refused; but initiators move so many
/// blocks in one command whatever their length (libiscsi's suite does), and a pool has room for that.
pub(crate) const TRANSFER_BLOCKS_TAKEN: u32 = 2048;

/// What a block costs that is checked, looked at or made a hole without leaving the target, in bytes moved, as over NVMe: an
/// eighth of moving 4 KiB.
pub(crate) const BLOCK_COST: u64 = 512;

/// Longest COMPARE AND WRITE in blocks: its count has 8 bits.
pub(crate) const COMPARE_AND_WRITE_MAX: u32 = 255;

/// Most blocks of one UNMAP: long enough that a large disk is trimmed in few commands.
pub(crate) const UNMAP_BLOCKS_MAX: u32 = 1 << 20;

/// Most blocks of one WRITE SAME: what the 10-byte command can name. Initiators take it as leave to write so many otherwise if it
/// is more.
pub(crate) const WRITE_SAME_BLOCKS_MAX: u32 = 65_535;

/// Most descriptors of one UNMAP.
pub(crate) const UNMAP_DESCRIPTORS_MAX: u32 = 256;

/// Longest parameter list in bytes that a command brings: each is cut to what its command can use.
pub(crate) const LIST_LEN_MAX: usize = 16 * 1024;

/// Whole blocks in so many bytes.
pub(crate) fn blocks_in(bytes: u64, block_len: usize) -> u32 {
    let block_len = u64::try_from(block_len).unwrap_or(u64::MAX).max(1);
    u32::try_from(bytes / block_len).unwrap_or(u32::MAX)
}

/// Pieces of the longest transfer that GET LBA STATUS looks at for one answer, which may cover fewer blocks than there are: a
/// large blank disk fits one answer.
pub(crate) const STATUS_PIECES_MAX: u32 = 4096;

/// How many of them may hold blocks: on a disk these are read.
pub(crate) const STATUS_PIECES_READ_MAX: u32 = 16;

/// Most descriptors of an answer to GET LBA STATUS: 4 KiB.
pub(crate) const STATUS_DESCRIPTORS_MAX: usize = 256;
