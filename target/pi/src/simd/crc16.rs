//! CRC-16/T10-DIF with AVX-512, GFNI and VPCLMULQDQ, 512 bytes a step.
//!
//! A message is a polynomial whose highest coefficient is the first byte's highest bit; its CRC is the
//! remainder of the message times x¹⁶. A byte with n more bits behind it counts xⁿ mod P times itself: a
//! linear map from 8 bits to 16, which is two 8 × 8 matrices over GF(2), and such a matrix is applied to all
//! 64 bytes of a vector by one instruction, of which these machines do four in the time of one carry-less
//! multiplication. So nothing is ever turned around or shifted: a [`Remainder`] keeps 16 bits for each byte
//! of a vector, in two vectors, and stands for the message so far as if that were one vector long.
//!
//! Eight vectors make a *group*. A remainder is moved on by a group with four matrices, and each vector of
//! the next group is added with two, the last one with none. At the end the eight words of a vector are
//! moved onto the last one and added up; what is left, 72 bits for each message, is divided with carry-less
//! multiplications (Barrett), for four messages at once, since the five of them wait for each other. A
//! message that does not fill its groups is taken to have zeroes in front, which do not change a remainder.

use core::arch::x86_64::{
    __m128i, __m512i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi8, _mm_set_epi64x,
    _mm_shuffle_epi8, _mm_xor_si128, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_xor_si256,
    _mm512_broadcast_i32x4, _mm512_castsi512_si256, _mm512_clmulepi64_epi128, _mm512_extracti64x4_epi64,
    _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8,
    _mm512_maskz_mov_epi8, _mm512_set1_epi16, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

/// The polynomial, x¹⁶ included.
const POLY: u64 = 0x1_8bb7;

/// x⁶⁴ divided by it.
const RECIPROCAL: u64 = quotient_of_x64();

/// Bytes of a vector.
const VECTOR: usize = 64;

/// Vectors of a group: so many that the matrices for all of them stay in registers.
const VECTORS: usize = 8;

/// Bytes of a group.
pub(crate) const GROUP: usize = VECTOR * VECTORS;

/// Two matrices for each word of a vector: what its bytes become in the remainder's low and high bytes.
#[repr(align(64))]
struct Move {
    low: [u64; 8],
    high: [u64; 8],
}

/// Moves a whole vector by this many bits.
const fn by(bits: u32) -> Move {
    Move { low: [rows(bits, 0); 8], high: [rows(bits, 8); 8] }
}

/// Moves each word of a vector onto the last one, and then by this many bits.
const fn to_last_word(bits: u32) -> Move {
    let (mut low, mut high) = ([0; 8], [0; 8]);
    let (mut lows, mut highs) = (low.as_mut_slice(), high.as_mut_slice());
    while let ([low, low_rest @ ..], [high, high_rest @ ..]) = (lows, highs) {
        // A `const fn` cannot count along with an iterator: the words behind are those that are left.
        let behind = bits_of_words(low_rest.len());
        (*low, *high) = (rows(behind + bits, 0), rows(behind + bits, 8));
        (lows, highs) = (low_rest, high_rest);
    }
    Move { low, high }
}

const fn bits_of_words(words: usize) -> u32 {
    let mut bits = 0;
    let mut counted = 0;
    while counted < words {
        bits += 64;
        counted += 1;
    }
    bits
}

/// The matrix from a byte with `bits` more behind it to bits `first..first + 8` of the remainder, as the
/// instruction wants it: the row of the highest bit first.
const fn rows(bits: u32, first: u32) -> u64 {
    let mut matrix = 0;
    let mut row = 0;
    while row < 8 {
        let mut column = 0;
        while column < 8 {
            let set = power(bits + column) >> (first + row) & 1;
            matrix |= set << (8 * (7 - row) + column);
            column += 1;
        }
        row += 1;
    }
    matrix
}

/// A remainder's low bytes on by a group, and its high bytes.
static ONWARD: [Move; 2] = [by(4096), by(4096 + 8)];

/// The vectors of a group, but for the last one, to its end.
static TO_GROUP_END: [Move; VECTORS - 1] =
    [by(7 * 512), by(6 * 512), by(5 * 512), by(4 * 512), by(3 * 512), by(2 * 512), by(512)];

/// The words of a remainder onto the last one: low bytes and high bytes.
static TO_LAST_WORD: [Move; 2] = [to_last_word(0), to_last_word(8)];

/// x to this power, mod P.
const fn power(exponent: u32) -> u64 {
    let mut value = 1;
    let mut done = 0;
    while done < exponent {
        value <<= 1;
        if value >> 16 != 0 {
            value ^= POLY;
        }
        done += 1;
    }
    value
}

const fn quotient_of_x64() -> u64 {
    let mut rest = 1_u128 << 64;
    let mut quotient = 0;
    let mut bit = 48;
    loop {
        if rest >> (bit + 16) & 1 != 0 {
            rest ^= (POLY as u128) << bit;
            quotient |= 1 << bit;
        }
        if bit == 0 {
            return quotient;
        }
        bit -= 1;
    }
}

/// The kernel. To have one is to have a machine with its instructions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crc16(());

impl Crc16 {
    /// The kernel, if this machine can run it.
    #[inline]
    pub(crate) fn detect() -> Option<Crc16> {
        let there = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("gfni")
            && std::is_x86_feature_detected!("vpclmulqdq")
            && std::is_x86_feature_detected!("pclmulqdq");
        there.then_some(Crc16(()))
    }

    /// The register after `data`, which it had before as `register`; 0 begins a message, and the last
    /// register is its CRC.
    #[inline]
    pub(crate) fn update(self, register: u16, data: &[u8]) -> u16 {
        // SAFETY: the machine has the features, or there would be no `self`.
        unsafe { update::<false>(register, data, &mut []) }
    }

    /// The same, and copies `data` to `to` on the way. Both have the same length.
    #[inline]
    pub(crate) fn copy(self, register: u16, data: &[u8], to: &mut [u8]) -> u16 {
        assert_eq!(data.len(), to.len(), "a copy has the length of what it is made from");
        // SAFETY: the machine has the features, or there would be no `self`.
        unsafe { update::<true>(register, data, to) }
    }

    /// The CRCs of four messages of one group each: short ones, of which the last division is a good part.
    #[inline]
    pub(crate) fn four(self, messages: [&[u8; GROUP]; 4]) -> [u16; 4] {
        // SAFETY: the machine has the features, or there would be no `self`.
        unsafe { four(messages) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,gfni,vpclmulqdq,pclmulqdq")]
fn update<const COPY: bool>(mut register: u16, mut data: &[u8], mut to: &mut [u8]) -> u16 {
    if data.len() % GROUP == 1
        && let Some(first) = data.split_off_first()
    {
        // A register has two bytes: it would reach into the second group.
        register = take_byte(register, *first);
        if let Some(place) = to.split_off_first_mut() {
            *place = *first;
        }
    }
    if data.is_empty() {
        return register;
    }
    divide_one(add_up::<COPY>(register, data, to))
}

/// The register after one byte, bit by bit.
fn take_byte(register: u16, byte: u8) -> u16 {
    let [.., high, low] = POLY.to_be_bytes();
    (0..8).fold(register ^ u16::from_be_bytes([byte, 0]), |register, _| {
        let out = register >> 15;
        (register << 1) ^ (out * u16::from_be_bytes([high, low]))
    })
}

#[target_feature(enable = "avx512f,avx512bw,gfni,vpclmulqdq,pclmulqdq")]
fn four(messages: [&[u8; GROUP]; 4]) -> [u16; 4] {
    let [a, b, c, d] = messages.map(Stream::<false>::of);
    // SAFETY: each message is one group.
    let [a, b, c, d] = unsafe { [a.group(), b.group(), c.group(), d.group()] };
    divide_four([
        Remainder::of_group(a).in_last_word(),
        Remainder::of_group(b).in_last_word(),
        Remainder::of_group(c).in_last_word(),
        Remainder::of_group(d).in_last_word(),
    ])
}

/// Moves a whole message into the last word of a remainder, to which each other word is still to be added.
/// With `COPY`, `to` is as long as `data` and gets its bytes; without, it is not looked at.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn add_up<const COPY: bool>(register: u16, data: &[u8], to: &mut [u8]) -> Remainder {
    debug_assert!(!COPY || data.len() == to.len(), "a copy has the length of what it is made from");
    if data.is_empty() {
        return Remainder::zero();
    }
    // The first group begins this much before the message.
    let lead = data.len().wrapping_neg() % GROUP;
    let mut stream =
        Stream::<COPY> { from: data.as_ptr().wrapping_sub(lead), to: to.as_mut_ptr().wrapping_sub(lead) };
    let mut group = if lead == 0 {
        // SAFETY: the message is a multiple of groups and not empty, so its first group is there.
        unsafe { stream.group() }
    } else {
        // SAFETY: the first group begins `lead` bytes before the message, and the message reaches its end.
        unsafe { stream.group_from(lead) }
    };
    if register != 0 {
        add_register(&mut group, register, lead);
    }
    let mut remainder = Remainder::of_group(group);
    for _ in 1..data.len().div_ceil(GROUP) {
        stream.next_group();
        // SAFETY: one of the groups that the message has in all, each but the first of them complete.
        remainder = remainder.and_group(unsafe { stream.group() });
    }
    remainder.in_last_word()
}

/// The remainder of a message, 16 bits for each byte of a vector.
#[derive(Clone, Copy)]
struct Remainder {
    low: __m512i,
    high: __m512i,
}

impl Remainder {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Remainder {
        Remainder { low: _mm512_setzero_si512(), high: _mm512_setzero_si512() }
    }

    /// The remainder of a group alone.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn of_group([a, b, c, d, e, f, g, last]: [__m512i; VECTORS]) -> Remainder {
        let [ma, mb, mc, md, me, mf, mg] = &TO_GROUP_END;
        let mut low = _mm512_xor_si512(last, affine(a, &ma.low));
        let mut high = affine(a, &ma.high);
        for (one, other, m, n) in [(b, c, mb, mc), (d, e, md, me), (f, g, mf, mg)] {
            low = add(low, affine(one, &m.low), affine(other, &n.low));
            high = add(high, affine(one, &m.high), affine(other, &n.high));
        }
        Remainder { low, high }
    }

    /// The remainder with another group behind it.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn and_group(self, group: [__m512i; VECTORS]) -> Remainder {
        let [of_low, of_high] = &ONWARD;
        // What was before comes in last: only this is waited for by the next group.
        let Remainder { low, high } = Remainder::of_group(group);
        Remainder {
            low: add(low, affine(self.low, &of_low.low), affine(self.high, &of_high.low)),
            high: add(high, affine(self.low, &of_low.high), affine(self.high, &of_high.high)),
        }
    }

    /// Each word as if it were the last one.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn in_last_word(self) -> Remainder {
        let [of_low, of_high] = &TO_LAST_WORD;
        Remainder {
            low: _mm512_xor_si512(affine(self.low, &of_low.low), affine(self.high, &of_high.low)),
            high: _mm512_xor_si512(affine(self.low, &of_low.high), affine(self.high, &of_high.high)),
        }
    }

    /// The sum of each lane's two words: low bytes beside high bytes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn lanes(self) -> __m512i {
        let Remainder { low, high } = self;
        _mm512_xor_si512(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high))
    }
}

/// Applies each word's matrix to the bytes of that word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn affine(bytes: __m512i, matrices: &[u64; 8]) -> __m512i {
    // SAFETY: 64 bytes of a reference.
    let matrices = unsafe { _mm512_loadu_si512(matrices.as_ptr().cast()) };
    _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrices)
}

/// The sum of three.
#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

/// Adds a register to the first two bytes of a message that begins `lead` bytes into the group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_register(group: &mut [__m512i; VECTORS], register: u16, lead: usize) {
    let (first, place) = (lead / VECTOR, lead % VECTOR);
    // Every pair of bytes at an even place, or at an odd one.
    let pair = if place.is_multiple_of(2) { register.to_be_bytes() } else { register.to_le_bytes() };
    let everywhere = _mm512_set1_epi16(i16::from_le_bytes(pair));
    for (vector, number) in group.iter_mut().zip(0..) {
        let mask = match number {
            _ if number == first => 0b11 << place,
            // The second byte is the next vector's first one.
            _ if number == first + 1 && place == VECTOR - 1 => 1,
            _ => 0,
        };
        *vector = _mm512_xor_si512(*vector, _mm512_maskz_mov_epi8(mask, everywhere));
    }
}

/// A message, a group at a time, and where it is copied to.
struct Stream<const COPY: bool> {
    /// Where the present group begins: the first one maybe before the message.
    from: *const u8,
    /// The same in the copy; only meant with `COPY`.
    to: *mut u8,
}

impl Stream<false> {
    /// One group, not copied.
    #[inline]
    fn of(group: &[u8; GROUP]) -> Self {
        Stream { from: group.as_ptr(), to: std::ptr::null_mut() }
    }
}

impl<const COPY: bool> Stream<COPY> {
    #[inline]
    fn next_group(&mut self) {
        self.from = self.from.wrapping_add(GROUP);
        self.to = self.to.wrapping_add(GROUP);
    }

    /// The present group.
    ///
    /// # Safety
    ///
    /// All its bytes belong to the message; with `COPY`, the same bytes of the copy may be written.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn group(&self) -> [__m512i; VECTORS] {
        let mut group = [_mm512_setzero_si512(); VECTORS];
        for (vector, at) in group.iter_mut().zip((0..).step_by(VECTOR)) {
            // SAFETY: the caller's promise.
            *vector = unsafe { _mm512_loadu_si512(self.from.wrapping_add(at).cast()) };
            if COPY {
                // SAFETY: the caller's promise.
                unsafe { _mm512_storeu_si512(self.to.wrapping_add(at).cast(), *vector) };
            }
        }
        group
    }

    /// The present group, with zeroes for its first `lead` bytes.
    ///
    /// # Safety
    ///
    /// As for [`Self::group`], for all bytes but those.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn group_from(&self, lead: usize) -> [__m512i; VECTORS] {
        let mut group = [_mm512_setzero_si512(); VECTORS];
        for (vector, at) in group.iter_mut().zip((0..).step_by(VECTOR)) {
            let left_out = u32::try_from(lead.saturating_sub(at)).unwrap_or(u32::MAX);
            let mask = u64::MAX.checked_shl(left_out).unwrap_or(0);
            // SAFETY: bytes that the mask leaves out are not touched; for the others, the caller's promise.
            *vector = unsafe { _mm512_maskz_loadu_epi8(mask, self.from.wrapping_add(at).cast()) };
            if COPY {
                // SAFETY: as above.
                unsafe { _mm512_mask_storeu_epi8(self.to.wrapping_add(at).cast(), mask, *vector) };
            }
        }
        group
    }
}

/// The CRC of a message from its remainder.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni,pclmulqdq")]
fn divide_one(remainder: Remainder) -> u16 {
    let lanes = remainder.lanes();
    let halves = _mm256_xor_si256(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64::<1>(lanes));
    let sum = _mm_xor_si128(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    let sum = _mm_shuffle_epi8(sum, swapped_words());
    let (up, down) = (up(), down());
    let rest = _mm_xor_si128(_mm_clmulepi64_si128::<0x00>(sum, up), _mm_clmulepi64_si128::<0x11>(sum, up));
    let rest = _mm_xor_si128(rest, _mm_clmulepi64_si128::<0x01>(rest, down));
    let quotient = _mm_clmulepi64_si128::<0x00>(rest, reciprocal());
    low16(_mm_cvtsi128_si64(_mm_xor_si128(rest, _mm_clmulepi64_si128::<0x11>(quotient, down))))
}

/// The CRCs of four messages.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni,vpclmulqdq,pclmulqdq")]
fn divide_four(remainders: [Remainder; 4]) -> [u16; 4] {
    // Lanes added up so that each message ends in one of its own.
    let [a, b, c, d] = remainders;
    let (a, b, c, d) = (a.lanes(), b.lanes(), c.lanes(), d.lanes());
    let ab = _mm512_xor_si512(_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xee>(a, b));
    let cd = _mm512_xor_si512(_mm512_shuffle_i64x2::<0x44>(c, d), _mm512_shuffle_i64x2::<0xee>(c, d));
    let sum = _mm512_xor_si512(_mm512_shuffle_i64x2::<0x88>(ab, cd), _mm512_shuffle_i64x2::<0xdd>(ab, cd));
    let sum = _mm512_shuffle_epi8(sum, _mm512_broadcast_i32x4(swapped_words()));
    let [up, down, reciprocal] = [up(), down(), reciprocal()].map(|lane| _mm512_broadcast_i32x4(lane));
    let rest = _mm512_xor_si512(
        _mm512_clmulepi64_epi128::<0x00>(sum, up),
        _mm512_clmulepi64_epi128::<0x11>(sum, up),
    );
    let rest = _mm512_xor_si512(rest, _mm512_clmulepi64_epi128::<0x01>(rest, down));
    let quotient = _mm512_clmulepi64_epi128::<0x00>(rest, reciprocal);
    let remainder = _mm512_xor_si512(rest, _mm512_clmulepi64_epi128::<0x11>(quotient, down));
    let mut words = [0; 8];
    // SAFETY: 64 bytes of a reference.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), remainder) };
    let [a, _, b, _, c, _, d, _] = words;
    [low16(a), low16(b), low16(c), low16(d)]
}

/// Turns the bytes of both words around: a message's first byte counts most, a machine's last one.
#[inline]
#[target_feature(enable = "sse2")]
fn swapped_words() -> __m128i {
    _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
}

/// Factors of a remainder's low bytes and of its high bytes, which count 256 times as much: with the x¹⁶
/// that a CRC has on top. What comes out has at most 79 bits.
#[inline]
#[target_feature(enable = "sse2")]
fn up() -> __m128i {
    _mm_set_epi64x(const { power(24).cast_signed() }, const { power(16).cast_signed() })
}

/// Factors of what is above 64 bits, and of the quotient.
#[inline]
#[target_feature(enable = "sse2")]
fn down() -> __m128i {
    _mm_set_epi64x(POLY.cast_signed(), const { power(64).cast_signed() })
}

/// The factor that makes a quotient, in the upper half of the product.
#[inline]
#[target_feature(enable = "sse2")]
fn reciprocal() -> __m128i {
    _mm_set_epi64x(0, RECIPROCAL.cast_signed())
}

/// The remainder's 16 bits; above them is what is left of the quotient's multiplication.
#[inline]
fn low16(word: i64) -> u16 {
    let [low, high, ..] = word.to_le_bytes();
    u16::from_le_bytes([low, high])
}
