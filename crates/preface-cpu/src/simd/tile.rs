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
//! memory from the first word to the last, by up to [`Simd::STRIP_ROWS`] rows. Attention's products have few columns (a
//! head) or a ragged number of rows: [`TILE_ROWS`] by up to [`Simd::TILE_VECTORS`] vectors.

use super::{Kernel, Simd, prefetch, prefetch_second};

/// Operands of a tile.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Rows, at most [`Simd::PANEL_ROWS`], of a strip [`Simd::STRIP_ROWS`], of attention's tiles [`TILE_ROWS`].
    pub rows: usize,
    /// Vectors of columns: [`Simd::PANEL_VECTORS`], of a strip [`Simd::STRIP_VECTORS`], of attention's tiles from one to
    /// [`Simd::TILE_VECTORS`].
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

impl Words {
    /// Numbers in a word.
    pub fn per_word(self) -> usize {
        match self {
            Self::Floats => 1,
            Self::Pairs => 2,
        }
    }
}

/// Rows of attention's tiles.
pub const TILE_ROWS: usize = 6;

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

/// What is asked for while a tile is computed, so that it is there when its turn comes.
#[derive(Clone, Copy)]
pub enum Ahead<'a> {
    /// Cache lines.
    Lines(&'a [*const u8]),
    /// Part of a right factor, laid out as that of the tile, for the second-level cache.
    Right {
        /// The first vector of the first word; any address.
        start: *const u32,
        /// Words of each vector, at most those of the tile.
        words: usize,
    },
}

/// Steps ahead of their use that words of the second-level cache are asked for.
const NEXT_STEPS: usize = 6;
/// Steps from some of [`Ahead::Lines`] to the next.
const LINE_STEPS: usize = 32;

/// Computes one tile.
pub struct ComputeTile<'a> {
    words: Words,
    tile: Tile,
    ahead: Ahead<'a>,
}

impl<'a> ComputeTile<'a> {
    /// # Safety
    /// For `rows` rows, `left` is valid for reading `depth` words of each and `out` for reading and writing `vectors`
    /// vectors of each; `right` is valid for reading `vectors` vectors of each of `depth` words; for the instruction set that
    /// the kernel will be run with.
    pub unsafe fn new(words: Words, tile: Tile) -> Self {
        Self { words, tile, ahead: Ahead::Lines(&[]) }
    }

    /// Asks for memory meanwhile.
    pub fn ahead(self, ahead: Ahead<'a>) -> Self {
        Self { ahead, ..self }
    }
}

impl Kernel for ComputeTile<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: promised when `self` was made.
        unsafe {
            match self.words {
                Words::Floats => self.tile.vectors::<S, Floats>(simd, self.ahead),
                Words::Pairs => self.tile.vectors::<S, Pairs>(simd, self.ahead),
            }
        }
    }
}

/// Rows that a tile of some vectors may have on an instruction set; 0 if it may not have these vectors.
pub const fn most_rows<S: Simd>(vectors: usize) -> usize {
    let mut most = 0;
    if vectors <= S::TILE_VECTORS {
        most = TILE_ROWS;
    }
    if vectors == S::PANEL_VECTORS && most < S::PANEL_ROWS {
        most = S::PANEL_ROWS;
    }
    if vectors == S::STRIP_VECTORS && most < S::STRIP_ROWS {
        most = S::STRIP_ROWS;
    }
    most
}

impl Tile {
    /// # Safety
    /// As [`ComputeTile::new`].
    #[inline(always)]
    unsafe fn vectors<S: Simd, W: Multiply>(self, simd: S, ahead: Ahead<'_>) {
        // SAFETY: as the caller promises; the last parameter is the number of vectors.
        unsafe {
            match self.vectors {
                4 if const { most_rows::<S>(4) > 0 } => self.rows::<S, W, 4>(simd, ahead),
                3 if const { most_rows::<S>(3) > 0 } => self.rows::<S, W, 3>(simd, ahead),
                2 if const { most_rows::<S>(2) > 0 } => self.rows::<S, W, 2>(simd, ahead),
                1 if const { most_rows::<S>(1) > 0 } => self.rows::<S, W, 1>(simd, ahead),
                vectors => unreachable!("a tile of {vectors} vectors"),
            }
        }
    }

    /// # Safety
    /// As [`ComputeTile::new`], and `V` is the number of vectors.
    #[inline(always)]
    unsafe fn rows<S: Simd, W: Multiply, const V: usize>(self, simd: S, ahead: Ahead<'_>) {
        // Constants, so that what an instruction set does not use is not compiled.
        macro_rules! match_rows {
            ($($rows:literal)*) => {
                match self.rows {
                    $(
                        $rows if const { $rows <= most_rows::<S>(V) } => match ahead {
                            Ahead::Lines(lines) => self.with_lines::<S, W, $rows, V>(simd, lines),
                            Ahead::Right { start, words } => {
                                self.with_right::<S, W, $rows, V>(simd, start, words);
                            }
                        },
                    )*
                    rows => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        // SAFETY: as the caller promises; the third parameter is the number of rows.
        unsafe { match_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16) }
    }

    /// Adds the products of word `k`.
    ///
    /// # Safety
    /// As [`ComputeTile::new`], `M` is the number of rows, `V` that of vectors, `k` below the depth, and `right` its first
    /// vector.
    #[inline(always)]
    unsafe fn step<S: Simd, W: Multiply, const M: usize, const V: usize>(
        self,
        simd: S,
        k: usize,
        right: *const u32,
        sums: &mut [[S::F32; V]; M],
    ) {
        let mut vectors = [simd.splat(0.0); V];
        for (v, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: a vector below `V` of a word that the caller promises to be readable.
            *vector = unsafe { simd.load_at(right.add(v * self.right_vector).cast()) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above, of a row below `M`. Rows of bf16 may be unaligned words.
            let word = unsafe { self.left.add(i * self.left_row + k).read_unaligned() };
            let word = simd.splat(f32::from_bits(word));
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = W::step(simd, word, vector, *sum);
            }
        }
    }

    /// The sums to begin with.
    ///
    /// # Safety
    /// As [`ComputeTile::new`], `M` is the number of rows and `V` that of vectors.
    #[inline(always)]
    unsafe fn start<S: Simd, const M: usize, const V: usize>(self, simd: S) -> [[S::F32; V]; M] {
        let mut sums = [[simd.splat(0.0); V]; M];
        if self.add {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: rows below `M` and vectors below `V`, which the caller promises.
                    *sum = unsafe { simd.load_at(self.out.add(i * self.out_row + v * S::LANES)) };
                }
            }
        }
        sums
    }

    /// # Safety
    /// As [`Self::start`].
    #[inline(always)]
    unsafe fn finish<S: Simd, const M: usize, const V: usize>(self, simd: S, sums: [[S::F32; V]; M]) {
        for (i, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                // SAFETY: as in `start`.
                unsafe { simd.store_at(*sum, self.out.add(i * self.out_row + v * S::LANES)) };
            }
        }
    }

    /// Lines are asked for in a loop around that over the words: with a line at each step, or two loops one after the other,
    /// sums of the widest tile go through memory.
    ///
    /// # Safety
    /// As [`Self::start`].
    #[inline(always)]
    unsafe fn with_lines<S: Simd, W: Multiply, const M: usize, const V: usize>(
        self,
        simd: S,
        lines: &[*const u8],
    ) {
        let Self { depth, right, right_vector, right_step, .. } = self;
        let mut lines = lines.chunks(lines.len().div_ceil(depth.div_ceil(LINE_STEPS).max(1)).max(1));
        // SAFETY: words below `depth`, and the rest is promised by the caller.
        unsafe {
            let mut sums = self.start::<S, M, V>(simd);
            let mut next = right;
            let mut k = 0;
            while k < depth {
                for line in lines.next().unwrap_or_default() {
                    prefetch(*line);
                }
                let end = depth.min(k + LINE_STEPS);
                while k < end {
                    if V >= S::PANEL_VECTORS {
                        for v in 0..V {
                            prefetch(next.wrapping_add(v * right_vector + NEXT_STEPS * right_step).cast());
                        }
                    }
                    self.step::<S, W, M, V>(simd, k, next, &mut sums);
                    next = next.wrapping_add(right_step);
                    k += 1;
                }
            }
            self.finish(simd, sums);
        }
    }

    /// # Safety
    /// As [`Self::start`].
    #[inline(always)]
    unsafe fn with_right<S: Simd, W: Multiply, const M: usize, const V: usize>(
        self,
        simd: S,
        start: *const u32,
        words: usize,
    ) {
        let Self { depth, right, right_vector, right_step, .. } = self;
        // SAFETY: as above.
        unsafe {
            let mut sums = self.start::<S, M, V>(simd);
            let mut next = right;
            for k in 0..depth {
                if k < words {
                    for v in 0..V {
                        prefetch_second(start.wrapping_add(v * right_vector + k * right_step));
                    }
                }
                self.step::<S, W, M, V>(simd, k, next, &mut sums);
                next = next.wrapping_add(right_step);
            }
            self.finish(simd, sums);
        }
    }
}
