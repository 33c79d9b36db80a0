//! AVX-512: sixteen lanes.

use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::avx2::{halve, sum_fours, turn_square, turn_square_pairs};
use super::{Kernel, SQUARE, Simd, add_pairs};

/// Exists only where the CPU has AVX-512 F, BW, DQ and VL, and BF16 and VNNI if so called.
#[derive(Clone, Copy, Debug)]
pub struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    /// None if the CPU lacks something.
    pub fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && (!BF16 || is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni"));
        found.then_some(Self(()))
    }

    /// Runs `kernel`, compiled for these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn shell<const BF16: bool, K: Kernel>(simd: Avx512<BF16>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma")]
        fn shell_bf16<const BF16: bool, K: Kernel>(simd: Avx512<BF16>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        if BF16 {
            // SAFETY: `self` exists, so `new` found the features that `shell_bf16` is compiled for.
            unsafe { shell_bf16(self, kernel) }
        } else {
            // SAFETY: `self` exists, so `new` found the features that `shell` is compiled for.
            unsafe { shell(self, kernel) }
        }
    }
}

macro_rules! intrinsics {
    ($($name:ident($($argument:ident),*) = $intrinsic:ident;)*) => { $(
        #[inline(always)]
        fn $name(self, $($argument: __m512),*) -> __m512 {
            // SAFETY: `self` exists, so the CPU has the instruction; there is no other condition.
            unsafe { $intrinsic($($argument),*) }
        }
    )* };
}

impl<const BF16: bool> Simd for Avx512<BF16> {
    const LANES: usize = 16;
    const TILE_VECTORS: usize = 4;
    const MULTIPLIES_PAIRS: bool = BF16;
    const PANEL_ROWS: usize = 9;
    const PANEL_VECTORS: usize = 3;
    const STRIP_ROWS: usize = 16;
    const STRIP_VECTORS: usize = 1;
    type F32 = __m512;
    type I32 = __m512i;

    #[inline]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        self.run(kernel)
    }

    #[inline(always)]
    fn mul_add_pairs(self, left: __m512, right: __m512, sum: __m512) -> __m512 {
        if !BF16 {
            return add_pairs(self, left, right, sum);
        }
        // SAFETY: `self` exists, so the CPU has the instruction; both types are 64 bytes for which any bits are a value.
        unsafe {
            let (left, right) = (transmute::<__m512, __m512bh>(left), transmute::<__m512, __m512bh>(right));
            _mm512_dpbf16_ps(sum, left, right)
        }
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
        add(a, b) = _mm512_add_ps;
        sub(a, b) = _mm512_sub_ps;
        mul(a, b) = _mm512_mul_ps;
        div(a, b) = _mm512_div_ps;
        mul_add(a, b, c) = _mm512_fmadd_ps;
        max(a, b) = _mm512_max_ps;
        min(a, b) = _mm512_min_ps;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instruction.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> __m512 {
        // SAFETY: the instruction exists (`self`); the caller gives 16 readable elements; no alignment needed.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_at(self, value: __m512, to: *mut f32) {
        // SAFETY: the instruction exists (`self`); the caller gives 16 writable elements; no alignment needed.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn widen_at(self, from: *const bf16) -> __m512 {
        // SAFETY: the instructions exist (`self`); 32 bytes are the caller's 16 bf16; no alignment needed.
        unsafe {
            let halves = _mm256_loadu_si256(from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }

    #[inline(always)]
    unsafe fn narrow_at(self, value: __m512, to: *mut bf16) {
        if BF16 {
            // SAFETY: the instruction exists (`self`); 32 bytes are the caller's 16 bf16; no alignment needed.
            unsafe { to.cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(value)) };
            return;
        }
        // SAFETY: the instructions exist (`self`); 32 bytes are the caller's 16 bf16; no alignment needed.
        unsafe {
            let bits = _mm512_castps_si512(value);
            // To nearest even: add 0x7fff and the lowest bit that stays. A NaN's bits could overflow: it becomes
            // the quiet NaN.
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
            let rounded = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0_0000));
            let words = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
            _mm256_storeu_si256(to.cast(), words);
        }
    }

    #[inline(always)]
    fn zero_below(self, x: __m512, limit: __m512, value: __m512) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, limit), value) }
    }

    #[inline(always)]
    fn power_of_low_bits(self, x: __m512) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(x));
            _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_castps_si512(_mm512_set1_ps(1.0))))
        }
    }

    #[inline(always)]
    fn first_half(self, x: __m512) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(x))) }
    }

    #[inline(always)]
    fn second_half(self, x: __m512) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper))
        }
    }

    #[inline(always)]
    fn pair(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instructions; both types are 64 bytes for which any bits are a value.
        unsafe {
            if BF16 {
                // Lower half: `first` in order, upper half: `second`.
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + 16 * (i % 2)) as u16);
                let order = _mm512_loadu_si512(order.as_ptr().cast());
                return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both));
            }
            let upper = _mm512_and_si512(rounded(second), _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32::<16>(rounded(first)), upper))
        }
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> __m512i {
        // SAFETY: the instruction exists (`self`); the caller gives 16 readable words; no alignment needed.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn widen_halves(self, from: *const u8) -> __m512 {
        // SAFETY: the instructions exist (`self`); the caller gives 16 readable halves; no alignment needed.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    fn splat_word(self, x: u32) -> __m512i {
        // SAFETY: `self` exists, so the CPU has the instruction.
        unsafe { _mm512_set1_epi32(x.cast_signed()) }
    }

    #[inline(always)]
    fn bits(self, x: __m512i, right: i32, mask: u32) -> __m512i {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let count = _mm_cvtsi32_si128(right.abs());
            let shifted = if right >= 0 { _mm512_srl_epi32(x, count) } else { _mm512_sll_epi32(x, count) };
            _mm512_and_si512(shifted, _mm512_set1_epi32(mask.cast_signed()))
        }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the CPU has the instruction.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn dot_bytes(self, sum: __m512i, left: __m512i, right: __m512i) -> __m512i {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            if BF16 {
                return _mm512_dpbusd_epi32(sum, left, right);
            }
            // Even and odd bytes as 16-bit numbers; no product of two pairs leaves 32 bits.
            let even = _mm512_and_si512(left, _mm512_set1_epi16(0xff));
            let odd = _mm512_srli_epi16::<8>(left);
            let even_right = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(right));
            let odd_right = _mm512_srai_epi16::<8>(right);
            let sum = _mm512_add_epi32(sum, _mm512_madd_epi16(even, even_right));
            _mm512_add_epi32(sum, _mm512_madd_epi16(odd, odd_right))
        }
    }

    #[inline(always)]
    fn to_floats(self, x: __m512i) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instruction.
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn sum_each(self, x: [__m512; 4]) -> [f32; 4] {
        // Not `x.map`: what it calls is not compiled for these instructions.
        let [a, b, c, d] = x;
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { sum_fours([quarter(a), quarter(b), quarter(c), quarter(d)]) }
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self, x: __m512) -> f32 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { _mm512_reduce_max_ps(x) }
    }
}

/// The sum of the halves of the sum of the halves.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn quarter(x: __m512) -> __m128 {
    halve(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)))
}

/// Bits of numbers of which the upper halves are them rounded to bf16, to nearest even; a NaN becomes the quiet one.
#[target_feature(enable = "avx512f")]
#[inline]
fn rounded(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0_0000))
}
