//! Memory for the intermediate results of one task, kept from task to task.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

/// A cache line: the unit and alignment of scratch memory and of row buffers, so that a vector load of an aligned
/// row never straddles two lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line([f32; 16]);

// SAFETY: an array of f32, for which all zero bits are a value.
unsafe impl Zeroable for Line {}
// SAFETY: an array of 16 f32 is 64 bytes, so there is no padding; any bits are a value; it is Copy and has no lifetime.
unsafe impl Pod for Line {}

/// The first `len` numbers in some lines. In tests the last ones, so that what is read or written beyond them is the page
/// behind the lines (see guard.rs); they begin at a whole word, which products read pairs of bf16 by.
#[inline(always)]
pub fn numbers_in<T: Pod>(lines: &[Line], len: usize) -> &[T] {
    let all: &[T] = bytemuck::cast_slice(lines);
    &all[place::<T>(all.len(), len)]
}

/// The same, to be changed.
pub fn numbers_in_mut<T: Pod>(lines: &mut [Line], len: usize) -> &mut [T] {
    let all: &mut [T] = bytemuck::cast_slice_mut(lines);
    let place = place::<T>(all.len(), len);
    &mut all[place]
}

#[inline(always)]
fn place<T>(n_all: usize, len: usize) -> Range<usize> {
    let start = if cfg!(test) { n_all - len } else { 0 };
    let start = start - start % (size_of::<u32>() / size_of::<T>()).max(1);
    start..start + len
}

/// `f32` in a [`Line`].
pub const LINE_F32: usize = 16;

/// One thread's scratch memory. It grows to the largest task and stays.
#[derive(Default)]
pub struct Scratch {
    lines: Vec<Line>,
}

impl Scratch {
    /// Slices of `sizes` elements, each starting at a cache line, with whatever the last task left in them.
    pub fn floats<const N: usize>(&mut self, sizes: [usize; N]) -> [&mut [f32]; N] {
        let n_line = room(sizes) / LINE_F32;
        if self.lines.len() < n_line {
            // Nothing to keep: freeing first halves the peak.
            self.lines = Vec::new();
            self.lines = bytemuck::zeroed_vec(n_line);
        }
        cut(bytemuck::cast_slice_mut(&mut self.lines), sizes)
    }
}

/// What [`cut`] needs for some sizes, in elements.
pub fn room<const N: usize>(sizes: [usize; N]) -> usize {
    sizes.map(|size| size.next_multiple_of(LINE_F32)).iter().sum()
}

/// Slices of `sizes` elements of four bytes, a whole number of cache lines apart.
pub fn cut<T, const N: usize>(memory: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    let mut rest = memory;
    sizes.map(|size| {
        let (lines, after) = std::mem::take(&mut rest).split_at_mut(size.next_multiple_of(LINE_F32));
        rest = after;
        &mut lines[..size]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_aligned_and_apart() {
        let mut scratch = Scratch::default();
        for sizes in [[3, 0, 17], [100, 16, 1]] {
            let slices = scratch.floats(sizes);
            for (i, slice) in slices.into_iter().enumerate() {
                assert_eq!(slice.len(), sizes[i]);
                assert_eq!(slice.as_ptr() as usize % 64, 0);
                slice.fill(i as f32);
            }
        }
    }
}
