//! How long a thread spins before it sleeps.
//!
//! A sleep and a wake-up cost tens of microseconds, more than most operations leave between each other: a thread that
//! sleeps there comes too late to each of them. But where other programs use the cores, spinning takes from them, and
//! from our own threads, the time that they need to get done. So what counts is how long waits *are*, whether they were
//! spun or slept through: after short ones a thread spins longer, after long ones shorter.

use std::time::{Duration, Instant};

/// The longest spin. Between two operations lie up to some 100 microseconds; a core that another program has taken comes
/// back after some milliseconds.
const MOST: Duration = Duration::from_micros(400);
/// A shorter spin is not worth having.
const LEAST: Duration = Duration::from_micros(2);

/// Turns of the spin loop between two looks at the clock.
const TURNS: u32 = 16;

pub struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(MOST)
    }
}

impl Patience {
    /// Waits until `is_over`: spins first, then calls `sleep`, which returns when it is.
    pub fn wait(&mut self, is_over: impl Fn() -> bool, sleep: impl FnOnce()) {
        let start = Instant::now();
        loop {
            for _ in 0..TURNS {
                if is_over() {
                    // What is spun through is never longer than the longest spin.
                    self.grow();
                    return;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= self.0 {
                break;
            }
        }
        sleep();
        if start.elapsed() <= MOST { self.grow() } else { self.0 = (self.0 / 2).max(LEAST) }
    }

    fn grow(&mut self) {
        self.0 = (2 * self.0).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeps(duration: Duration) -> impl Fn() {
        move || std::thread::sleep(duration)
    }

    #[test]
    fn patience_falls_with_long_waits_and_comes_back_with_spun_ones() {
        let mut patience = Patience::default();
        for _ in 0..20 {
            patience.wait(|| false, sleeps(2 * MOST));
        }
        assert_eq!(patience.0, LEAST);
        for _ in 0..20 {
            patience.wait(|| true, || unreachable!("over before the first sleep"));
        }
        assert_eq!(patience.0, MOST);
    }

    #[test]
    fn waits_that_are_longer_than_patience_but_short_bring_it_back() {
        let mut patience = Patience(LEAST);
        // Each ends in a sleep, until patience is long enough to spin through it.
        for _ in 0..1000 {
            patience.wait(|| false, || ());
            if patience.0 == MOST {
                return;
            }
        }
        panic!("patience stays at {:?}", patience.0);
    }
}
