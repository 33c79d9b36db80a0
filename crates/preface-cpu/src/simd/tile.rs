//! Register tiles of matrix products.
//!
//! A tile is `M` rows by `V` vectors of sums that stay in registers while the loop goes over the depth: each step loads
//! `V` vectors of the right factor, broadcasts one word of each of the `M` rows of the left, and does `M V` multiply-adds.
//! A *word* is 32 bits: one `f32`, or two neighbouring bf16 that one instruction multiplies and adds as a pair. The right
//! factor is a *panel*, `[word][column]`, so that its loads are consecutive; the left factor lies as the rows lie.
//!
//! Nine rows by three vectors is what 32 registers hold (27 sums, three vectors, one word); six by two for 16 registers.

use super::{Kernel, Simd, prefetch};

/// Operands of a tile.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Rows, at most [`Simd::PANEL_ROWS`].
    pub rows: usize,
    /// Words to sum over.
    pub depth: usize,
    /// First word of the first row.
    pub left: *const u32,
    /// Words from one row to the next.
    pub left_row: usize,
    /// The panel.
    pub right: *const u32,
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

/// Computes one tile.
pub struct ComputeTile {
    words: Words,
    tile: Tile,
}

impl ComputeTile {
    /// # Safety
    /// For `rows` rows, `left` is valid for reading `depth` words of each and `out` for reading and writing
    /// [`Simd::PANEL_VECTORS`] vectors of each; `right` is valid for reading `depth` rows of as many vectors; for the
    /// instruction set that the kernel will be run with.
    pub unsafe fn new(words: Words, tile: Tile) -> Self {
        Self { words, tile }
    }
}

impl Kernel for ComputeTile {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: promised when `self` was made; the last parameter is the number of vectors.
        unsafe {
            match (self.words, S::PANEL_VECTORS) {
                (Words::Floats, 3) => self.tile.rows::<S, Floats, 3>(simd),
                (Words::Floats, 2) => self.tile.rows::<S, Floats, 2>(simd),
                (Words::Floats, _) => self.tile.rows::<S, Floats, 1>(simd),
                (Words::Pairs, 3) => self.tile.rows::<S, Pairs, 3>(simd),
                (Words::Pairs, 2) => self.tile.rows::<S, Pairs, 2>(simd),
                (Words::Pairs, _) => self.tile.rows::<S, Pairs, 1>(simd),
            }
        }
    }
}

impl Tile {
    /// # Safety
    /// As [`ComputeTile::new`], and `V` is [`Simd::PANEL_VECTORS`].
    #[inline(always)]
    unsafe fn rows<S: Simd, W: Multiply, const V: usize>(self, simd: S) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.rows {
                9 if S::PANEL_ROWS >= 9 => self.compute::<S, W, 9, V>(simd),
                8 if S::PANEL_ROWS >= 8 => self.compute::<S, W, 8, V>(simd),
                7 if S::PANEL_ROWS >= 7 => self.compute::<S, W, 7, V>(simd),
                6 if S::PANEL_ROWS >= 6 => self.compute::<S, W, 6, V>(simd),
                5 if S::PANEL_ROWS >= 5 => self.compute::<S, W, 5, V>(simd),
                4 => self.compute::<S, W, 4, V>(simd),
                3 => self.compute::<S, W, 3, V>(simd),
                2 => self.compute::<S, W, 2, V>(simd),
                1 => self.compute::<S, W, 1, V>(simd),
                rows => unreachable!("a tile of {rows} rows"),
            }
        }
    }

    /// # Safety
    /// As [`ComputeTile::new`], `M` is the number of rows and `V` is [`Simd::PANEL_VECTORS`].
    #[inline(always)]
    unsafe fn compute<S: Simd, W: Multiply, const M: usize, const V: usize>(self, simd: S) {
        let Self { depth, left, left_row, right, out, out_row, add, .. } = self;
        // SAFETY: offsets are of rows below `M`, of words below `depth` and of vectors below `V`, which the caller
        // promises to be readable (and writable, in `out`). Rows of bf16 may be unaligned words.
        unsafe {
            let mut sums = [[simd.splat(0.0); V]; M];
            if add {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.load_at(out.add(i * out_row + v * S::LANES));
                    }
                }
            }
            let mut panel = right.cast::<f32>();
            for k in 0..depth {
                let mut vectors = [simd.splat(0.0); V];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    *vector = simd.load_at(panel.add(v * S::LANES));
                }
                panel = panel.add(V * S::LANES);
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

/// Products of a few rows with a weight as it lies: `N` of its rows at a time, each with `M` rows of the left factor,
/// vectors along the depth. Nothing is packed, because each element of the weight is used a few times only.
pub struct Dots {
    words: Words,
    dots: DotRows,
}

/// How many rows of the weight [`Dots`] reads ahead: some thousand bytes.
const PREFETCH_ROWS: usize = 8;

/// Operands of [`Dots`]. Both sides are rows of whole words.
#[derive(Clone, Copy)]
pub struct DotRows {
    pub left: *const u32,
    pub left_row: usize,
    pub n_left: usize,
    pub right: *const u32,
    pub right_row: usize,
    pub n_right: usize,
    pub depth: usize,
    pub out: *mut f32,
    pub out_row: usize,
    pub add: bool,
}

impl Dots {
    /// # Safety
    /// `left` is valid for reading `n_left` rows, and `right` for reading `n_right` rows, of `depth` words each; `out`
    /// for reading and writing `n_left` rows of `n_right` sums.
    pub unsafe fn new(words: Words, dots: DotRows) -> Self {
        Self { words, dots }
    }
}

impl Kernel for Dots {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: promised when `self` was made.
        unsafe {
            match self.words {
                Words::Floats => self.dots.blocks::<S, Floats>(simd),
                Words::Pairs => self.dots.blocks::<S, Pairs>(simd),
            }
        }
    }
}

impl DotRows {
    /// # Safety
    /// As [`Dots::new`].
    #[inline(always)]
    unsafe fn blocks<S: Simd, W: Multiply>(self, simd: S) {
        let Self { n_left, n_right, .. } = self;
        for right in (0..n_right).step_by(4) {
            for left in (0..n_left).step_by(4) {
                // SAFETY: as the caller promises, for rows below `n_left` and `n_right`.
                unsafe {
                    match ((n_left - left).min(4), (n_right - right).min(4)) {
                        (4, 4) => self.compute::<S, W, 4, 4>(simd, left, right),
                        (3, 4) => self.compute::<S, W, 3, 4>(simd, left, right),
                        (2, 4) => self.compute::<S, W, 2, 4>(simd, left, right),
                        (1, 4) => self.compute::<S, W, 1, 4>(simd, left, right),
                        (rows, columns) => {
                            for i in 0..rows {
                                for j in 0..columns {
                                    self.compute::<S, W, 1, 1>(simd, left + i, right + j);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    /// `M` rows from `first_left` and `N` rows from `first_right` exist.
    #[inline(always)]
    unsafe fn compute<S: Simd, W: Multiply, const M: usize, const N: usize>(
        self,
        simd: S,
        first_left: usize,
        first_right: usize,
    ) {
        let Self { left, left_row, right, right_row, depth, out, out_row, add, .. } = self;
        let whole = depth - depth % S::LANES;
        // SAFETY: rows exist as the caller promises; words are below `depth`, in whole vectors below `whole` and one by
        // one above. Unaligned loads are allowed.
        unsafe {
            let left: [*const u32; M] = std::array::from_fn(|i| left.add((first_left + i) * left_row));
            let right: [*const u32; N] = std::array::from_fn(|j| right.add((first_right + j) * right_row));
            let mut sums = [[simd.splat(0.0); N]; M];
            for k in (0..whole).step_by(S::LANES) {
                let mut vectors = [simd.splat(0.0); N];
                for (vector, row) in vectors.iter_mut().zip(right) {
                    // The weight is read once, from main memory, in pieces too short for the hardware's prefetcher.
                    prefetch(row.wrapping_add(k + PREFETCH_ROWS * right_row).cast(), 1);
                    *vector = simd.load_at(row.add(k).cast());
                }
                for (sums, row) in sums.iter_mut().zip(left) {
                    let vector = simd.load_at(row.add(k).cast());
                    for (sum, right) in sums.iter_mut().zip(vectors) {
                        *sum = W::step(simd, vector, right, *sum);
                    }
                }
            }
            for k in whole..depth {
                // One word in the first lane; zeros elsewhere add nothing.
                for (sums, left) in sums.iter_mut().zip(left) {
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = W::step(simd, word(simd, left.add(k)), word(simd, right.add(k)), *sum);
                    }
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                let out = out.add((first_left + i) * out_row + first_right);
                let put = |j: usize, sum: f32| *out.add(j) = if add { *out.add(j) } else { 0.0 } + sum;
                match sums.first_chunk::<4>() {
                    Some(four) => {
                        simd.sum_each(*four).into_iter().enumerate().for_each(|(j, sum)| put(j, sum))
                    }
                    None => sums.into_iter().enumerate().for_each(|(j, sum)| put(j, simd.sum(sum))),
                }
            }
        }
    }
}

/// # Safety
/// `from` is valid for reading a word.
#[inline(always)]
unsafe fn word<S: Simd>(simd: S, from: *const u32) -> S::F32 {
    // SAFETY: as the caller promises.
    simd.load_part(&[f32::from_bits(unsafe { from.read_unaligned() })], 0.0)
}
