//! AVX-512: sixteen lanes.

use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::avx2::turn_square;
use super::{Kernel, SQUARE, Simd, add_pairs};

/// Exists only where the CPU has AVX-512 F, BW, DQ and VL, and BF16 if so called.
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
            && (!BF16 || is_x86_feature_detected!("avx512bf16"));
        found.then_some(Self(()))
    }

    /// Runs `kernel`, compiled for these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn shell<const BF16: bool, K: Kernel>(simd: Avx512<BF16>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
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
    const PANEL_ROWS: usize = 9;
    const PANEL_VECTORS: usize = 3;
    type F32 = __m512;

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
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { _mm512_reduce_add_ps(x) }
    }

    #[inline(always)]
    fn largest(self, x: __m512) -> f32 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { _mm512_reduce_max_ps(x) }
    }
}
