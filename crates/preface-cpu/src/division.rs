//! Tasks of a product: blocks of columns, of which some are divided by rows.
//!
//! A block is packed once by a task that has all rows. But 19 blocks for two threads are ten for one of them, while the other
//! waits for a twentieth of the time: what remains when each thread has the same number of blocks is divided by rows.

use std::ops::Range;

/// Some columns for some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Number of the block of columns.
    pub block: usize,
    /// Rows.
    pub rows: Range<usize>,
}

/// Tasks for `threads` threads, one thread's after the other's, as the pool hands them out; as many for each, where there are
/// rows enough. Only more than `least_rows` are divided, so no part is smaller than half of that.
pub fn divide(n_block: usize, n_row: usize, least_rows: usize, threads: usize) -> Vec<Task> {
    if n_row == 0 {
        return Vec::new();
    }
    let n_whole = n_block / threads;
    let n_part = threads.min(n_row.div_ceil(least_rows));
    let cut = |part: usize| n_row * part / n_part;
    let mut tasks = Vec::with_capacity(n_whole * threads + n_block % threads * n_part);
    for thread in 0..threads {
        let whole = thread * n_whole..(thread + 1) * n_whole;
        tasks.extend(whole.map(|block| Task { block, rows: 0..n_row }));
        if thread < n_part {
            let divided = n_whole * threads..n_block;
            tasks.extend(divided.map(|block| Task { block, rows: cut(thread)..cut(thread + 1) }));
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_every_row_is_in_one_task() {
        for n_block in 1..20 {
            for n_row in [0, 1, 63, 64, 65, 200, 672] {
                for threads in 1..9 {
                    let mut seen = vec![0; n_block * n_row];
                    for Task { block, rows } in divide(n_block, n_row, 64, threads) {
                        assert!(!rows.is_empty() && rows.len() >= n_row.min(32));
                        rows.for_each(|row| seen[block * n_row + row] += 1);
                    }
                    assert!(
                        seen.iter().all(|&n| n == 1),
                        "{n_block} blocks, {n_row} rows, {threads} threads"
                    );
                }
            }
        }
    }

    #[test]
    fn with_enough_rows_each_thread_has_the_same() {
        for n_block in 1..20 {
            for threads in 1..5 {
                let tasks = divide(n_block, 64 * threads, 64, threads);
                assert!(tasks.len().is_multiple_of(threads));
                for share in tasks.chunks(tasks.len() / threads) {
                    let n_row: usize = share.iter().map(|task| task.rows.len()).sum();
                    assert_eq!(n_row, 64 * n_block, "{n_block} blocks, {threads} threads");
                }
            }
        }
    }
}
