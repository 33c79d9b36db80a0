//! NEON: eight lanes in two registers of four, so that kernels find the width that AVX2 and plain code have.

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::{Kernel, Simd};

/// Exists only where the CPU has NEON.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

/// The first four lanes, and the last four.
type Floats = [float32x4_t; 2];
type Integers = [uint32x4_t; 2];

impl Neon {
    /// None if the CPU lacks it.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// Runs `kernel`, compiled for these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn shell<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so `new` found the feature that `shell` is compiled for.
        unsafe { shell(self, kernel) }
    }
}

/// Methods that do the same to both registers.
macro_rules! intrinsics {
    ($($name:ident($($argument:ident),*) -> $type:ty = $result:expr;)*) => { $(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) -> $type {
            // SAFETY: `self` exists, so the CPU has the instructions; there is no other condition.
            unsafe {
                [
                    { $(let $argument = $argument[0];)* $result },
                    { $(let $argument = $argument[1];)* $result },
                ]
            }
        }
    )* };
}

impl Simd for Neon {
    const LANES: usize = 8;
    const TILE_VECTORS: usize = 2;
    const PANEL_ROWS: usize = 6;
    const PANEL_VECTORS: usize = 2;
    type F32 = Floats;
    type I32 = Integers;

    #[inline]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        self.run(kernel)
    }

    intrinsics! {
        add(a, b) -> Floats = vaddq_f32(a, b);
        sub(a, b) -> Floats = vsubq_f32(a, b);
        mul(a, b) -> Floats = vmulq_f32(a, b);
        div(a, b) -> Floats = vdivq_f32(a, b);
        mul_add(a, b, c) -> Floats = vfmaq_f32(c, a, b);
        // A comparison with NaN is false, so `b` is taken.
        max(a, b) -> Floats = vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a, b) -> Floats = vbslq_f32(vcltq_f32(a, b), a, b);
        zero_below(x, limit, value) -> Floats =
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), vcltq_f32(x, limit)));
        power_of_low_bits(x) -> Floats = vreinterpretq_f32_u32(vaddq_u32(
            vshlq_n_u32::<23>(vreinterpretq_u32_f32(x)),
            vdupq_n_u32(1.0_f32.to_bits()),
        ));
        first_half(x) -> Floats = vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(x)));
        second_half(x) -> Floats =
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0xffff_0000)));
        pair(first, second) -> Floats = vreinterpretq_f32_u32(vorrq_u32(
            vshrq_n_u32::<16>(rounded(first)),
            vandq_u32(rounded(second), vdupq_n_u32(0xffff_0000)),
        ));
        or(a, b) -> Integers = vorrq_u32(a, b);
        dot_bytes(sum, left, right) -> Integers = vaddq_u32(sum, dot_four_bytes(left, right));
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Floats {
        // SAFETY: `self` exists, so the CPU has the instruction.
        [unsafe { vdupq_n_f32(x) }; 2]
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> Floats {
        // SAFETY: the instruction exists (`self`); the caller gives eight readable elements.
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4))] }
    }

    #[inline(always)]
    unsafe fn store_at(self, value: Floats, to: *mut f32) {
        // SAFETY: the instruction exists (`self`); the caller gives eight writable elements.
        unsafe {
            vst1q_f32(to, value[0]);
            vst1q_f32(to.add(4), value[1]);
        }
    }

    #[inline(always)]
    unsafe fn widen_at(self, from: *const bf16) -> Floats {
        // SAFETY: the instructions exist (`self`); the caller gives eight readable bf16, which are 16 bits each.
        unsafe {
            let halves = vld1q_u16(from.cast());
            [
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(halves))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(halves))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn narrow_at(self, value: Floats, to: *mut bf16) {
        // SAFETY: the instructions exist (`self`); the caller gives eight writable bf16, which are 16 bits each.
        unsafe {
            let halves =
                vcombine_u16(vshrn_n_u32::<16>(rounded(value[0])), vshrn_n_u32::<16>(rounded(value[1])));
            vst1q_u16(to.cast(), halves);
        }
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> Integers {
        // SAFETY: the instructions exist (`self`); the caller gives eight readable words; bytes need no alignment.
        unsafe { [vreinterpretq_u32_u8(vld1q_u8(from)), vreinterpretq_u32_u8(vld1q_u8(from.add(16)))] }
    }

    #[inline(always)]
    unsafe fn widen_halves(self, from: *const u8) -> Floats {
        // SAFETY: the caller gives eight readable halves.
        let halves = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        // The instruction's type is not stable in Rust. Halves are scales of blocks: few.
        let wide = halves.map(|half| f16::from_bits(half).to_f32());
        // SAFETY: `wide` has eight elements.
        unsafe { self.load_at(wide.as_ptr()) }
    }

    #[inline(always)]
    fn splat_word(self, x: u32) -> Integers {
        // SAFETY: `self` exists, so the CPU has the instruction.
        [unsafe { vdupq_n_u32(x) }; 2]
    }

    #[inline(always)]
    fn bits(self, x: Integers, right: i32, mask: u32) -> Integers {
        x.map(
            #[inline(always)]
            |x| {
                // SAFETY: `self` exists, so the CPU has the instructions; a negative count shifts right.
                unsafe { vandq_u32(vshlq_u32(x, vdupq_n_s32(-right)), vdupq_n_u32(mask)) }
            },
        )
    }

    #[inline(always)]
    fn to_floats(self, x: Integers) -> Floats {
        x.map(
            #[inline(always)]
            |x| {
                // SAFETY: `self` exists, so the CPU has the instructions.
                unsafe { vcvtq_f32_s32(vreinterpretq_s32_u32(x)) }
            },
        )
    }

    #[inline(always)]
    fn sum(self, [low, high]: Floats) -> f32 {
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe {
            let four = vaddq_f32(low, high);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }

    #[inline(always)]
    fn largest(self, x: Floats) -> f32 {
        let [low, high] = x;
        // SAFETY: `self` exists, so the CPU has the instructions.
        unsafe { vmaxvq_f32(vmaxq_f32(low, high)) }
    }
}

/// Bits of numbers of which the upper halves are them rounded to bf16, to nearest even; a NaN becomes the quiet one.
#[target_feature(enable = "neon")]
#[inline]
fn rounded(x: float32x4_t) -> uint32x4_t {
    let bits = vreinterpretq_u32_f32(x);
    let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
    let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    vbslq_u32(vceqq_f32(x, x), rounded, vdupq_n_u32(0x7fc0_0000))
}

/// Sums of the four products of the bytes of each lane: of `left` unsigned, of `right` signed.
#[target_feature(enable = "neon")]
#[inline]
fn dot_four_bytes(left: uint32x4_t, right: uint32x4_t) -> uint32x4_t {
    let (left, right) = (vreinterpretq_u8_u32(left), vreinterpretq_s8_u32(right));
    let unsigned = |bytes| vreinterpretq_s16_u16(vmovl_u8(bytes));
    let (left_low, left_high) = (unsigned(vget_low_u8(left)), unsigned(vget_high_u8(left)));
    let (right_low, right_high) = (vmovl_s8(vget_low_s8(right)), vmovl_s8(vget_high_s8(right)));
    // Four products of one lane each, then sums of two, then of four.
    let low = vpaddq_s32(
        vmull_s16(vget_low_s16(left_low), vget_low_s16(right_low)),
        vmull_s16(vget_high_s16(left_low), vget_high_s16(right_low)),
    );
    let high = vpaddq_s32(
        vmull_s16(vget_low_s16(left_high), vget_low_s16(right_high)),
        vmull_s16(vget_high_s16(left_high), vget_high_s16(right_high)),
    );
    vreinterpretq_u32_s32(vpaddq_s32(low, high))
}
