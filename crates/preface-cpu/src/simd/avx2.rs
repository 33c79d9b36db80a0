//! AVX2, FMA and F16C: eight lanes.

use std::arch::x86_64::*;

use half::bf16;

use super::{Kernel, SQUARE, Simd};

/// Exists only where the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// None if the CPU lacks something.
    pub fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }

    /// Runs `kernel`, compiled for these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn shell<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so `new` found the features that `shell` is compiled for.
        unsafe { shell(self, kernel) }
    }
}

macro_rules! intrinsics {
    ($($name:ident($($argument:ident),*) = $intrinsic:ident;)*) => { $(
        #[inline(always)]
        fn $name(self, $($argument: __m256),*) -> __m256 {
            // SAFETY: `self` exists, so the CPU has the instruction; there is no other condition.
            unsafe { $intrinsic($($argument),*) }
        }
    )* };
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    const TILE_VECTORS: usize = 2;
    const PANEL_ROWS: usize = 6;
    const PANEL_VECTORS: usize = 2;
    type F32 = __m256;
    type I32 = __m256i;

    #[inline]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        self.run(kernel)
    }

    #[inline(always)]
    unsafe fn turn(self, from: [*const u32; SQUARE], to: *mut u32, to_row: usize) {
        // SAFETY: the instructions exist (`self`); memory is as the caller promises.
        unsafe { turn_square(from, to, to_row) }
    }

    #[inline(always)]
    unsafe fn turn_pairs(self, from: *const u32, from_word: usize, to: *mut u32, to_row: usize) {
        // SAFETY: the instructions exist (`self`); memory is as the caller promises.
        unsafe { turn_square_pairs(from, from_word, to, to_row) }
    }

    intrinsics! {
        add(a, b) = _mm256_add_ps;
        sub(a, b) = _mm256_sub_ps;
        mul(a, b) = _mm256_mul_ps;
        div(a, b) = _mm256_div_ps;
        mul_add(a, b, c) = _mm256_fmadd_ps;
        max(a, b) = _mm256_max_ps;
        min(a, b) = _mm256_min_ps;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` exists, so the CPU has the instruction.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> __m256 {
        // SAFETY: the instruction exists (`self`); the caller gives eight readable elements; no alignment needed.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_at(self, value: __m256, to: *mut f32) {
        // SAFETY: the instruction exists (`self`); the caller gives eight writable elements; no alignment needed.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn widen_at(self, from: *const bf16) -> __m256 {
        // SAFETY: the instructions exist (`self`); 16 bytes are the caller's eight bf16; no alignment needed.
        unsafe {
            let halves = _mm_loadu_si128(from.cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        }
    }

    #[inline(always)]
    unsafe fn narrow_at(self, value: __m256, to: *mut bf16) {
        // SAFETY: the instructions exist (`self`); 16 bytes are the caller's eight bf16; no alignment needed.
        unsafe {
            let bits = _mm256_castps_si256(value);
            // To nearest even: add 0x7fff and the lowest bit that stays. A NaN's bits could overflow: it becomes
            // the quiet NaN.
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(value, value));
            let rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0_0000), nan);
            let words = _mm256_srli_epi32::<16>(rounded);
            let packed = _mm256_packus_epi32(words, words);
            let packed = _mm256_permute4x64_epi64::<0b00_00_10_00>(packed);
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
        }
    }

    #[inline(always)]
    fn zero_below(self, x: __m256, limit: __m256, value: __m256) -> __m256 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, limit), value) }
    }

    #[inline(always)]
    fn power_of_low_bits(self, x: __m256) -> __m256 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(x));
            _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_castps_si256(_mm256_set1_ps(1.0))))
        }
    }

    #[inline(always)]
    fn first_half(self, x: __m256) -> __m256 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(x))) }
    }

    #[inline(always)]
    fn second_half(self, x: __m256) -> __m256 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(x), upper))
        }
    }

    #[inline(always)]
    fn pair(self, first: __m256, second: __m256) -> __m256 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let upper = _mm256_and_si256(rounded(second), _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
            _mm256_castsi256_ps(_mm256_or_si256(_mm256_srli_epi32::<16>(rounded(first)), upper))
        }
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> __m256i {
        // SAFETY: the instruction exists (`self`); the caller gives eight readable words; no alignment needed.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn widen_halves(self, from: *const u8) -> __m256 {
        // SAFETY: the instructions exist (`self`); the caller gives eight readable halves; no alignment needed.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    fn splat_word(self, x: u32) -> __m256i {
        // SAFETY: `self` exists, so the CPU has the instruction.
        unsafe { _mm256_set1_epi32(x.cast_signed()) }
    }

    #[inline(always)]
    fn bits(self, x: __m256i, right: i32, mask: u32) -> __m256i {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let count = _mm_cvtsi32_si128(right.abs());
            let shifted = if right >= 0 { _mm256_srl_epi32(x, count) } else { _mm256_sll_epi32(x, count) };
            _mm256_and_si256(shifted, _mm256_set1_epi32(mask.cast_signed()))
        }
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` exists, so the CPU has the instruction.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    fn dot_bytes(self, sum: __m256i, left: __m256i, right: __m256i) -> __m256i {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            // Even and odd bytes as 16-bit numbers; no product of two pairs leaves 32 bits.
            let even = _mm256_and_si256(left, _mm256_set1_epi16(0xff));
            let odd = _mm256_srli_epi16::<8>(left);
            let even_right = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(right));
            let odd_right = _mm256_srai_epi16::<8>(right);
            let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, even_right));
            _mm256_add_epi32(sum, _mm256_madd_epi16(odd, odd_right))
        }
    }

    #[inline(always)]
    fn to_floats(self, x: __m256i) -> __m256 {
        // SAFETY: `self` exists, so the CPU has the instruction.
        unsafe { _mm256_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn sum_each(self, x: [__m256; 4]) -> [f32; 4] {
        // Not `x.map`: what it calls is not compiled for these instructions.
        let [a, b, c, d] = x;
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { sum_fours([halve(a), halve(b), halve(c), halve(d)]) }
    }

    #[inline(always)]
    fn sum(self, x: __m256) -> f32 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self, x: __m256) -> f32 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

/// The last steps of [`Simd::sum`] for four vectors at once.
#[target_feature(enable = "avx")]
#[inline]
pub(super) fn sum_fours([a, b, c, d]: [__m128; 4]) -> [f32; 4] {
    // Elements 0 + 2 and 1 + 3 of `a` and `b`, then of `c` and `d`.
    let ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    let cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    let sums = _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
    let mut out = [0.0; 4];
    // SAFETY: `out` has the four elements that are written; no alignment needed.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

/// The sum of the halves.
#[target_feature(enable = "avx")]
#[inline]
pub(super) fn halve(x: __m256) -> __m128 {
    _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x))
}

/// [`Simd::turn`]: pairs of rows are interleaved, then pairs of those, then halves are exchanged.
///
/// # Safety
/// As [`Simd::turn`].
#[target_feature(enable = "avx")]
#[inline]
pub(super) unsafe fn turn_square(from: [*const u32; SQUARE], to: *mut u32, to_row: usize) {
    // SAFETY: as the caller promises; unaligned loads and stores need no alignment.
    unsafe {
        let row = |i: usize| _mm256_loadu_ps(from[i].cast());
        let store = |j: usize, value| _mm256_storeu_ps(to.add(j * to_row).cast(), value);
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let (e, f, g, h) = (row(4), row(5), row(6), row(7));
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let (ef, gh) = (_mm256_unpacklo_ps(e, f), _mm256_unpacklo_ps(g, h));
        let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        let (ef_high, gh_high) = (_mm256_unpackhi_ps(e, f), _mm256_unpackhi_ps(g, h));
        // Words 0 and 4, 1 and 5, 2 and 6, 3 and 7 of the first four rows, then of the last four.
        let first = [
            _mm256_shuffle_ps::<0x44>(ab, cd),
            _mm256_shuffle_ps::<0xee>(ab, cd),
            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
        ];
        let last = [
            _mm256_shuffle_ps::<0x44>(ef, gh),
            _mm256_shuffle_ps::<0xee>(ef, gh),
            _mm256_shuffle_ps::<0x44>(ef_high, gh_high),
            _mm256_shuffle_ps::<0xee>(ef_high, gh_high),
        ];
        for j in 0..4 {
            store(j, _mm256_permute2f128_ps::<0x20>(first[j], last[j]));
            store(j + 4, _mm256_permute2f128_ps::<0x31>(first[j], last[j]));
        }
    }
}

/// [`Simd::turn_pairs`]
///
/// # Safety
/// As there, and the CPU has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn turn_square_pairs(from: *const u32, from_word: usize, to: *mut u32, to_row: usize) {
    // SAFETY: as the caller promises; unaligned loads and stores need no alignment.
    unsafe {
        // In each 64 bits (two rows, two columns each): the first columns of both rows, then the second ones.
        let order = _mm256_setr_epi8(
            0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, //
            0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
        );
        for half in 0..2 {
            let word = |i: usize| {
                let words = _mm256_loadu_si256(from.add((4 * half + i) * from_word).cast());
                _mm256_shuffle_epi8(words, order)
            };
            let (a, b, c, d) = (word(0), word(1), word(2), word(3));
            // Pairs of rows 0 and 2, then 1 and 3.
            let (ab, cd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d));
            let (ab_high, cd_high) = (_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d));
            let store =
                |pair: usize, value| _mm256_storeu_si256(to.add(pair * to_row + 8 * half).cast(), value);
            store(0, _mm256_permute2x128_si256::<0x20>(ab, cd));
            store(1, _mm256_permute2x128_si256::<0x20>(ab_high, cd_high));
            store(2, _mm256_permute2x128_si256::<0x31>(ab, cd));
            store(3, _mm256_permute2x128_si256::<0x31>(ab_high, cd_high));
        }
    }
}

/// Bits of numbers of which the upper halves are them rounded to bf16, to nearest even; a NaN becomes the quiet one.
#[target_feature(enable = "avx2")]
#[inline]
fn rounded(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
    _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0_0000), nan)
}
