//! Threads for native work that would hold an event loop for too long.
//!
//! None is started before there is work, and one that has had none for a while ends. Both the threads and what waits for
//! one are bounded: work that is not taken is its owner's to do.
//!
//! ```
//! static THREADS: sallyport_threads::Threads = sallyport_threads::Threads::new();
//! let (answer, answers) = std::sync::mpsc::channel();
//! assert!(THREADS.run(Box::new(move || answer.send(6 * 7).unwrap_or_default())));
//! assert_eq!(answers.recv(), Ok(42));
//! ```
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// One piece of work. A panic in it ends nothing but itself.
pub type Work = Box<dyn FnOnce() + Send>;

/// How long a thread stays without work.
const IDLE: Duration = Duration::from_secs(60);

/// As much as the main thread has: what it may do, they may. Only what is used takes memory.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Threads of a process, for as long as it lives.
#[derive(Debug)]
pub struct Threads {
    state: Mutex<State>,
    /// There is work.
    signal: Condvar,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Threads that live.
    pub threads: usize,
    /// Work that waits.
    pub waiting: usize,
    /// Work that was done.
    pub done: u64,
    /// Work that was not taken.
    pub declined: u64,
}

struct State {
    waiting: VecDeque<Work>,
    /// Threads that wait for work.
    idle: usize,
    most_threads: usize,
    most_waiting: usize,
    counts: Counts,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("State").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Threads {
    /// No thread yet; two at most, and 256 pieces of work that wait, until `allow` says otherwise.
    pub const fn new() -> Self {
        let counts = Counts { threads: 0, waiting: 0, done: 0, declined: 0 };
        let state =
            State { waiting: VecDeque::new(), idle: 0, most_threads: 2, most_waiting: 256, counts };
        Threads { state: Mutex::new(state), signal: Condvar::new() }
    }

    /// At least one thread; for threads that are not started yet, and for work that comes from now on.
    pub fn allow(&self, most_threads: usize, most_waiting: usize) {
        let mut state = self.lock();
        state.most_threads = most_threads.max(1);
        state.most_waiting = most_waiting;
    }

    /// Has a thread do it. False when too much waits, or the system gives no thread: then it is not done.
    pub fn run(&'static self, work: Work) -> bool {
        let mut state = self.lock();
        let needs_thread = state.idle <= state.waiting.len();
        let may_start = needs_thread && state.counts.threads < state.most_threads;
        let is_full = needs_thread && !may_start && state.waiting.len() >= state.most_waiting;
        if is_full || (may_start && !self.start(&mut state)) {
            state.counts.declined += 1;
            return false;
        }
        state.waiting.push_back(work);
        drop(state);
        self.signal.notify_one();
        true
    }

    /// For metrics.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { waiting: state.waiting.len(), ..state.counts }
    }

    /// Whether there is a thread: a new one, or those that there are.
    fn start(&'static self, state: &mut State) -> bool {
        let builder = Builder::new().name("sallyport-scan".to_owned()).stack_size(STACK_BYTES);
        let started = builder.spawn(|| self.serve());
        state.counts.threads += usize::from(started.is_ok());
        state.counts.threads > 0
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                // Whoever gave it sees to what a panic means.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.lock();
                state.counts.done += 1;
                continue;
            }
            state.idle += 1;
            let (held, timeout) =
                self.signal.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = held;
            state.idle -= 1;
            if timeout.timed_out() && state.waiting.is_empty() {
                state.counts.threads -= 1;
                return;
            }
        }
    }

    /// No work runs under the lock, so a panic cannot leave anything half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Threads {
    fn default() -> Self {
        Threads::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn work_is_done_by_no_more_threads_than_allowed_and_no_more_waits() {
        static THREADS: Threads = Threads::new();
        THREADS.allow(2, 3);
        assert_eq!(THREADS.counts().threads, 0, "none before there is work");
        let (started, starts) = channel();
        let (done, ends) = channel();
        let (open, gate) = channel::<()>();
        let gate = std::sync::Arc::new(Mutex::new(gate));
        let taken: Vec<bool> = (0..7)
            .map(|number| {
                let (started, done, gate) = (started.clone(), done.clone(), gate.clone());
                let taken = THREADS.run(Box::new(move || {
                    started.send(number).unwrap();
                    gate.lock().unwrap().recv().unwrap();
                    done.send(number).unwrap();
                }));
                // Each of the first two must be with its thread before the others come.
                if number < 2 {
                    starts.recv().unwrap();
                }
                taken
            })
            .collect();
        assert_eq!(taken, [true, true, true, true, true, false, false]);
        assert_eq!(THREADS.counts(), Counts { threads: 2, waiting: 3, done: 0, declined: 2 });
        for _ in 0..5 {
            open.send(()).unwrap();
        }
        let mut numbers: Vec<i32> = (0..5).map(|_| ends.recv().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_panic_ends_only_the_work_that_panicked() {
        static THREADS: Threads = Threads::new();
        THREADS.allow(1, 10);
        let (done, ends) = channel();
        std::panic::set_hook(Box::new(|_| {}));
        assert!(THREADS.run(Box::new(|| panic!("on purpose"))));
        assert!(THREADS.run(Box::new(move || done.send(1).unwrap())));
        assert_eq!(ends.recv(), Ok(1));
        let _ = std::panic::take_hook();
        assert_eq!(THREADS.counts().threads, 1);
    }
}
