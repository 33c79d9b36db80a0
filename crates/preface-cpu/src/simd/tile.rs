//! Register tiles of matrix products.
//!
//! A tile is `M` rows by `V` vectors of sums that stay in registers while the loop goes over the depth: each step loads
//! `V` vectors of the right factor, broadcasts one word of each of the `M` rows of the left, and does `M V` multiply-adds.
//! A *word* is 32 bits: one `f32`, or two neighbouring bf16 that one instruction multiplies and adds as a pair. The right
//! factor is a *panel*, `[word][column]`, or some groups of a weight as they lie ([`crate::groups`]), a vector of columns of
//! each word in either; the left factor lies as the rows lie.
//!
//! Nine rows by three vectors is what 32 registers hold (27 sums, three vectors, one word); six by two for 16 registers.
//! A *strip* is for a few rows and a weight that comes from main memory: the columns of one group, which is one piece of
//! memory from the first word to the last, by up to [`Simd::STRIP_ROWS`] rows.

use super::{Kernel, Simd, prefetch};

/// Operands of a tile.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Rows, at most [`Simd::PANEL_ROWS`], of a strip [`Simd::STRIP_ROWS`].
    pub rows: usize,
    /// Vectors of columns: [`Simd::PANEL_VECTORS`], of a strip [`Simd::STRIP_VECTORS`].
    pub vectors: usize,
    /// Words to sum over.
    pub depth: usize,
    /// First word of the first row.
    pub left: *const u32,
    /// Words from one row to the next.
    pub left_row: usize,
    /// The first vector of the right factor's first word.
    pub right: *const u32,
    /// Words from one of its vectors to the next.
    pub right_vector: usize,
    /// Words from a vector to that of the next word.
    pub right_step: usize,
    /// First sum of the first row.
    pub out: *mut f32,
    /// Sums from one row to the next.
    pub out_row: usize,
    /// Whether to add to `out` instead of overwriting it.
    pub add: bool,
}

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// An `f32`.
    Floats,
    /// Two bf16.
    Pairs,
}

/// [`Words`] at compile time.
trait Multiply {
    /// `sum + left * right`, word by word.
    fn step<S: Simd>(simd: S, left: S::F32, right: S::F32, sum: S::F32) -> S::F32;
}

struct Floats;

impl Multiply for Floats {
    #[inline(always)]
    fn step<S: Simd>(simd: S, left: S::F32, right: S::F32, sum: S::F32) -> S::F32 {
        simd.mul_add(left, right, sum)
    }
}

struct Pairs;

impl Multiply for Pairs {
    #[inline(always)]
    fn step<S: Simd>(simd: S, left: S::F32, right: S::F32, sum: S::F32) -> S::F32 {
        simd.mul_add_pairs(left, right, sum)
    }
}

/// How many bytes ahead of its use a strip asks for memory: what arrives in the time that memory takes to answer.
const AHEAD: usize = 4096;

/// Computes one tile.
pub struct ComputeTile {
    words: Words,
    tile: Tile,
}

impl ComputeTile {
    /// # Safety
    /// For `rows` rows, `left` is valid for reading `depth` words of each and `out` for reading and writing `vectors`
    /// vectors of each; `right` is valid for reading `vectors` vectors of each of `depth` words; for the instruction set that
    /// the kernel will be run with.
    pub unsafe fn new(words: Words, tile: Tile) -> Self {
        Self { words, tile }
    }
}

impl Kernel for ComputeTile {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: promised when `self` was made.
        unsafe {
            match self.words {
                Words::Floats => self.tile.vectors::<S, Floats>(simd),
                Words::Pairs => self.tile.vectors::<S, Pairs>(simd),
            }
        }
    }
}

impl Tile {
    /// # Safety
    /// As [`ComputeTile::new`].
    #[inline(always)]
    unsafe fn vectors<S: Simd, W: Multiply>(self, simd: S) {
        // SAFETY: as the caller promises; the last parameter is the number of vectors.
        unsafe {
            match self.vectors {
                3 if const { S::PANEL_VECTORS == 3 || S::STRIP_VECTORS == 3 } => self.rows::<S, W, 3>(simd),
                2 if const { S::PANEL_VECTORS == 2 || S::STRIP_VECTORS == 2 } => self.rows::<S, W, 2>(simd),
                1 if const { S::PANEL_VECTORS == 1 || S::STRIP_VECTORS == 1 } => self.rows::<S, W, 1>(simd),
                vectors => unreachable!("a tile of {vectors} vectors"),
            }
        }
    }

    /// # Safety
    /// As [`ComputeTile::new`], and `V` is the number of vectors.
    #[inline(always)]
    unsafe fn rows<S: Simd, W: Multiply, const V: usize>(self, simd: S) {
        // Constants, so that what an instruction set does not use is not compiled.
        macro_rules! match_rows {
            ($($rows:literal)*) => {
                match self.rows {
                    $($rows if const {
                        V == S::PANEL_VECTORS && $rows <= S::PANEL_ROWS
                            || V == S::STRIP_VECTORS && $rows <= S::STRIP_ROWS
                    } => self.compute::<S, W, $rows, V>(simd),)*
                    rows => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        // SAFETY: as the caller promises; the third parameter is the number of rows.
        unsafe { match_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16) }
    }

    /// # Safety
    /// As [`ComputeTile::new`], `M` is the number of rows and `V` that of vectors.
    #[inline(always)]
    unsafe fn compute<S: Simd, W: Multiply, const M: usize, const V: usize>(self, simd: S) {
        let Self { depth, left, left_row, right, right_vector, right_step, out, out_row, add, .. } = self;
        // SAFETY: offsets are of rows below `M`, of words below `depth` and of vectors below `V`, which the caller
        // promises to be readable (and writable, in `out`). Rows of bf16 may be unaligned words. A prefetch may point anywhere.
        unsafe {
            let mut sums = [[simd.splat(0.0); V]; M];
            if add {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.load_at(out.add(i * out_row + v * S::LANES));
                    }
                }
            }
            let mut next = right.cast::<f32>();
            for k in 0..depth {
                if V < S::PANEL_VECTORS {
                    prefetch(next.cast::<u8>().wrapping_add(AHEAD), 1);
                }
                let mut vectors = [simd.splat(0.0); V];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    *vector = simd.load_at(next.add(v * right_vector));
                }
                next = next.wrapping_add(right_step);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let word = left.add(i * left_row + k).read_unaligned();
                    let word = simd.splat(f32::from_bits(word));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = W::step(simd, word, vector, *sum);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    simd.store_at(*sum, out.add(i * out_row + v * S::LANES));
                }
            }
        }
    }
}
