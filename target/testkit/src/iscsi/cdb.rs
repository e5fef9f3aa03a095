//! Command descriptor blocks. SBC-4 §5 "Commands for direct access block devices", SPC-4 §6.

/// A command on the medium that comes in several lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Op {
    Read,
    Write,
    WriteAndVerify,
    Verify,
    WriteSame,
}

/// OPERATION CODE with 6, 10, 12 and 16 bytes (0: there is none), and the SERVICE ACTION with 32 bytes.
type Codes = (u8, u8, u8, u8, u16);

impl Op {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::WriteAndVerify, Self::Verify, Self::WriteSame];

    fn codes(self) -> Codes {
        match self {
            Self::Read => (0x08, 0x28, 0xa8, 0x88, 0x09),
            Self::Write => (0x0a, 0x2a, 0xaa, 0x8a, 0x0b),
            Self::Verify => (0, 0x2f, 0xaf, 0x8f, 0x0a),
            Self::WriteAndVerify => (0, 0x2e, 0xae, 0x8e, 0x0c),
            Self::WriteSame => (0, 0x41, 0, 0x93, 0x0d),
        }
    }
}

/// Fields of a command on the medium. Values that do not fit a CDB are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Medium {
    /// LOGICAL BLOCK ADDRESS.
    pub lba: u64,
    /// TRANSFER LENGTH, VERIFICATION LENGTH or NUMBER OF LOGICAL BLOCKS.
    pub blocks: u32,
    /// RDPROTECT, WRPROTECT or VRPROTECT: bits 7 to 5 of the flags.
    pub protect: u8,
    /// The other bits of the flags: DPO 10h, FUA 08h, BYTCHK 06h, UNMAP 08h, NDOB 01h …
    pub flags: u8,
    /// GROUP NUMBER.
    pub group: u8,
    /// EXPECTED INITIAL LOGICAL BLOCK REFERENCE TAG (32 bytes).
    pub ref_tag: u32,
    /// EXPECTED LOGICAL BLOCK APPLICATION TAG (32 bytes).
    pub app_tag: u16,
    /// LOGICAL BLOCK APPLICATION TAG MASK (32 bytes).
    pub app_mask: u16,
}

impl Medium {
    /// These blocks.
    #[must_use]
    pub fn at(lba: u64, blocks: u32) -> Self {
        Self { lba, blocks, ..Self::default() }
    }

    /// With this value of the protect field, 0 to 7.
    #[must_use]
    pub fn protect(self, protect: u8) -> Self {
        Self { protect, ..self }
    }

    /// With these other flags.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    /// With these expected tags (32 bytes).
    #[must_use]
    pub fn tags(self, ref_tag: u32, app_tag: u16, app_mask: u16) -> Self {
        Self { ref_tag, app_tag, app_mask, ..self }
    }

    /// READ (6) or WRITE (6): 21 bits of address, 8 of length.
    #[must_use]
    pub fn cdb6(&self, op: Op) -> Vec<u8> {
        let [_, high, mid, low] = low32(self.lba).to_be_bytes();
        let [.., count] = self.blocks.to_be_bytes();
        vec![op.codes().0, high & 0x1f, mid, low, count, 0]
    }

    /// The 10-byte command.
    #[must_use]
    pub fn cdb10(&self, op: Op) -> Vec<u8> {
        let [.., high, low] = self.blocks.to_be_bytes();
        let lba = low32(self.lba).to_be_bytes();
        [&[op.codes().1, self.first_flags()][..], &lba, &[self.group, high, low, 0]].concat()
    }

    /// The 12-byte command.
    #[must_use]
    pub fn cdb12(&self, op: Op) -> Vec<u8> {
        let lba = low32(self.lba).to_be_bytes();
        let blocks = self.blocks.to_be_bytes();
        [&[op.codes().2, self.first_flags()][..], &lba, &blocks, &[self.group, 0]].concat()
    }

    /// The 16-byte command.
    #[must_use]
    pub fn cdb16(&self, op: Op) -> Vec<u8> {
        let (lba, blocks) = (self.lba.to_be_bytes(), self.blocks.to_be_bytes());
        [&[op.codes().3, self.first_flags()][..], &lba, &blocks, &[self.group, 0]].concat()
    }

    /// The 32-byte command.
    #[must_use]
    pub fn cdb32(&self, op: Op) -> Vec<u8> {
        let [high, low] = op.codes().4.to_be_bytes();
        let head = [0x7f, 0, 0, 0, 0, 0, self.group, 0x18, high, low, self.first_flags(), 0];
        let tags = [self.app_tag.to_be_bytes(), self.app_mask.to_be_bytes()].concat();
        [&head[..], &self.lba.to_be_bytes(), &self.ref_tag.to_be_bytes(), &tags, &self.blocks.to_be_bytes()]
            .concat()
    }

    /// COMPARE AND WRITE: the data is what is expected, followed by what is to be written.
    #[must_use]
    pub fn compare_and_write(&self) -> Vec<u8> {
        let [.., count] = self.blocks.to_be_bytes();
        [&[0x89, self.first_flags()][..], &self.lba.to_be_bytes(), &[0, 0, 0, count, self.group, 0]].concat()
    }

    fn first_flags(&self) -> u8 {
        self.protect << 5 | self.flags
    }
}

fn low32(lba: u64) -> u32 {
    u32::try_from(lba & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// TEST UNIT READY.
#[must_use]
pub fn test_unit_ready() -> Vec<u8> {
    vec![0; 6]
}

/// REQUEST SENSE, 252 bytes; `descriptor` asks for that format.
#[must_use]
pub fn request_sense(descriptor: bool) -> Vec<u8> {
    vec![0x03, u8::from(descriptor), 0, 0, 252, 0]
}

/// INQUIRY for the standard data.
#[must_use]
pub fn inquiry(len: u16) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    vec![0x12, 0, 0, high, low, 0]
}

/// INQUIRY for a vital product data page.
#[must_use]
pub fn vital_page(page: u8, len: u16) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    vec![0x12, 1, page, high, low, 0]
}

/// READ CAPACITY (16).
#[must_use]
pub fn read_capacity16(len: u32) -> Vec<u8> {
    [&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0][..], &len.to_be_bytes(), &[0, 0]].concat()
}

/// REPORT LUNS, all but well-known ones.
#[must_use]
pub fn report_luns(len: u32) -> Vec<u8> {
    [&[0xa0, 0, 0, 0, 0, 0][..], &len.to_be_bytes(), &[0, 0]].concat()
}

/// MODE SENSE (10) for the current values of a page, without block descriptors.
#[must_use]
pub fn mode_sense10(page: u8, subpage: u8, len: u16) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    vec![0x5a, 0x08, page & 0x3f, subpage, 0, 0, 0, high, low, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Medium = Medium {
        lba: 0x0102_0304,
        blocks: 0x0506,
        protect: 5,
        flags: 0x18,
        group: 3,
        ref_tag: 0x1112_1314,
        app_tag: 0x2122,
        app_mask: 0x3132,
    };

    #[test]
    fn fields_are_where_the_standard_has_them() {
        assert_eq!(HERE.cdb6(Op::Read), [0x08, 2, 3, 4, 6, 0]);
        assert_eq!(HERE.cdb10(Op::Write), [0x2a, 0xb8, 1, 2, 3, 4, 3, 5, 6, 0]);
        assert_eq!(HERE.cdb12(Op::Verify), [0xaf, 0xb8, 1, 2, 3, 4, 0, 0, 5, 6, 3, 0]);
        assert_eq!(HERE.cdb16(Op::WriteSame), [0x93, 0xb8, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 3, 0]);
        assert_eq!(HERE.compare_and_write(), [0x89, 0xb8, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 6, 3, 0]);
    }

    #[test]
    fn the_long_command_carries_the_expected_tags() {
        let cdb = HERE.cdb32(Op::WriteAndVerify);
        assert_eq!(cdb[..12], [0x7f, 0, 0, 0, 0, 0, 3, 0x18, 0, 0x0c, 0xb8, 0]);
        assert_eq!(cdb[12..20], [0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(cdb[20..], [0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x31, 0x32, 0, 0, 5, 6]);
    }
}
