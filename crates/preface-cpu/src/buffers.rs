//! Row buffers that are cut from the same memory again and again, so that a training step asks the system for nothing.
//!
//! A buffer is the first free piece that is large enough, and what is dropped joins its free neighbours: batches of any
//! length run in the memory of the longest one, whatever the sizes of their buffers, and since the lowest piece is taken,
//! what was never needed is never touched. (Buffers that were allocations of their own cost a tenth of a step in clearing
//! and returning pages, whenever batches changed in length.)

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chunk::{Chunk, Piece};
use crate::memory::Lines;
use crate::scratch::Line;

/// Lines of a chunk, unless one buffer needs more. What is not used of it costs nothing.
const CHUNK: usize = (1 << 30) / size_of::<Line>();

/// Where buffers come from.
#[derive(Clone, Default)]
pub struct Buffers {
    shared: Arc<Mutex<Vec<Stock>>>,
}

/// A chunk and what is free in it.
struct Stock {
    chunk: Arc<Chunk>,
    /// Lengths of free stretches by their first line; no two touch.
    free: BTreeMap<usize, usize>,
}

/// A buffer that goes back when it is dropped. Its content is whatever it held before.
pub struct Buffer {
    lines: Lines,
    home: Buffers,
}

impl Buffers {
    /// A buffer of so many lines.
    pub fn take(&self, n_line: usize) -> Buffer {
        let piece = if cfg!(test) || n_line == 0 { None } else { self.piece(n_line) };
        let mut lines = piece.map_or_else(|| Lines::own(n_line), Lines::Piece);
        if cfg!(test) {
            // In tests all rows end at a page without access (see guard.rs), and hold nothing but NaN.
            bytemuck::cast_slice_mut::<Line, u8>(&mut lines).fill(0xff);
        }
        Buffer { lines, home: self.clone() }
    }

    /// Gives the memory of what is free to the system.
    pub fn give_back(&self) {
        let mut stocks = self.lock();
        stocks.retain(|stock| !stock.is_whole());
        for Stock { chunk, free } in &*stocks {
            for (&first, &n_line) in free {
                // SAFETY: free lines are in no piece, and nobody takes one meanwhile.
                unsafe { chunk.release(first..first + n_line) };
            }
        }
    }

    /// The first free piece, if the system gives memory.
    fn piece(&self, n_line: usize) -> Option<Piece> {
        let mut stocks = self.lock();
        if let Some(piece) = stocks.iter_mut().find_map(|stock| stock.take(n_line)) {
            return Some(piece);
        }
        let chunk = Chunk::new(n_line.max(CHUNK))?;
        let free = BTreeMap::from([(0, chunk.n_line())]);
        stocks.push(Stock { chunk, free });
        stocks.last_mut()?.take(n_line)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stock>> {
        // Every update is complete when the lock is released, panics or not.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stock {
    fn is_whole(&self) -> bool {
        self.free.get(&0) == Some(&self.chunk.n_line())
    }

    fn take(&mut self, n_line: usize) -> Option<Piece> {
        let (&first, &n_free) = self.free.iter().find(|(_, n_free)| **n_free >= n_line)?;
        self.free.remove(&first);
        if n_free > n_line {
            self.free.insert(first + n_line, n_free - n_line);
        }
        // SAFETY: the lines were free, that is in no piece, and are not any more.
        Some(unsafe { self.chunk.piece(first..first + n_line) })
    }

    /// Takes lines back whose piece is gone.
    fn put(&mut self, lines: Range<usize>) {
        let Range { mut start, mut end } = lines;
        if let Some(n_line) = self.free.remove(&end) {
            end += n_line;
        }
        if let Some((&first, n_line)) = self.free.range(..start).next_back()
            && first + n_line == start
        {
            start = first;
        }
        self.free.insert(start, end - start);
    }
}

impl Buffer {
    /// The content.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The content, to be changed.
    pub fn lines_mut(&mut self) -> &mut [Line] {
        &mut self.lines
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Lines::Piece(piece) = std::mem::replace(&mut self.lines, Lines::Own(Vec::new())) else { return };
        let mut stocks = self.home.lock();
        let (chunk, lines) = piece.place();
        let stock = stocks.iter_mut().find(|stock| Arc::ptr_eq(&stock.chunk, chunk));
        drop(piece);
        if let Some(stock) = stock {
            stock.put(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As [`Buffers::take`] outside tests.
    fn take(buffers: &Buffers, n_line: usize) -> Buffer {
        Buffer { lines: Lines::Piece(buffers.piece(n_line).unwrap()), home: buffers.clone() }
    }

    fn place(buffer: &Buffer) -> Range<usize> {
        let Lines::Piece(piece) = &buffer.lines else { panic!("a piece") };
        piece.place().1
    }

    fn free(buffers: &Buffers) -> Vec<(usize, usize)> {
        buffers.lock()[0].free.iter().map(|(&first, &n_line)| (first, n_line)).collect()
    }

    #[test]
    fn a_buffer_takes_the_first_place_that_is_large_enough() {
        let buffers = Buffers::default();
        let all: Vec<Buffer> = [10, 20, 30, 40].map(|n| take(&buffers, n)).into();
        assert_eq!(all.iter().map(place).collect::<Vec<_>>(), [0..10, 10..30, 30..60, 60..100]);
        let mut all = all.into_iter();
        let (_first, second) = (all.next(), all.next());
        let _third = all.next();
        drop(second);
        assert_eq!(place(&take(&buffers, 21)), 100..121, "the gap is too small");
        let small = take(&buffers, 5);
        assert_eq!((place(&small), place(&take(&buffers, 15))), (10..15, 15..30));
    }

    #[test]
    fn neighbours_that_are_free_become_one_in_any_order() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let buffers = Buffers::default();
            let mut held = [7, 8, 9].map(|n| Some(take(&buffers, n)));
            for number in order {
                held[number] = None;
            }
            assert_eq!(free(&buffers), [(0, CHUNK)], "{order:?}");
        }
    }

    #[test]
    fn buffers_that_live_at_once_share_nothing() {
        let buffers = Buffers::default();
        let mut held: Vec<(Buffer, u8)> = Vec::new();
        for round in 0..200_u8 {
            let mut buffer = take(&buffers, 1 + usize::from(round) * 37 % 50);
            bytemuck::cast_slice_mut(buffer.lines_mut()).fill(round);
            held.push((buffer, round));
            if round % 3 == 2 {
                held.remove(usize::from(round) * 31 % held.len());
            }
            for (buffer, content) in &held {
                assert!(bytemuck::cast_slice(buffer.lines()).iter().all(|byte: &u8| byte == content));
            }
        }
    }

    #[test]
    fn what_is_larger_than_a_chunk_gets_its_own_and_gives_it_back() {
        let buffers = Buffers::default();
        let small = take(&buffers, 10);
        drop(take(&buffers, CHUNK));
        assert_eq!(buffers.lock().len(), 2);
        buffers.give_back();
        assert_eq!(buffers.lock().len(), 1, "one is in use");
        drop(small);
        buffers.give_back();
        assert!(buffers.lock().is_empty());
    }
}
