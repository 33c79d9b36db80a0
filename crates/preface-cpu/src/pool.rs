//! A persistent thread pool for operations of some microseconds.
//!
//! A training step has about 600 operations, a generated token 300. So a worker spins for a moment before it sleeps,
//! the caller works too, and an operation ends as soon as its tasks are done: a worker that has not woken up by then
//! is not waited for. How long a thread spins follows from how long its last waits were ([`crate::patience`]).
//!
//! Each thread has a share of the tasks, one behind the other, so that it reads a weight as one stream, which prefetchers
//! follow across tasks. A thread that is done with its own takes from the ends of the others' shares. So which thread runs a
//! task is open: results must not depend on it, and tasks get nothing but their number and the thread's scratch memory.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::patience::Patience;
use crate::scratch::Scratch;

type Task<'a> = dyn Fn(usize, &mut Scratch) + Sync + 'a;

/// Threads that run tasks together with whoever calls [`Pool::run`].
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// What the calling thread works with. Held during a run, so that runs do not mix.
    caller: Mutex<Own>,
}

/// What a thread keeps from job to job.
#[derive(Default)]
struct Own {
    scratch: Scratch,
    patience: Patience,
}

struct Shared {
    state: Mutex<State>,
    /// Copy of [`State::generation`], to spin on.
    generation: AtomicU64,
    /// Copy of [`State::n_active`], to spin on.
    n_active: AtomicUsize,
    /// What each thread has left of the current job.
    shares: Vec<Share>,
    wake: Condvar,
    done: Condvar,
}

struct State {
    /// Grows with each job.
    generation: u64,
    /// Open to workers that wish to join.
    job: Option<Job>,
    /// Workers that have joined and not left.
    n_active: usize,
    n_sleeping: usize,
    stop: bool,
    panic: Option<Box<dyn Any + Send>>,
}

#[derive(Clone, Copy)]
struct Job {
    task: &'static Task<'static>,
    n_task: usize,
}

/// A range of tasks: the number of the first in the upper half, the end in the lower. On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Share(AtomicU64);

impl Share {
    fn set(&self, tasks: Range<usize>) {
        // Read by threads that have seen the job, which is published later.
        self.0.store((tasks.start as u64) << 32 | tasks.end as u64, Ordering::Relaxed);
    }

    /// A task that nobody else gets: the first one, or the last for another thread.
    fn take(&self, is_own: bool) -> Option<usize> {
        let split = |both: u64| (both >> 32, both & u64::from(u32::MAX));
        let rest = |both| {
            let (first, end) = split(both);
            let rest = if is_own { (first + 1, end) } else { (first, end.saturating_sub(1)) };
            (first < end).then_some(rest.0 << 32 | rest.1)
        };
        let both = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).ok()?;
        let (first, end) = split(both);
        Some(if is_own { first } else { end - 1 } as usize)
    }
}

impl Pool {
    /// A pool of `threads` threads in all, the caller included.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let state = State { generation: 0, job: None, n_active: 0, n_sleeping: 0, stop: false, panic: None };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            generation: AtomicU64::new(0),
            n_active: AtomicUsize::new(0),
            shares: (0..threads.max(1)).map(|_| Share::default()).collect(),
            wake: Condvar::new(),
            done: Condvar::new(),
        });
        let mut pool = Self { shared, workers: Vec::new(), caller: Mutex::new(Own::default()) };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("preface-cpu-{number}"))
                .spawn(move || shared.work(number))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)` to `task(n_task - 1)`, each once, and returns when all are done.
    ///
    /// # Panics
    /// Of more than 2^32 tasks. If a task does, after all threads have left the job. A task must not call `run` of the same pool.
    pub fn run(&self, n_task: usize, task: impl Fn(usize, &mut Scratch) + Sync) {
        // A panic of a task poisons nothing: scratch memory has no invariant.
        let mut own = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        let Own { scratch, patience } = &mut *own;
        if n_task <= 1 || self.workers.is_empty() {
            (0..n_task).for_each(|number| task(number, scratch));
            return;
        }
        let task: &Task<'_> = &task;
        // SAFETY: only the lifetime changes. The reference is used by this call and by workers that joined the job
        // under the lock; `close` takes the job away under the lock and returns when no worker is left in it, and it
        // is called on every path out of here, since `catch_unwind` holds back panics of the caller's own tasks.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        let job = Job { task, n_task };
        self.shared.open(job);
        let result = catch_unwind(AssertUnwindSafe(|| self.shared.run_tasks(job, 0, scratch)));
        let others = self.shared.close(patience);
        drop(own);
        if let Some(panic) = result.err().or(others) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // Workers catch the panics of their tasks; there is nothing left to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a job to the workers. No other job is open and no worker active.
    fn open(&self, job: Job) {
        let (n_task, n_share) = (job.n_task, self.shares.len());
        assert!(u32::try_from(n_task).is_ok(), "a job of {n_task} tasks");
        for (number, share) in self.shares.iter().enumerate() {
            share.set(n_task * number / n_share..n_task * (number + 1) / n_share);
        }
        let mut state = self.lock();
        state.job = Some(job);
        state.generation += 1;
        self.generation.store(state.generation, Ordering::Release);
        let sleeping = state.n_sleeping;
        drop(state);
        if sleeping > 0 {
            self.wake.notify_all();
        }
    }

    /// Closes the job to latecomers and waits for the workers in it.
    fn close(&self, patience: &mut Patience) -> Option<Box<dyn Any + Send>> {
        let mut state = self.lock();
        state.job = None;
        if state.n_active > 0 {
            drop(state);
            patience.wait(
                || self.n_active.load(Ordering::Acquire) == 0,
                || {
                    let mut state = self.lock();
                    while state.n_active > 0 {
                        state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                },
            );
            // Nobody joins any more, so none is active.
            state = self.lock();
        }
        state.panic.take()
    }

    fn run_tasks(&self, job: Job, thread: usize, scratch: &mut Scratch) {
        let (before, own) = self.shares.split_at(thread);
        for (number, share) in own.iter().chain(before).enumerate() {
            while let Some(task) = share.take(number == 0) {
                (job.task)(task, scratch);
            }
        }
    }

    /// A worker's life.
    fn work(&self, thread: usize) {
        let mut own = Own::default();
        let mut seen = 0;
        loop {
            own.patience.wait(
                || self.generation.load(Ordering::Acquire) != seen,
                || {
                    let mut state = self.lock();
                    while state.generation == seen && !state.stop {
                        state.n_sleeping += 1;
                        state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                        state.n_sleeping -= 1;
                    }
                },
            );
            let mut state = self.lock();
            if state.stop {
                return;
            }
            seen = state.generation;
            let Some(job) = state.job else { continue };
            state.n_active += 1;
            self.n_active.store(state.n_active, Ordering::Release);
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(|| self.run_tasks(job, thread, &mut own.scratch)));
            let mut state = self.lock();
            if let Err(panic) = result {
                state.panic.get_or_insert(panic);
            }
            state.n_active -= 1;
            self.n_active.store(state.n_active, Ordering::Release);
            if state.n_active == 0 {
                self.done.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).unwrap();
            for n_task in [0, 1, 2, 7, 100] {
                for _ in 0..50 {
                    let counts: Vec<AtomicUsize> = (0..n_task).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(n_task, |task, _| {
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3).unwrap();
        for bad in [0, 5, 19] {
            let result = catch_unwind(AssertUnwindSafe(|| pool.run(20, |task, _| assert_ne!(task, bad))));
            assert!(result.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(20, |task, _| {
            sum.fetch_add(task, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 190);
    }

    #[test]
    fn threads_may_share_a_pool() {
        let pool = Pool::new(2).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let sum = AtomicUsize::new(0);
                        pool.run(10, |task, _| {
                            sum.fetch_add(task, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), 45);
                    }
                });
            }
        });
    }
}
