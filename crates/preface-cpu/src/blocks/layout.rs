//! What a block of a group of rows looks like, and how its elements come out: as unsigned bytes `q` with `x = d q + m`.
//!
//! ```text
//! Q4_0   d                            4 words of nibbles
//! Q4_1   d, m                         4 words of nibbles
//! Q5_0   d, fifth bits                4 words of nibbles
//! Q8_0   d                            8 words of bytes
//! Q4_K   d, d_min, scales, minima     8 times 4 words of nibbles
//! Q6_K   d, scales                    8 times (4 words of nibbles, 2 words with the upper two bits)
//! ```
//!
//! `d`, `m` and `d_min` are rows of 16 halves, everything else rows of 16 words, a word for each row of the group. Formats
//! with signed elements are stored with their offset added, so `m = -offset d`.

use preface_backend::BlockFormat;

use super::GROUP;
use crate::simd::Simd;

/// Bytes of a row of halves.
pub const HALVES: usize = 2 * GROUP;
/// Bytes of a row of words.
pub const WORDS: usize = 4 * GROUP;

/// Bytes of a block of a group.
pub fn block_bytes(format: BlockFormat) -> usize {
    match format {
        BlockFormat::Q4_0 => Q40::BYTES,
        BlockFormat::Q4_1 => Q41::BYTES,
        BlockFormat::Q5_0 => Q50::BYTES,
        BlockFormat::Q8_0 => Q80::BYTES,
        BlockFormat::Q4_K => Q4K::BYTES,
        BlockFormat::Q6_K => Q6K::BYTES,
    }
}

/// A format at compile time. `block` is valid for reading [`Self::BYTES`] bytes, `step` lies below [`Self::STEPS`], and
/// `lane` is the first of [`Simd::LANES`] rows of the group.
pub trait Layout {
    /// Steps of a block.
    const STEPS: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether the halves of a step have scales of their own.
    const TWO_SCALES: bool = false;

    /// Elements of a step, four in a word, as unsigned bytes.
    ///
    /// # Safety
    /// As the trait tells.
    unsafe fn words<S: Simd>(simd: S, block: *const u8, step: usize, lane: usize) -> [S::I32; 8];

    /// `d` and `m` of a half of a step.
    ///
    /// # Safety
    /// As the trait tells.
    unsafe fn scales<S: Simd>(
        simd: S,
        block: *const u8,
        step: usize,
        half: usize,
        lane: usize,
    ) -> [S::F32; 2];
}

/// Words 0 to 3 from the low, 4 to 7 from the high four bits.
///
/// # Safety
/// Four rows of words can be read at `at`.
#[inline(always)]
unsafe fn nibbles<S: Simd>(simd: S, at: *const u8, lane: usize) -> [S::I32; 8] {
    std::array::from_fn(
        #[inline(always)]
        |word| {
            // SAFETY: as the caller promises.
            let both = unsafe { simd.load_words(at.add(word % 4 * WORDS + 4 * lane)) };
            simd.bits(both, if word < 4 { 0 } else { 4 }, 0x0f0f_0f0f)
        },
    )
}

/// `d` of a row of halves, and `-offset d`.
///
/// # Safety
/// A row of halves can be read at `at`.
#[inline(always)]
unsafe fn symmetric<S: Simd>(simd: S, at: *const u8, lane: usize, offset: f32) -> [S::F32; 2] {
    // SAFETY: as the caller promises.
    let d = unsafe { simd.widen_halves(at.add(2 * lane)) };
    [d, simd.mul(d, simd.splat(-offset))]
}

pub struct Q40;

impl Layout for Q40 {
    const STEPS: usize = 1;
    const BYTES: usize = HALVES + 4 * WORDS;

    #[inline(always)]
    unsafe fn words<S: Simd>(simd: S, block: *const u8, _: usize, lane: usize) -> [S::I32; 8] {
        // SAFETY: as the trait tells.
        unsafe { nibbles(simd, block.add(HALVES), lane) }
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, block: *const u8, _: usize, _: usize, lane: usize) -> [S::F32; 2] {
        // SAFETY: as the trait tells.
        unsafe { symmetric(simd, block, lane, 8.0) }
    }
}

pub struct Q41;

impl Layout for Q41 {
    const STEPS: usize = 1;
    const BYTES: usize = 2 * HALVES + 4 * WORDS;

    #[inline(always)]
    unsafe fn words<S: Simd>(simd: S, block: *const u8, _: usize, lane: usize) -> [S::I32; 8] {
        // SAFETY: as the trait tells.
        unsafe { nibbles(simd, block.add(2 * HALVES), lane) }
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, block: *const u8, _: usize, _: usize, lane: usize) -> [S::F32; 2] {
        // SAFETY: as the trait tells.
        unsafe { [simd.widen_halves(block.add(2 * lane)), simd.widen_halves(block.add(HALVES + 2 * lane))] }
    }
}

pub struct Q50;

impl Layout for Q50 {
    const STEPS: usize = 1;
    const BYTES: usize = HALVES + 5 * WORDS;

    #[inline(always)]
    unsafe fn words<S: Simd>(simd: S, block: *const u8, _: usize, lane: usize) -> [S::I32; 8] {
        // SAFETY: as the trait tells.
        let (low, high) = unsafe {
            (nibbles(simd, block.add(HALVES + WORDS), lane), simd.load_words(block.add(HALVES + 4 * lane)))
        };
        std::array::from_fn(
            #[inline(always)]
            |word| simd.or(low[word], simd.bits(high, word as i32 - 4, 0x1010_1010)),
        )
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, block: *const u8, _: usize, _: usize, lane: usize) -> [S::F32; 2] {
        // SAFETY: as the trait tells.
        unsafe { symmetric(simd, block, lane, 16.0) }
    }
}

pub struct Q80;

impl Layout for Q80 {
    const STEPS: usize = 1;
    const BYTES: usize = HALVES + 8 * WORDS;

    #[inline(always)]
    unsafe fn words<S: Simd>(simd: S, block: *const u8, _: usize, lane: usize) -> [S::I32; 8] {
        std::array::from_fn(
            #[inline(always)]
            // SAFETY: as the trait tells.
            |word| unsafe { simd.load_words(block.add(HALVES + word * WORDS + 4 * lane)) },
        )
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, block: *const u8, _: usize, _: usize, lane: usize) -> [S::F32; 2] {
        // SAFETY: as the trait tells.
        unsafe { symmetric(simd, block, lane, 128.0) }
    }
}

/// Byte `number` of the words in rows from `at`, as a number: four of them in each row.
///
/// # Safety
/// The row can be read.
#[inline(always)]
unsafe fn small<S: Simd>(simd: S, at: *const u8, number: usize, lane: usize) -> S::F32 {
    // SAFETY: as the caller promises.
    let word = unsafe { simd.load_words(at.add(number / 4 * WORDS + 4 * lane)) };
    // The shift is no constant here; eight of them are few beside a block's elements.
    let byte = match number % 4 {
        0 => simd.bits(word, 0, 0xff),
        1 => simd.bits(word, 8, 0xff),
        2 => simd.bits(word, 16, 0xff),
        _ => simd.bits(word, 24, 0xff),
    };
    simd.to_floats(byte)
}

pub struct Q4K;

impl Layout for Q4K {
    const STEPS: usize = 8;
    const BYTES: usize = 2 * HALVES + 4 * WORDS + 8 * 4 * WORDS;

    #[inline(always)]
    unsafe fn words<S: Simd>(simd: S, block: *const u8, step: usize, lane: usize) -> [S::I32; 8] {
        // SAFETY: as the trait tells.
        unsafe { nibbles(simd, block.add(2 * HALVES + (4 + 4 * step) * WORDS), lane) }
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, block: *const u8, step: usize, _: usize, lane: usize) -> [S::F32; 2] {
        // SAFETY: as the trait tells.
        unsafe {
            let (d, d_min) =
                (simd.widen_halves(block.add(2 * lane)), simd.widen_halves(block.add(HALVES + 2 * lane)));
            let scale = small(simd, block.add(2 * HALVES), step, lane);
            let min = small(simd, block.add(2 * HALVES + 2 * WORDS), step, lane);
            [simd.mul(d, scale), simd.mul(simd.mul(d_min, simd.splat(-1.0)), min)]
        }
    }
}

pub struct Q6K;

impl Q6K {
    const STEP_BYTES: usize = 6 * WORDS;
    const ELEMENTS: usize = HALVES + 4 * WORDS;
}

impl Layout for Q6K {
    const STEPS: usize = 8;
    const BYTES: usize = Self::ELEMENTS + 8 * Self::STEP_BYTES;
    const TWO_SCALES: bool = true;

    #[inline(always)]
    unsafe fn words<S: Simd>(simd: S, block: *const u8, step: usize, lane: usize) -> [S::I32; 8] {
        // SAFETY: as the trait tells.
        unsafe {
            let at = block.add(Self::ELEMENTS + step * Self::STEP_BYTES);
            let low = nibbles(simd, at, lane);
            let high = [
                simd.load_words(at.add(4 * WORDS + 4 * lane)),
                simd.load_words(at.add(5 * WORDS + 4 * lane)),
            ];
            std::array::from_fn(
                #[inline(always)]
                |word| {
                    let upper = simd.bits(high[word / 4], 2 * (word as i32 % 4) - 4, 0x3030_3030);
                    simd.or(low[word], upper)
                },
            )
        }
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(
        simd: S,
        block: *const u8,
        step: usize,
        half: usize,
        lane: usize,
    ) -> [S::F32; 2] {
        // SAFETY: as the trait tells.
        unsafe {
            let d = simd.widen_halves(block.add(2 * lane));
            let scale = small(simd, block.add(HALVES), 2 * step + half, lane);
            let scale = simd.mul(d, simd.sub(scale, simd.splat(128.0)));
            [scale, simd.mul(scale, simd.splat(-32.0))]
        }
    }
}

/// Runs `$body` with `$layout` as the format's type.
macro_rules! with_layout {
    ($format:expr, $layout:ident => $body:expr) => {
        match $format {
            preface_backend::BlockFormat::Q4_0 => {
                type $layout = $crate::blocks::layout::Q40;
                $body
            }
            preface_backend::BlockFormat::Q4_1 => {
                type $layout = $crate::blocks::layout::Q41;
                $body
            }
            preface_backend::BlockFormat::Q5_0 => {
                type $layout = $crate::blocks::layout::Q50;
                $body
            }
            preface_backend::BlockFormat::Q8_0 => {
                type $layout = $crate::blocks::layout::Q80;
                $body
            }
            preface_backend::BlockFormat::Q4_K => {
                type $layout = $crate::blocks::layout::Q4K;
                $body
            }
            preface_backend::BlockFormat::Q6_K => {
                type $layout = $crate::blocks::layout::Q6K;
                $body
            }
        }
    };
}
pub(super) use with_layout;
