//! The vector abstraction: kernels are written once over [`Simd`], and each instruction set is a thin shell.
//!
//! A value of an implementing type is the proof that the CPU has the instructions that its methods use, so the
//! arithmetic methods are safe. Kernels are `#[inline(always)]` functions generic over `S: Simd`, entered through
//! [`crate::tier::Tier::run`], whose shells carry the `#[target_feature]` attribute: without it an intrinsic is
//! not inlined and everything becomes many times slower. For the same reason closures that kernels pass on are marked
//! `#[inline(always)]`: one that is used at two places could otherwise stay a function without the instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod requests;
mod scalar;
#[cfg(test)]
mod tests;
mod tile;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use math::{
    exact_gelu_slope, exact_gelu_value, exp, gelu_slope, gelu_value, relu_slope, relu_value, sigmoid,
};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use requests::{Requests, Span};
pub use scalar::Scalar;
#[cfg(test)]
pub use tile::most_rows;
pub use tile::{Ahead, ComputeTile, TILE_ROWS, Tile, Words};

use half::bf16;

/// No instruction set has more lanes.
pub const MAX_LANES: usize = 16;

/// Side of the square that [`Simd::turn`] turns.
pub const SQUARE: usize = 8;

/// Something to compute with the instructions of a tier.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Computes. Implementations are `#[inline(always)]`, as is all they call.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// `f32` vectors of one instruction set.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Elements of a vector, at most [`MAX_LANES`].
    const LANES: usize;
    /// Vectors across a register tile of [`TILE_ROWS`] rows, as many as the registers hold.
    const TILE_VECTORS: usize;
    /// Columns of such a tile.
    const TILE_COLUMNS: usize = Self::TILE_VECTORS * Self::LANES;
    /// Whether one instruction multiplies pairs of bf16; where none does, products of `f32` are faster.
    const MULTIPLIES_PAIRS: bool = false;
    /// Rows of a tile of a matrix product, and its vectors: see [`Tile`].
    const PANEL_ROWS: usize;
    /// Vectors of a tile of a matrix product.
    const PANEL_VECTORS: usize;
    /// Columns of a tile of a matrix product.
    const PANEL_COLUMNS: usize = Self::PANEL_VECTORS * Self::LANES;
    /// Rows of a strip of a matrix product, at least [`Self::PANEL_ROWS`], and its vectors: see [`Tile`].
    const STRIP_ROWS: usize = Self::PANEL_ROWS;
    /// Vectors of a strip of a matrix product, at most those of a group of columns.
    const STRIP_VECTORS: usize = Self::PANEL_VECTORS;
    /// The vector.
    type F32: Copy;
    /// As many 32-bit integers.
    type I32: Copy;

    /// Runs a kernel as a function of its own, compiled once however often it is used.
    fn enter<K: Kernel>(self, kernel: K) -> K::Output;

    /// Turns a square of [`SQUARE`] words: word `j` of row `i` of `from` becomes word `i` of row `j` of `to`.
    ///
    /// # Safety
    /// Each of `from` is valid for reading `SQUARE` words; `to` for writing as many in each of `SQUARE` rows that are
    /// `to_row` words apart.
    #[inline(always)]
    unsafe fn turn(self, from: [*const u32; SQUARE], to: *mut u32, to_row: usize) {
        for (i, from) in from.into_iter().enumerate() {
            for j in 0..SQUARE {
                // SAFETY: as the caller promises.
                unsafe { to.add(j * to_row + i).write(from.add(j).read()) };
            }
        }
    }

    /// Turns bf16 numbers into rows of pairs. Word `w` of row `r`, at `from[w * from_word + r]`, holds the columns `2 w` and
    /// `2 w + 1` of the row; column `c` of the rows `2 p` and `2 p + 1` becomes word `c` of row `p` of `to`. [`SQUARE`] rows of
    /// as many words, so half as many rows of twice as many.
    ///
    /// # Safety
    /// `from` is valid for reading `SQUARE` words from each of `SQUARE` places that are `from_word` words apart; `to` for
    /// writing `2 SQUARE` words in each of `SQUARE / 2` rows that are `to_row` words apart.
    #[inline(always)]
    unsafe fn turn_pairs(self, from: *const u32, from_word: usize, to: *mut u32, to_row: usize) {
        for pair in 0..SQUARE / 2 {
            for word in 0..SQUARE {
                // SAFETY: as the caller promises.
                unsafe {
                    let first = from.add(word * from_word + 2 * pair).read();
                    let second = from.add(word * from_word + 2 * pair + 1).read();
                    let to = to.add(pair * to_row + 2 * word);
                    to.write(first & 0xffff | second << 16);
                    to.add(1).write(first >> 16 | second & 0xffff_0000);
                }
            }
        }
    }

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// The first lanes of `from`.
    ///
    /// # Safety
    /// `from` is valid for reading [`Self::LANES`] elements; it need not be aligned.
    unsafe fn load_at(self, from: *const f32) -> Self::F32;
    /// Stores all lanes.
    ///
    /// # Safety
    /// `to` is valid for writing [`Self::LANES`] elements.
    unsafe fn store_at(self, value: Self::F32, to: *mut f32);
    /// Reads bf16 numbers.
    ///
    /// # Safety
    /// `from` is valid for reading [`Self::LANES`] elements.
    unsafe fn widen_at(self, from: *const bf16) -> Self::F32;
    /// Rounds to bf16, to nearest even; NaN stays NaN.
    ///
    /// # Safety
    /// `to` is valid for writing [`Self::LANES`] elements.
    unsafe fn narrow_at(self, value: Self::F32, to: *mut bf16);

    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `left * right + sum` where each lane holds two bf16: both products are added.
    #[inline(always)]
    fn mul_add_pairs(self, left: Self::F32, right: Self::F32, sum: Self::F32) -> Self::F32 {
        add_pairs(self, left, right, sum)
    }
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `value` where `x >= limit` or either is NaN, else zero.
    fn zero_below(self, x: Self::F32, limit: Self::F32, value: Self::F32) -> Self::F32;
    /// Bits shifted left by 23, plus the bits of 1.0: `2^n` where the low bits of `x` hold the integer `n`.
    fn power_of_low_bits(self, x: Self::F32) -> Self::F32;
    /// The bf16 in the lower half of each lane, as `f32`.
    fn first_half(self, x: Self::F32) -> Self::F32;
    /// The bf16 in the upper half of each lane, as `f32`.
    fn second_half(self, x: Self::F32) -> Self::F32;
    /// Two numbers for each lane, rounded to bf16 to nearest even: `first` in its lower half, `second` in its upper.
    fn pair(self, first: Self::F32, second: Self::F32) -> Self::F32;

    /// Reads words.
    ///
    /// # Safety
    /// `from` is valid for reading [`Self::LANES`] words; it need not be aligned.
    unsafe fn load_words(self, from: *const u8) -> Self::I32;
    /// Reads IEEE halves.
    ///
    /// # Safety
    /// `from` is valid for reading [`Self::LANES`] halves; it need not be aligned.
    unsafe fn widen_halves(self, from: *const u8) -> Self::F32;
    /// All lanes `x`.
    fn splat_word(self, x: u32) -> Self::I32;
    /// Bits of each lane, shifted right (left, if negative) and masked. The shift is a constant at every place of use.
    fn bits(self, x: Self::I32, right: i32, mask: u32) -> Self::I32;
    /// `a | b`
    fn or(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `sum + the four products of the bytes of each lane`: of `left` unsigned, of `right` signed.
    fn dot_bytes(self, sum: Self::I32, left: Self::I32, right: Self::I32) -> Self::I32;
    /// Signed integers to `f32`.
    fn to_floats(self, x: Self::I32) -> Self::F32;

    /// Sum of the lanes.
    fn sum(self, x: Self::F32) -> f32;
    /// Four sums, each the very bits of [`Self::sum`].
    #[inline(always)]
    fn sum_each(self, x: [Self::F32; 4]) -> [f32; 4] {
        x.map(|x| self.sum(x))
    }
    /// Largest lane.
    fn largest(self, x: Self::F32) -> f32;

    /// The first lanes of `from`.
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::F32 {
        assert!(from.len() >= Self::LANES);
        // SAFETY: the slice has enough elements.
        unsafe { self.load_at(from.as_ptr()) }
    }

    /// Stores all lanes to the start of `to`.
    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32]) {
        assert!(to.len() >= Self::LANES);
        // SAFETY: the slice has enough elements.
        unsafe { self.store_at(value, to.as_mut_ptr()) }
    }

    /// `from`, shorter than a vector, with `fill` in the lanes beyond it.
    #[inline(always)]
    fn load_part(self, from: &[f32], fill: f32) -> Self::F32 {
        let mut padded = [fill; MAX_LANES];
        padded[..from.len()].copy_from_slice(from);
        self.load(&padded)
    }

    /// Stores the first `to.len()` lanes.
    #[inline(always)]
    fn store_part(self, value: Self::F32, to: &mut [f32]) {
        let mut padded = [0.0; MAX_LANES];
        self.store(value, &mut padded);
        to.copy_from_slice(&padded[..to.len()]);
    }
}

/// Asks for a cache line ahead of its use.
#[inline(always)]
pub fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it reads nothing, faults on no address, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for one cache line, into the second-level cache alone: what is wanted later than the first would keep it.
#[inline(always)]
pub fn prefetch_second(at: *const u32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it reads nothing, faults on no address, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// `to[w, j] = from[j][w]` for the first `n_word` words of each row; rows that are none count as zeros. Rows of `to` are
/// `to_row` words apart.
#[inline(always)]
pub fn turn_rows<S: Simd>(
    simd: S,
    from: [Option<&[u32]>; SQUARE],
    n_word: usize,
    to: &mut [u32],
    to_row: usize,
) {
    let mut whole = 0;
    if let [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f), Some(g), Some(h)] = from {
        let rows = [a, b, c, d, e, f, g, h];
        for row in rows {
            assert!(row.len() >= n_word);
        }
        whole = n_word - n_word % SQUARE;
        assert!(whole == 0 || to.len() >= (whole - 1) * to_row + SQUARE);
        for word in (0..whole).step_by(SQUARE) {
            // SAFETY: `word + SQUARE <= n_word` words of each row exist, and rows of `to` up to the last of these.
            unsafe {
                let mut from = [std::ptr::null(); SQUARE];
                for (from, row) in from.iter_mut().zip(rows) {
                    *from = row.as_ptr().add(word);
                }
                simd.turn(from, to.as_mut_ptr().add(word * to_row), to_row);
            }
        }
    }
    for word in whole..n_word {
        for (to, row) in to[word * to_row..][..SQUARE].iter_mut().zip(from) {
            *to = row.map_or(0, |row| row[word]);
        }
    }
}

/// [`Simd::mul_add_pairs`] for instruction sets that multiply no bf16.
#[inline(always)]
fn add_pairs<S: Simd>(simd: S, left: S::F32, right: S::F32, sum: S::F32) -> S::F32 {
    let sum = simd.mul_add(simd.second_half(left), simd.second_half(right), sum);
    simd.mul_add(simd.first_half(left), simd.first_half(right), sum)
}

/// `out[i] = f(a[i])`, lane by lane; `f` must not mix lanes.
#[inline(always)]
pub fn map<S: Simd>(simd: S, a: &[f32], out: &mut [f32], f: impl Fn(S::F32) -> S::F32) {
    assert_eq!(a.len(), out.len());
    let (mut a, mut out) = (a.chunks_exact(S::LANES), out.chunks_exact_mut(S::LANES));
    for (a, out) in (&mut a).zip(&mut out) {
        simd.store(f(simd.load(a)), out);
    }
    let (a, out) = (a.remainder(), out.into_remainder());
    if !a.is_empty() {
        simd.store_part(f(simd.load_part(a, 0.0)), out);
    }
}

/// `out[i] = f(out[i], a[i])`, lane by lane.
#[inline(always)]
pub fn update<S: Simd>(simd: S, out: &mut [f32], a: &[f32], f: impl Fn(S::F32, S::F32) -> S::F32) {
    assert_eq!(a.len(), out.len());
    let (mut a, mut out) = (a.chunks_exact(S::LANES), out.chunks_exact_mut(S::LANES));
    for (a, out) in (&mut a).zip(&mut out) {
        simd.store(f(simd.load(out), simd.load(a)), out);
    }
    let (a, out) = (a.remainder(), out.into_remainder());
    if !a.is_empty() {
        simd.store_part(f(simd.load_part(out, 0.0), simd.load_part(a, 0.0)), out);
    }
}

/// `out[i] = f(a[i], b[i])`, lane by lane.
#[inline(always)]
pub fn combine<S: Simd>(
    simd: S,
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    f: impl Fn(S::F32, S::F32) -> S::F32,
) {
    assert!(a.len() == out.len() && b.len() == out.len());
    let (mut a, mut b) = (a.chunks_exact(S::LANES), b.chunks_exact(S::LANES));
    let mut out = out.chunks_exact_mut(S::LANES);
    for ((a, b), out) in (&mut a).zip(&mut b).zip(&mut out) {
        simd.store(f(simd.load(a), simd.load(b)), out);
    }
    let (a, b, out) = (a.remainder(), b.remainder(), out.into_remainder());
    if !a.is_empty() {
        simd.store_part(f(simd.load_part(a, 0.0), simd.load_part(b, 0.0)), out);
    }
}

/// `sum of f(a[i], b[i])`, where `f` of two zeros is zero.
#[inline(always)]
pub fn sum2<S: Simd>(simd: S, a: &[f32], b: &[f32], f: impl Fn(S::F32, S::F32) -> S::F32) -> f32 {
    assert_eq!(a.len(), b.len());
    let (mut a, mut b) = (a.chunks_exact(S::LANES), b.chunks_exact(S::LANES));
    let mut total = simd.splat(0.0);
    for (a, b) in (&mut a).zip(&mut b) {
        total = simd.add(total, f(simd.load(a), simd.load(b)));
    }
    let (a, b) = (a.remainder(), b.remainder());
    if !a.is_empty() {
        total = simd.add(total, f(simd.load_part(a, 0.0), simd.load_part(b, 0.0)));
    }
    simd.sum(total)
}

/// `<a, b>`
#[inline(always)]
pub fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    sum2(
        simd,
        a,
        b,
        #[inline(always)]
        |a, b| simd.mul(a, b),
    )
}

/// Largest element; negative infinity of none.
#[inline(always)]
pub fn largest<S: Simd>(simd: S, a: &[f32]) -> f32 {
    let mut chunks = a.chunks_exact(S::LANES);
    let mut most = simd.splat(f32::NEG_INFINITY);
    for chunk in &mut chunks {
        most = simd.max(simd.load(chunk), most);
    }
    if !chunks.remainder().is_empty() {
        most = simd.max(simd.load_part(chunks.remainder(), f32::NEG_INFINITY), most);
    }
    simd.largest(most)
}

/// `a[i] = exp(factor * a[i] - shift)` in place; returns the sum of the results.
#[inline(always)]
pub fn exp_sum<S: Simd>(simd: S, a: &mut [f32], factor: f32, shift: f32) -> f32 {
    let (factor, minus_shift) = (simd.splat(factor), simd.splat(-shift));
    let mut total = simd.splat(0.0);
    let mut chunks = a.chunks_exact_mut(S::LANES);
    for chunk in &mut chunks {
        let e = exp(simd, simd.mul_add(simd.load(chunk), factor, minus_shift));
        simd.store(e, chunk);
        total = simd.add(total, e);
    }
    let rest = chunks.into_remainder();
    let mut sum = simd.sum(total);
    if !rest.is_empty() {
        let e = exp(simd, simd.mul_add(simd.load_part(rest, 0.0), factor, minus_shift));
        simd.store_part(e, rest);
        sum += rest.iter().sum::<f32>();
    }
    sum
}

/// `to[j]` holds `first[j]` and `second[j]`, whole vectors of them; nothing stands for zeros.
#[inline(always)]
pub fn pair_halves<S: Simd>(simd: S, first: &[bf16], second: Option<&[bf16]>, to: &mut [u32]) {
    let n = to.len();
    assert!(n.is_multiple_of(S::LANES) && first.len() == n && second.is_none_or(|second| second.len() == n));
    let to: &mut [f32] = bytemuck::cast_slice_mut(to);
    for at in (0..n).step_by(S::LANES) {
        // SAFETY: `LANES` numbers from `at` on exist in both: asserted.
        let (first, second) = unsafe {
            let first = simd.widen_at(first.as_ptr().add(at));
            match second {
                Some(second) => (first, simd.widen_at(second.as_ptr().add(at))),
                None => (first, simd.splat(0.0)),
            }
        };
        simd.store(simd.pair(first, second), &mut to[at..]);
    }
}

/// The same of numbers that are to be rounded.
#[inline(always)]
pub fn pair_floats<S: Simd>(simd: S, first: &[f32], second: Option<&[f32]>, to: &mut [u32]) {
    let n = to.len();
    assert!(n.is_multiple_of(S::LANES) && first.len() == n && second.is_none_or(|second| second.len() == n));
    let to: &mut [f32] = bytemuck::cast_slice_mut(to);
    for at in (0..n).step_by(S::LANES) {
        let second = if let Some(second) = second { simd.load(&second[at..]) } else { simd.splat(0.0) };
        simd.store(simd.pair(simd.load(&first[at..]), second), &mut to[at..]);
    }
}

/// bf16 to `f32`.
#[inline(always)]
pub fn widen<S: Simd>(simd: S, from: &[bf16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    let (mut from, mut to) = (from.chunks_exact(S::LANES), to.chunks_exact_mut(S::LANES));
    for (from, to) in (&mut from).zip(&mut to) {
        // SAFETY: both chunks have exactly `LANES` elements.
        unsafe { simd.store_at(simd.widen_at(from.as_ptr()), to.as_mut_ptr()) };
    }
    for (from, to) in from.remainder().iter().zip(to.into_remainder()) {
        *to = from.to_f32();
    }
}

/// `f32` to bf16.
#[inline(always)]
pub fn narrow<S: Simd>(simd: S, from: &[f32], to: &mut [bf16]) {
    assert_eq!(from.len(), to.len());
    let (mut from, mut to) = (from.chunks_exact(S::LANES), to.chunks_exact_mut(S::LANES));
    for (from, to) in (&mut from).zip(&mut to) {
        // SAFETY: both chunks have exactly `LANES` elements.
        unsafe { simd.narrow_at(simd.load_at(from.as_ptr()), to.as_mut_ptr()) };
    }
    for (from, to) in from.remainder().iter().zip(to.into_remainder()) {
        *to = bf16::from_f32(*from);
    }
}
