//! Large pieces of memory that others are cut from, in huge pages where the system has them.
//!
//! With pages of 4 KiB the processor translates an address every 64 cache lines and its prefetchers begin anew; in huge
//! pages (2 MiB) two threads of a Zen 4 read 1.2 times, one thread 1.5 times as fast. What is smaller than such a page
//! shares one. The system is asked, and may refuse: then these are ordinary pages.
//!
//! Memory of a chunk is the system's until it is touched, so that a chunk costs what is used of it.

use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::scratch::Line;

/// Memory of its own, zeroed when made.
pub struct Chunk {
    start: NonNull<Line>,
    n_line: usize,
}

// SAFETY: the memory belongs to nobody else; what it holds is reached through pieces alone.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// At least so many lines, if the system gives memory.
    pub fn new(n_line: usize) -> Option<Arc<Self>> {
        let n_byte = n_line.checked_mul(size_of::<Line>())?.checked_next_multiple_of(system::HUGE)?;
        let start = system::map(n_byte)?;
        Some(Arc::new(Self { start: start.cast(), n_line: n_byte / size_of::<Line>() }))
    }

    /// Its lines.
    pub fn n_line(&self) -> usize {
        self.n_line
    }

    /// Gives the memory of some lines to the system until they are touched again; they hold anything from then on.
    ///
    /// # Safety
    /// No piece of these lines exists.
    pub unsafe fn release(&self, lines: Range<usize>) {
        assert!(lines.start <= lines.end && lines.end <= self.n_line);
        // SAFETY: the lines lie in the mapping (asserted), and nobody holds them.
        unsafe { system::release(self.start.add(lines.start).cast(), lines.len() * size_of::<Line>()) };
    }

    /// A part of a chunk.
    ///
    /// # Safety
    /// No other piece that exists at the same time has one of these lines.
    pub unsafe fn piece(self: &Arc<Self>, lines: Range<usize>) -> Piece {
        assert!(lines.start <= lines.end && lines.end <= self.n_line);
        Piece { chunk: Arc::clone(self), first: lines.start, n_line: lines.len() }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this size, and no piece is left.
        unsafe { system::unmap(self.start.cast(), self.n_line * size_of::<Line>()) };
    }
}

/// Lines of a chunk that no other piece has.
pub struct Piece {
    chunk: Arc<Chunk>,
    first: usize,
    n_line: usize,
}

impl Piece {
    /// What it was cut from, and where.
    pub fn place(&self) -> (&Arc<Chunk>, Range<usize>) {
        (&self.chunk, self.first..self.first + self.n_line)
    }
}

impl Deref for Piece {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        // SAFETY: the lines lie in the memory of the chunk (asserted in `Chunk::piece`), which lives as long as the piece
        // and holds a value of lines, since any bits are one; no other piece has them.
        unsafe { std::slice::from_raw_parts(self.chunk.start.as_ptr().add(self.first), self.n_line) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, and this piece is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.chunk.start.as_ptr().add(self.first), self.n_line) }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::ptr::{NonNull, null_mut};

    /// Bytes of a huge page.
    pub const HUGE: usize = 2 << 20;

    /// Zeroed memory from the beginning of a huge page.
    pub fn map(n_byte: usize) -> Option<NonNull<u8>> {
        let n_mapped = n_byte.checked_add(HUGE)?;
        // SAFETY: a new anonymous mapping; what lies around its aligned part is given back, which touches no other mapping.
        // Advice on memory that is ours changes no content, and may fail.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let mapped = libc::mmap(null_mut(), n_mapped, access, flags, -1, 0);
            if mapped == libc::MAP_FAILED {
                return None;
            }
            let before = mapped.addr().next_multiple_of(HUGE) - mapped.addr();
            if before > 0 {
                libc::munmap(mapped, before);
            }
            let start = mapped.byte_add(before);
            libc::munmap(start.byte_add(n_byte), HUGE - before);
            libc::madvise(start, n_byte, libc::MADV_HUGEPAGE);
            NonNull::new(start.cast())
        }
    }

    /// Lets go of the whole pages in it.
    ///
    /// # Safety
    /// The memory is part of what [`map`] gave, and nobody uses it.
    pub unsafe fn release(start: NonNull<u8>, n_byte: usize) {
        let (first, end) = (start.addr().get().next_multiple_of(HUGE), start.addr().get() + n_byte);
        let skipped = first - start.addr().get();
        if let Some(whole) = end.checked_sub(first).map(|n| n - n % HUGE).filter(|&n| n > 0) {
            // SAFETY: whole pages of memory that the caller gives up; read again, they are zeros.
            unsafe { libc::madvise(start.as_ptr().add(skipped).cast(), whole, libc::MADV_DONTNEED) };
        }
    }

    /// # Safety
    /// [`map`] gave the memory, with this size, and nobody uses it.
    pub unsafe fn unmap(start: NonNull<u8>, n_byte: usize) {
        // SAFETY: as the caller promises.
        unsafe { libc::munmap(start.as_ptr().cast(), n_byte) };
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::ptr::NonNull;

    /// Sizes are multiples of this.
    pub const HUGE: usize = 2 << 20;

    fn layout(n_byte: usize) -> Option<Layout> {
        Layout::from_size_align(n_byte.max(HUGE), 4096).ok()
    }

    /// Zeroed memory.
    pub fn map(n_byte: usize) -> Option<NonNull<u8>> {
        // SAFETY: the size is not zero.
        NonNull::new(unsafe { alloc_zeroed(layout(n_byte)?) })
    }

    /// Nothing: the memory stays.
    ///
    /// # Safety
    /// None.
    pub unsafe fn release(_: NonNull<u8>, _: usize) {}

    /// # Safety
    /// [`map`] gave the memory, with this size, and nobody uses it.
    pub unsafe fn unmap(start: NonNull<u8>, n_byte: usize) {
        if let Some(layout) = layout(n_byte) {
            // SAFETY: as the caller promises.
            unsafe { dealloc(start.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeroed_apart_and_keep_their_chunk() {
        let chunk = Chunk::new(100).unwrap();
        assert!(chunk.n_line() >= 100);
        // SAFETY: the two have no line in common.
        let (mut first, mut second) = unsafe { (chunk.piece(0..10), chunk.piece(10..100)) };
        drop(chunk);
        for (piece, byte) in [(&mut first, 1), (&mut second, 2)] {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(piece);
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(byte);
        }
        assert!(bytemuck::cast_slice(&first).iter().all(|&byte: &u8| byte == 1));
        drop(first);
        assert!(bytemuck::cast_slice(&second).iter().all(|&byte: &u8| byte == 2));
    }

    #[test]
    fn what_lies_beside_released_lines_stays() {
        let page = system::HUGE / size_of::<Line>();
        let chunk = Chunk::new(4 * page).unwrap();
        // SAFETY: the two have no line in common, and end before lines between them are released.
        unsafe {
            let (mut before, mut behind) = (chunk.piece(0..page + 1), chunk.piece(3 * page - 1..4 * page));
            for piece in [&mut before, &mut behind] {
                bytemuck::cast_slice_mut::<Line, u8>(piece).fill(7);
            }
            chunk.release(page + 1..3 * page - 1);
            for piece in [&before, &behind] {
                assert!(bytemuck::cast_slice(piece).iter().all(|&byte: &u8| byte == 7));
            }
        }
    }

    #[test]
    fn what_no_memory_holds_is_no_chunk() {
        assert!(Chunk::new(usize::MAX / 64).is_none());
        assert!(Chunk::new(usize::MAX).is_none());
    }
}
