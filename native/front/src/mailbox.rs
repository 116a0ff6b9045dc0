//! How other threads tell the driver of a front end something: as an event among its other events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::OwnedFd;

/// A ticket and what is said about it.
type Note = (u32, f64);

/// A number for whoever drives a front end, from any thread.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// `None` when the front end is closed.
    notes: Arc<Mutex<Option<Vec<Note>>>>,
    wake: Arc<OwnedFd>,
}

impl Mailbox {
    pub(crate) fn new(wake: Arc<OwnedFd>) -> Self {
        Mailbox { notes: Arc::new(Mutex::new(Some(Vec::new()))), wake }
    }

    /// Puts a note in; `Event::Note` hands it out. False when the front end is closed: nobody will read it.
    pub fn post(&self, ticket: u32, answer: f64) -> bool {
        match &mut *self.open() {
            None => return false,
            Some(notes) => notes.push((ticket, answer)),
        }
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        true
    }

    pub(crate) fn take(&self) -> Vec<Note> {
        self.open().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What was put in before; nothing can be after it.
    pub(crate) fn close(&self) -> Vec<Note> {
        self.open().take().unwrap_or_default()
    }

    /// A panic under the lock cannot leave the list half changed.
    fn open(&self) -> MutexGuard<'_, Option<Vec<Note>>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
