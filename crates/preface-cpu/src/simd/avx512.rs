//! AVX-512: sixteen lanes.

use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::tile::Words;
use super::{ComputeTile, DotRows, Dots, Kernel, Pairs, Simd, Tile};

/// Exists only where the CPU has AVX-512 F, BW, DQ and VL (every CPU with AVX-512 BF16 has them).
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// None if the CPU lacks something.
    pub fn new() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    /// Runs `kernel`, compiled for these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn shell<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so `new` found the features that `shell` is compiled for.
        unsafe { shell(self, kernel) }
    }
}

/// Exists only where the CPU multiplies pairs of bf16 (AVX-512 BF16).
#[derive(Clone, Copy, Debug)]
pub struct NativePairs(());

impl NativePairs {
    /// None if the CPU lacks the instruction.
    #[inline]
    pub fn new() -> Option<Self> {
        is_x86_feature_detected!("avx512bf16").then_some(Self(()))
    }

    #[inline]
    fn tile(self, simd: Avx512, tile: ComputeTile<Self>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        fn shell(simd: Avx512, tile: ComputeTile<NativePairs>) {
            tile.run(simd);
        }
        // SAFETY: `self` and `simd` exist, so the CPU has the features that `shell` is compiled for.
        unsafe { shell(simd, tile) }
    }

    #[inline]
    fn dots(self, simd: Avx512, dots: Dots<Self>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        fn shell(simd: Avx512, dots: Dots<NativePairs>) {
            dots.run(simd);
        }
        // SAFETY: `self` and `simd` exist, so the CPU has the features that `shell` is compiled for.
        unsafe { shell(simd, dots) }
    }
}

impl Words<Avx512> for NativePairs {
    #[inline(always)]
    fn step(self, _: Avx512, sum: __m512, left: __m512, right: __m512) -> __m512 {
        // SAFETY: `self` exists, so the CPU has the instruction; both types are 64 bytes for which any bits are a value.
        unsafe {
            let (left, right) = (transmute::<__m512, __m512bh>(left), transmute::<__m512, __m512bh>(right));
            _mm512_dpbf16_ps(sum, left, right)
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

impl Simd for Avx512 {
    const LANES: usize = 16;
    const TILE_VECTORS: usize = 4;
    const PANEL_ROWS: usize = 9;
    const PANEL_VECTORS: usize = 3;
    type F32 = __m512;

    #[inline]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        self.run(kernel)
    }

    #[inline]
    unsafe fn pair_tile(self, tile: Tile) {
        // SAFETY (of both): as the caller promises.
        match NativePairs::new() {
            Some(native) => native.tile(self, unsafe { ComputeTile::new(native, tile) }),
            None => self.enter(unsafe { ComputeTile::new(Pairs, tile) }),
        }
    }

    #[inline]
    unsafe fn pair_dots(self, dots: DotRows) {
        // SAFETY (of both): as the caller promises.
        match NativePairs::new() {
            Some(native) => native.dots(self, unsafe { Dots::new(native, dots) }),
            None => self.enter(unsafe { Dots::new(Pairs, dots) }),
        }
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
