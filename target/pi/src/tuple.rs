//! The tuple behind a block. NVM Command Set 1.1 §5.3.1 "Protection Information Formats",
//! Figures 147, 149 and 151.
//!
//! All formats have the same order, most significant byte first: guard, application tag, Storage and
//! Reference Space. Only the widths differ, so one pair of functions serves all of them:
//!
//! ```text
//! 16b guard   gg gg aa aa ss ss ss ss
//! 32b guard   gg gg gg gg aa aa ss ss ss ss ss ss ss ss ss ss
//! 64b guard   gg gg gg gg gg gg gg gg aa aa ss ss ss ss ss ss
//! ```

use crate::format::{PiFormat, PiType, low64};

/// An application tag with this value escapes the checks (type 3: together with the reference tag).
const APP_TAG_ESCAPE: u16 = 0xffff;

/// A decoded tuple. The widths of the fields are the format's; unused high bits are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// CRC of the block's data: 16, 32 or 64 bits.
    pub guard: u64,
    /// The application tag.
    pub app_tag: u16,
    /// The storage tag; 0 where the format has none.
    pub storage_tag: u64,
    /// The reference tag; 0 where the format has none.
    pub ref_tag: u64,
}

impl Tuple {
    /// Reads a tuple from its wire bytes. `None` unless `bytes` has exactly the format's tuple length.
    #[inline]
    pub fn decode(format: PiFormat, bytes: &[u8]) -> Option<Tuple> {
        if bytes.len() != format.tuple_len() {
            return None;
        }
        let word = match <[u8; 16]>::try_from(bytes) {
            Ok(wide) => u128::from_be_bytes(wide),
            Err(_) => u128::from(u64::from_be_bytes(bytes.try_into().ok()?)),
        };
        let space_bits = format.guard().space_bits();
        let [.., high, low] = (word >> space_bits).to_be_bytes();
        let (storage_tag, ref_tag) = format.split_space(word);
        Some(Tuple {
            guard: low64(word >> (space_bits + 16)) & format.guard_mask(),
            app_tag: u16::from_be_bytes([high, low]),
            storage_tag,
            ref_tag,
        })
    }

    /// Writes the tuple's wire bytes into `out`, dropping bits beyond a field's width. `false`, and
    /// nothing written, unless `out` has exactly the format's tuple length.
    #[inline]
    #[must_use]
    pub fn encode(&self, format: PiFormat, out: &mut [u8]) -> bool {
        let space_bits = format.guard().space_bits();
        let word = (u128::from(self.guard & format.guard_mask()) << (space_bits + 16))
            | (u128::from(self.app_tag) << space_bits)
            | format.join_space(self.storage_tag, self.ref_tag);
        if out.len() != format.tuple_len() {
            return false;
        }
        if let Ok(wide) = <&mut [u8; 16]>::try_from(&mut *out) {
            *wide = word.to_be_bytes();
        } else if let Ok(narrow) = <&mut [u8; 8]>::try_from(out) {
            *narrow = low64(word).to_be_bytes();
        }
        true
    }

    /// The tuple of a block that was never written: every bit set, in every format. It escapes all
    /// checks. §3.3.3.2.1 "Deallocated or Unwritten Logical Blocks".
    pub const fn all_ones(format: PiFormat) -> Tuple {
        Tuple {
            guard: format.guard_mask(),
            app_tag: APP_TAG_ESCAPE,
            storage_tag: format.storage_tag_mask(),
            ref_tag: format.ref_tag_mask(),
        }
    }

    /// Whether the tuple's own values switch all its checks off: an application tag of FFFFh for types
    /// 1 and 2; for type 3 an all-ones reference tag beside it, if the format has a reference tag.
    /// §5.3.3 "Control of Protection Information Checking - PRCHK".
    #[inline]
    pub const fn escapes(&self, format: PiFormat) -> bool {
        match format.pi_type() {
            PiType::Type1 | PiType::Type2 => self.app_tag == APP_TAG_ESCAPE,
            PiType::Type3 => self.app_tag == APP_TAG_ESCAPE && self.ref_tag == format.ref_tag_mask(),
        }
    }
}
