//! Plain Rust, eight lanes at a time: runs everywhere, and the compiler uses what the target's baseline has.

use std::array::from_fn;

use half::{bf16, f16};

use super::{Kernel, Simd};

/// No instruction-set extension needed.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

const LANES: usize = 8;

impl Simd for Scalar {
    const LANES: usize = LANES;
    const TILE_VECTORS: usize = 1;
    const PANEL_ROWS: usize = 4;
    const PANEL_VECTORS: usize = 1;
    type F32 = [f32; LANES];
    type I32 = [u32; LANES];

    #[inline]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> Self::F32 {
        // SAFETY: the caller gives `LANES` readable elements.
        unsafe { from.cast::<Self::F32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_at(self, value: Self::F32, to: *mut f32) {
        // SAFETY: the caller gives `LANES` writable elements; an array of f32 has the alignment of f32.
        unsafe { to.cast::<Self::F32>().write(value) }
    }

    #[inline(always)]
    unsafe fn widen_at(self, from: *const bf16) -> Self::F32 {
        // SAFETY: the caller gives `LANES` readable elements; an array has the alignment of its element.
        let halves = unsafe { from.cast::<[bf16; LANES]>().read() };
        halves.map(|half| f32::from_bits(u32::from(half.to_bits()) << 16))
    }

    #[inline(always)]
    unsafe fn narrow_at(self, value: Self::F32, to: *mut bf16) {
        let halves = value.map(bf16::from_f32);
        // SAFETY: the caller gives `LANES` writable elements; an array has the alignment of its element.
        unsafe { to.cast::<[bf16; LANES]>().write(halves) }
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // Rounded twice: without the instruction, a fused operation is a slow function call.
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn zero_below(self, x: Self::F32, limit: Self::F32, value: Self::F32) -> Self::F32 {
        from_fn(|i| if x[i] < limit[i] { 0.0 } else { value[i] })
    }

    #[inline(always)]
    fn power_of_low_bits(self, x: Self::F32) -> Self::F32 {
        x.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(1.0f32.to_bits())))
    }

    #[inline(always)]
    fn first_half(self, x: Self::F32) -> Self::F32 {
        x.map(|x| f32::from_bits(x.to_bits() << 16))
    }

    #[inline(always)]
    fn second_half(self, x: Self::F32) -> Self::F32 {
        x.map(|x| f32::from_bits(x.to_bits() & 0xffff_0000))
    }

    #[inline(always)]
    fn pair(self, first: Self::F32, second: Self::F32) -> Self::F32 {
        let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
        from_fn(|i| f32::from_bits(bits(first[i]) | bits(second[i]) << 16))
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> Self::I32 {
        // SAFETY: the caller gives `LANES` readable words.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn widen_halves(self, from: *const u8) -> Self::F32 {
        // SAFETY: the caller gives `LANES` readable halves.
        let halves = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        halves.map(|half| f16::from_bits(half).to_f32())
    }

    #[inline(always)]
    fn splat_word(self, x: u32) -> Self::I32 {
        [x; LANES]
    }

    #[inline(always)]
    fn bits(self, x: Self::I32, right: i32, mask: u32) -> Self::I32 {
        x.map(|x| if right >= 0 { x >> right } else { x << -right } & mask)
    }

    #[inline(always)]
    fn or(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn dot_bytes(self, sum: Self::I32, left: Self::I32, right: Self::I32) -> Self::I32 {
        from_fn(|i| {
            let (left, right) = (left[i].to_le_bytes(), right[i].to_le_bytes());
            let products = left.into_iter().zip(right).map(|(l, r)| i32::from(l) * i32::from(r as i8));
            sum[i].wrapping_add(products.sum::<i32>().cast_unsigned())
        })
    }

    #[inline(always)]
    fn to_floats(self, x: Self::I32) -> Self::F32 {
        x.map(|x| x.cast_signed() as f32)
    }

    #[inline(always)]
    fn sum(self, x: Self::F32) -> f32 {
        ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    }

    #[inline(always)]
    fn largest(self, x: Self::F32) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
