//! Memory of weights that stay.
//!
//! Generation reads every weight once for a token, so it is as fast as memory is read: weights lie in huge pages, of which
//! several share one ([`crate::chunk`]). A piece is given out once, and its chunk lives as long as one of its pieces.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::chunk::{Chunk, Piece};
use crate::scratch::Line;

/// Lines of a weight or of rows.
pub enum Lines {
    /// An allocation of their own.
    Own(Vec<Line>),
    /// A part of a chunk.
    Piece(Piece),
}

impl Lines {
    /// Zeros. In chunks, where weights come together that stay; of their own without.
    pub fn zeroed(n_line: usize, memory: Option<&WeightMemory>) -> Self {
        // In tests every weight ends at a page without access (see guard.rs).
        let piece = if cfg!(test) { None } else { memory.and_then(|memory| memory.piece(n_line)) };
        piece.map_or_else(|| Self::own(n_line), Self::Piece)
    }

    /// Zeros of their own.
    pub fn own(n_line: usize) -> Self {
        Self::Own(bytemuck::zeroed_vec(n_line))
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match self {
            Self::Own(lines) => lines,
            Self::Piece(piece) => piece,
        }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        match self {
            Self::Own(lines) => lines,
            Self::Piece(piece) => piece,
        }
    }
}

/// Lines of a chunk, unless one weight needs more.
const CHUNK: usize = (32 << 20) / size_of::<Line>();

/// Where weights come together.
#[derive(Default)]
pub struct WeightMemory {
    open: Mutex<Option<Open>>,
}

/// A chunk with room.
struct Open {
    chunk: Arc<Chunk>,
    n_used: usize,
}

impl WeightMemory {
    /// A piece of a chunk, if the system gives memory.
    fn piece(&self, n_line: usize) -> Option<Piece> {
        // It is complete whenever the lock is free.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|open| open.n_free() < n_line) {
            let mut new = Open { chunk: Chunk::new(n_line.max(CHUNK))?, n_used: 0 };
            // What goes on is the one with more room behind this piece.
            let left = new.n_free() - n_line;
            if open.as_ref().is_some_and(|open| open.n_free() > left) {
                return Some(new.take(n_line));
            }
            *open = Some(new);
        }
        open.as_mut().map(|open| open.take(n_line))
    }
}

impl Open {
    fn n_free(&self) -> usize {
        self.chunk.n_line() - self.n_used
    }

    /// The next lines, which are there.
    fn take(&mut self, n_line: usize) -> Piece {
        let first = self.n_used;
        self.n_used += n_line;
        // SAFETY: the chunk is this one's, and each line is given out once.
        unsafe { self.chunk.piece(first..self.n_used) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeroed_apart_and_outlive_what_gave_them_out() {
        let memory = WeightMemory::default();
        // Among them one that fits into no chunk of the usual size, and one that is none.
        let sizes = [1, 100_000, 0, 300_000, 600_000, 7, 500_000];
        let mut pieces: Vec<Piece> = sizes.iter().map(|&n| memory.piece(n).unwrap()).collect();
        for (number, (piece, n_line)) in pieces.iter_mut().zip(sizes).enumerate() {
            assert_eq!(piece.len(), n_line);
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(piece);
            assert!(bytes.iter().all(|&byte| byte == 0), "piece {number}");
            bytes.fill(number as u8 + 1);
        }
        drop(memory);
        pieces.remove(1);
        for (piece, number) in pieces.iter_mut().zip([1, 3, 4, 5, 6, 7]) {
            let bytes: &[u8] = bytemuck::cast_slice(piece);
            assert!(bytes.iter().all(|&byte| byte == number), "piece {number}");
        }
    }

    #[test]
    fn small_pieces_lie_side_by_side_behind_a_large_one() {
        let memory = WeightMemory::default();
        let start = |piece: &Piece| piece.as_ptr().addr();
        let (large, first, second) =
            (memory.piece(1 << 20).unwrap(), memory.piece(10).unwrap(), memory.piece(3).unwrap());
        assert_eq!(start(&large) % 4096, 0);
        assert_eq!(start(&second) - start(&first), 640);
    }

    #[test]
    fn what_no_memory_holds_is_no_piece() {
        assert!(WeightMemory::default().piece(usize::MAX / 64).is_none());
        assert!(WeightMemory::default().piece(usize::MAX).is_none());
    }
}
