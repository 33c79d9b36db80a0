//! Cache lines that are wanted soon.
//!
//! A processor has some twenty buffers for lines on their way. What a prefetch asks for when all are taken is dropped (Zen 4:
//! of a hundred in a row most were, and the loads that came later waited for memory). So a list is made first, and
//! [`super::ComputeTile`] asks for a few at a time between its steps.

use super::prefetch;

/// A stretch of memory, at any address: a hint.
#[derive(Clone, Copy)]
pub struct Span {
    /// Its first byte.
    pub start: *const u8,
    /// Its length.
    pub n_byte: usize,
}

impl Span {
    /// The memory of some values.
    #[inline(always)]
    pub fn of<T>(values: &[T]) -> Self {
        Self { start: values.as_ptr().cast(), n_byte: size_of_val(values) }
    }

    /// Asks for its cache lines, if they are few.
    #[inline(always)]
    pub fn prefetch(self) {
        for offset in (0..self.n_byte).step_by(64) {
            prefetch(self.start.wrapping_add(offset));
        }
    }
}

/// Lines of a list at most: a tile of rows with two pieces of 96 `f32` to read and two to write each.
const MOST: usize = 256;

/// A list of cache lines. What it has no room for is left out: these are hints.
pub struct Requests {
    lines: [*const u8; MOST],
    n: usize,
}

impl Requests {
    /// None.
    pub fn new() -> Self {
        Self { lines: [std::ptr::null(); MOST], n: 0 }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.n = 0;
    }

    /// Adds the lines of a stretch.
    #[inline(always)]
    pub fn add(&mut self, Span { start, n_byte }: Span) {
        let before = start.addr() % 64;
        for offset in (0..before + n_byte).step_by(64).take(MOST - self.n) {
            self.lines[self.n] = start.wrapping_sub(before).wrapping_add(offset);
            self.n += 1;
        }
    }

    /// The lines of part `part` of `n_part`.
    #[inline(always)]
    pub fn part(&self, part: usize, n_part: usize) -> &[*const u8] {
        &self.lines[self.n * part / n_part..self.n * (part + 1) / n_part]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_each_line_once_and_no_list_grows_without_end() {
        let memory = [0_u8; 64 * (MOST + 3)];
        let start = memory.as_ptr().wrapping_add(memory.as_ptr().align_offset(64));
        let mut requests = Requests::new();
        requests.add(Span { start: start.wrapping_add(63), n_byte: 2 });
        requests.add(Span { start, n_byte: 0 });
        requests.add(Span { start: start.wrapping_add(128), n_byte: 65 });
        let parts = |requests: &Requests, n_part| -> Vec<usize> {
            let parts = (0..n_part).flat_map(|part| requests.part(part, n_part));
            parts.map(|line| (line.addr() - start.addr()) / 64).collect()
        };
        for n_part in 1..6 {
            assert_eq!(parts(&requests, n_part), [0, 1, 2, 3]);
        }
        requests.clear();
        assert!(parts(&requests, 2).is_empty());
        requests.add(Span { start, n_byte: 64 * (MOST + 2) });
        assert_eq!(parts(&requests, 3), (0..MOST).collect::<Vec<_>>());
        requests.add(Span { start, n_byte: 1 });
        assert_eq!(parts(&requests, 1).len(), MOST);
    }
}
