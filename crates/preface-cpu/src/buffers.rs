//! Row buffers that are used again and again, so that a training step touches no new memory.
//!
//! Sizes are rounded up to an eighth of a power of two, and a free buffer of up to twice the size will do: a batch of half
//! the length runs in the buffers of the longer one, and memory is not cut into pieces by giving up and asking again.
//! Before memory is asked of the system, free buffers are given up as long as all buffers together would exceed the most
//! that was ever in use at once: so the free ones never raise the peak.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scratch::Line;

/// Free buffers, by size.
#[derive(Clone, Default)]
pub struct Buffers {
    shared: Arc<Mutex<Free>>,
}

#[derive(Default)]
struct Free {
    by_size: BTreeMap<usize, Vec<Vec<Line>>>,
    n_free_line: usize,
    n_used_line: usize,
    most_used: usize,
}

/// A buffer that goes back when it is dropped. Its content is whatever it held before.
pub struct Buffer {
    lines: Vec<Line>,
    home: Buffers,
}

impl Buffers {
    /// A buffer of at least `n_line` lines.
    pub fn take(&self, n_line: usize) -> Buffer {
        let size = rounded(n_line);
        let mut free = self.lock();
        let lines = free.reuse(size);
        free.n_used_line += lines.as_ref().map_or(size, Vec::len);
        if lines.is_none() {
            free.make_room(size);
        }
        free.most_used = free.most_used.max(free.n_used_line);
        drop(free);
        Buffer { lines: lines.unwrap_or_else(|| bytemuck::zeroed_vec(size)), home: self.clone() }
    }

    /// Gives up what is free.
    pub fn give_back(&self) {
        self.lock().give_back();
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // Every update is complete when the lock is released, panics or not.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    fn give_back(&mut self) {
        self.by_size.clear();
        self.n_free_line = 0;
    }

    fn reuse(&mut self, size: usize) -> Option<Vec<Line>> {
        let (_, buffers) =
            self.by_size.range_mut(size..=2 * size).find(|(_, buffers)| !buffers.is_empty())?;
        let lines = buffers.pop()?;
        self.n_free_line -= lines.len();
        Some(lines)
    }

    /// Gives up the largest free buffers until `size` new lines raise no peak. All of them where none is as large: that is
    /// a batch longer than any before, and what is given up together grows together, so that the new buffers fit in.
    fn make_room(&mut self, size: usize) {
        let allowed = self.most_used.max(self.n_used_line);
        let largest = self.by_size.iter().rev().find(|(_, buffers)| !buffers.is_empty());
        if largest.is_some_and(|(largest, _)| *largest < size)
            && self.n_used_line + self.n_free_line > allowed
        {
            self.give_back();
        }
        while self.n_used_line + self.n_free_line > allowed {
            let Some(mut largest) = self.by_size.last_entry() else { break };
            if largest.get_mut().pop().is_some() {
                self.n_free_line -= largest.key();
            }
            if largest.get().is_empty() {
                largest.remove();
            }
        }
        debug_assert!(self.n_used_line >= size);
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
        let lines = std::mem::take(&mut self.lines);
        let mut free = self.home.lock();
        free.n_used_line -= lines.len();
        free.n_free_line += lines.len();
        free.by_size.entry(lines.len()).or_default().push(lines);
    }
}

/// The next of eight sizes to each power of two.
pub fn rounded(n_line: usize) -> usize {
    let step = (n_line.next_power_of_two() / 16).max(1);
    n_line.max(1).next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(buffer: &Buffer) -> *const Line {
        buffer.lines().as_ptr()
    }

    #[test]
    fn sizes_are_at_most_an_eighth_too_large() {
        for n in (0..1000).chain([4097, 100_001]) {
            let size = rounded(n);
            assert!(size >= n && size <= n + n / 8 + 1, "{n} became {size}");
        }
    }

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let buffers = Buffers::default();
        let first = buffers.take(1000);
        let place = address(&first);
        drop(first);
        let second = buffers.take(990);
        assert_eq!(address(&second), place);
    }

    #[test]
    fn a_free_buffer_serves_half_its_size_but_no_less() {
        let buffers = Buffers::default();
        drop(buffers.take(1024));
        let half = buffers.take(512);
        assert_eq!(buffers.lock().n_used_line, 1024, "the large one is in use");
        drop(half);
        let less = buffers.take(480);
        assert_eq!(buffers.lock().n_used_line, 480);
        drop(less);
    }

    #[test]
    fn a_request_larger_than_all_that_is_free_takes_the_place_of_all() {
        let buffers = Buffers::default();
        drop((0..4).map(|_| buffers.take(128)).collect::<Vec<_>>());
        let _larger = buffers.take(160);
        let free = buffers.lock();
        assert_eq!((free.n_used_line, free.n_free_line, free.most_used), (160, 0, 512));
    }

    #[test]
    fn what_is_given_back_is_free_no_more_and_what_is_used_stays() {
        let buffers = Buffers::default();
        let used = buffers.take(128);
        drop(buffers.take(1024));
        buffers.give_back();
        let free = buffers.lock();
        assert_eq!((free.n_used_line, free.n_free_line, free.by_size.len()), (128, 0, 0));
        drop(free);
        drop(used);
    }

    #[test]
    fn free_buffers_do_not_raise_the_peak() {
        let buffers = Buffers::default();
        let held: Vec<Buffer> = (0..4).map(|_| buffers.take(1024)).collect();
        drop(held);
        // Other sizes, in smaller numbers: the old ones must give way.
        for size in [512, 256, 2048, 700] {
            let _buffer = buffers.take(size);
            let free = buffers.lock();
            let all = free.n_free_line + free.n_used_line;
            assert!(all <= free.most_used, "{all} lines are kept, {} were used", free.most_used);
        }
    }
}
