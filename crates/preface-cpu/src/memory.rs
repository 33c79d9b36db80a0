//! Memory of weights that stay.
//!
//! Generation reads every weight once for a token, so it is as fast as memory is read. With pages of 4 KiB the processor
//! translates an address every 64 cache lines and its prefetchers begin anew; in huge pages two threads of a Zen 4 read 1.2
//! times, one thread 1.5 times as fast. Most weights are smaller than a huge page (2 MiB), so they share chunks, which the
//! system is asked to map so. It may refuse: then these are ordinary pages.
//!
//! A piece is given out once, and its chunk lives as long as one of its pieces.

use std::ops::{Deref, DerefMut};
#[cfg(target_os = "linux")]
use std::sync::{Mutex, PoisonError};

use crate::scratch::Line;

#[cfg(target_os = "linux")]
use chunk::{Open, Piece};

/// Zeroed lines of a weight.
pub enum Lines {
    /// An allocation of their own.
    Own(Vec<Line>),
    /// A part of a chunk.
    #[cfg(target_os = "linux")]
    Piece(Piece),
}

impl Lines {
    /// In chunks, where weights come together that stay; of their own without.
    pub fn zeroed(n_line: usize, memory: Option<&WeightMemory>) -> Self {
        let own = || Self::Own(bytemuck::zeroed_vec(n_line));
        // In tests every weight ends at a page without access (see guard.rs).
        if cfg!(test) { own() } else { memory.and_then(|memory| memory.piece(n_line)).unwrap_or_else(own) }
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match self {
            Self::Own(lines) => lines,
            #[cfg(target_os = "linux")]
            Self::Piece(piece) => piece.lines(),
        }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        match self {
            Self::Own(lines) => lines,
            #[cfg(target_os = "linux")]
            Self::Piece(piece) => piece.lines_mut(),
        }
    }
}

/// Where weights come together.
#[derive(Default)]
pub struct WeightMemory {
    #[cfg(target_os = "linux")]
    open: Mutex<Option<Open>>,
}

impl WeightMemory {
    /// A piece of a chunk, if the system gives memory.
    #[cfg(target_os = "linux")]
    fn piece(&self, n_line: usize) -> Option<Lines> {
        // It is complete whenever the lock is free.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|open| open.n_free() < n_line) {
            let new = Open::new(n_line)?;
            // What goes on is the one with more room behind this piece.
            let left = new.n_free() - n_line;
            if open.as_ref().is_some_and(|open| open.n_free() > left) {
                return Some(Lines::Piece({ new }.take(n_line)));
            }
            *open = Some(new);
        }
        open.as_mut().map(|open| Lines::Piece(open.take(n_line)))
    }

    #[cfg(not(target_os = "linux"))]
    fn piece(&self, _: usize) -> Option<Lines> {
        None
    }
}

#[cfg(target_os = "linux")]
mod chunk {
    use std::ptr::{NonNull, null_mut};
    use std::sync::Arc;

    use crate::scratch::Line;

    /// Bytes of a huge page.
    const HUGE: usize = 2 << 20;
    /// Bytes of a chunk, unless one weight needs more.
    const CHUNK: usize = 32 << 20;

    /// A mapping of its own.
    struct Chunk {
        start: NonNull<Line>,
        n_line: usize,
    }

    // SAFETY: the mapping belongs to nobody else; what it holds is reached through pieces alone.
    unsafe impl Send for Chunk {}
    // SAFETY: as above.
    unsafe impl Sync for Chunk {}

    impl Chunk {
        /// At least so many lines, zeroed, from the beginning of a huge page.
        fn new(n_line: usize) -> Option<Self> {
            let n_byte = n_line.checked_mul(size_of::<Line>())?.max(CHUNK).checked_next_multiple_of(HUGE)?;
            let n_mapped = n_byte.checked_add(HUGE)?;
            // SAFETY: a new anonymous mapping; what lies around its aligned part is given back, which touches no other
            // mapping. Advice on memory that is ours changes no content, and may fail.
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
                Some(Self { start: NonNull::new(start.cast())?, n_line: n_byte / size_of::<Line>() })
            }
        }
    }

    impl Drop for Chunk {
        fn drop(&mut self) {
            // SAFETY: the mapping is ours, and no piece is left.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.n_line * size_of::<Line>()) };
        }
    }

    /// A chunk with room.
    pub struct Open {
        chunk: Arc<Chunk>,
        n_used: usize,
    }

    impl Open {
        pub fn new(n_line: usize) -> Option<Self> {
            Some(Self { chunk: Arc::new(Chunk::new(n_line)?), n_used: 0 })
        }

        pub fn n_free(&self) -> usize {
            self.chunk.n_line - self.n_used
        }

        /// The next lines, which are there.
        pub fn take(&mut self, n_line: usize) -> Piece {
            assert!(n_line <= self.n_free());
            let piece = Piece { chunk: Arc::clone(&self.chunk), first: self.n_used, n_line };
            self.n_used += n_line;
            piece
        }
    }

    /// Lines of a chunk that no other piece has.
    pub struct Piece {
        chunk: Arc<Chunk>,
        first: usize,
        n_line: usize,
    }

    impl Piece {
        pub fn lines(&self) -> &[Line] {
            // SAFETY: the lines lie in the mapping (`Open::take` asserts it), which lives as long as the piece and was made
            // of zeros, a value of lines; no other piece has them.
            unsafe { std::slice::from_raw_parts(self.chunk.start.as_ptr().add(self.first), self.n_line) }
        }

        pub fn lines_mut(&mut self) -> &mut [Line] {
            // SAFETY: as above, and this piece is borrowed exclusively.
            unsafe { std::slice::from_raw_parts_mut(self.chunk.start.as_ptr().add(self.first), self.n_line) }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn bytes(lines: &mut Lines) -> &mut [u8] {
        bytemuck::cast_slice_mut(lines)
    }

    #[test]
    fn pieces_are_zeroed_apart_and_outlive_what_gave_them_out() {
        let memory = WeightMemory::default();
        // Among them one that fits into no chunk of the usual size, and one that is none.
        let sizes = [1, 100_000, 0, 300_000, 600_000, 7, 500_000];
        let mut pieces: Vec<Lines> = sizes.iter().map(|&n| memory.piece(n).unwrap()).collect();
        for (number, (piece, n_line)) in pieces.iter_mut().zip(sizes).enumerate() {
            assert_eq!(piece.len(), n_line);
            let bytes = bytes(piece);
            assert!(bytes.iter().all(|&byte| byte == 0), "piece {number}");
            bytes.fill(number as u8 + 1);
        }
        drop(memory);
        pieces.remove(1);
        for (piece, number) in pieces.iter_mut().zip([1, 3, 4, 5, 6, 7]) {
            assert!(bytes(piece).iter().all(|&byte| byte == number), "piece {number}");
        }
    }

    #[test]
    fn small_pieces_lie_side_by_side_behind_a_large_one() {
        let memory = WeightMemory::default();
        let start = |lines: &Lines| lines.as_ptr().addr();
        let (large, first, second) =
            (memory.piece(1 << 20).unwrap(), memory.piece(10).unwrap(), memory.piece(3).unwrap());
        assert_eq!(start(&large) % (2 << 20), 0);
        assert_eq!(start(&second) - start(&first), 640);
    }

    #[test]
    fn what_no_memory_holds_is_no_piece() {
        assert!(WeightMemory::default().piece(usize::MAX / 64).is_none());
        assert!(WeightMemory::default().piece(usize::MAX).is_none());
    }
}
