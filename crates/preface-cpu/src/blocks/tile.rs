//! Decoding [`STEP`] elements of each row of a group to exact `f32`.

use std::ops::Range;

use preface_backend::BlockFormat;

use super::layout::{Layout, with_layout};
use super::{GROUP, STEP};
use crate::simd::{Kernel, Simd};

/// Element `k` of row `lane` at `k * GROUP + lane`.
#[repr(align(64))]
pub struct Tile(pub [f32; STEP * GROUP]);

/// Decodes the words `words` (four elements each) of a step; the others stay as they are.
pub struct Decode<'a> {
    pub format: BlockFormat,
    /// The blocks of a group.
    pub group: &'a [u8],
    pub step: usize,
    pub words: Range<usize>,
    pub to: &'a mut Tile,
}

impl Kernel for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        with_layout!(self.format, L => self.decode::<S, L>(simd));
    }
}

impl Decode<'_> {
    #[inline(always)]
    fn decode<S: Simd, L: Layout>(self, simd: S) {
        let Self { group, step, words, to, .. } = self;
        let (block, step) = (step / L::STEPS, step % L::STEPS);
        let block = &group[block * L::BYTES..(block + 1) * L::BYTES];
        assert!(words.end <= 8);
        for lane in (0..GROUP).step_by(S::LANES) {
            // SAFETY: the slice has the bytes of a block, `step` lies below its steps, and `lane` begins a vector of rows.
            let (elements, first, second) = unsafe {
                let first = L::scales(simd, block.as_ptr(), step, 0, lane);
                let second =
                    if L::TWO_SCALES { L::scales(simd, block.as_ptr(), step, 1, lane) } else { first };
                (L::words(simd, block.as_ptr(), step, lane), first, second)
            };
            for (word, elements) in elements.into_iter().enumerate() {
                if !words.contains(&word) {
                    continue;
                }
                let [d, m] = if word < 4 { first } else { second };
                for byte in 0..4 {
                    let q = simd.to_floats(simd.bits(elements, 8 * byte as i32, 0xff));
                    simd.store(simd.mul_add(q, d, m), &mut to.0[(4 * word + byte) * GROUP + lane..]);
                }
            }
        }
    }
}
