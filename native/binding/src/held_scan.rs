//! Bodies that the native front end holds for the rule matcher, and the threads that scan large ones where they lie and answer
//! by the front end's mailbox. No byte of them comes to JavaScript. The scans themselves are in `scan`.

use std::panic::{catch_unwind, AssertUnwindSafe};

use napi::bindgen_prelude::Buffer;
use napi::Result;
use napi_derive::napi;
use sallyport_front::Mailbox;
use sallyport_threads::Threads;

use crate::front::{driver, exchange_of};
use crate::rule_set::TRANSACTIONS;

static THREADS: Threads = Threads::new();

/// A thread has it: the answer comes as an event.
pub(crate) const IN_THREAD: f64 = -1.0;
/// What the event says when the scan came to nothing.
const FAILED: f64 = -2.0;

/// How many threads scan, and how many scans may wait for one; beyond that they are made at once.
#[napi(catch_unwind)]
pub fn allow_scan_threads(most_threads: u32, most_waiting: u32) {
    THREADS.allow(most_threads as usize, most_waiting as usize);
}

/// See `Front::hold_request_body`.
#[napi(catch_unwind)]
pub fn front_hold_request_body(front: u32, exchange: f64, limit_bytes: f64) -> Result<()> {
    let driver = driver(front)?;
    driver.source.borrow_mut().hold_request_body(exchange_of(exchange), limit_bytes as usize);
    Ok(())
}

/// See `Front::hold_response_body`.
#[napi(catch_unwind)]
pub fn front_hold_response_body(front: u32, exchange: f64, limit_bytes: f64) -> Result<()> {
    let driver = driver(front)?;
    driver.source.borrow_mut().hold_response_body(exchange_of(exchange), limit_bytes as usize);
    Ok(())
}

/// A copy of what is held, for those that need it in JavaScript after all.
#[napi(catch_unwind)]
pub fn front_held_body(front: u32, exchange: f64, is_response: bool) -> Result<Buffer> {
    let driver = driver(front)?;
    let mut front = driver.source.borrow_mut();
    let exchange = exchange_of(exchange);
    let bytes =
        if is_response { front.response_body(exchange) } else { front.request_body(exchange) };
    Ok(bytes.to_vec().into())
}

/// Has a thread scan and tell. False: it was not taken.
pub(crate) fn in_thread(
    mailbox: Mailbox,
    ticket: u32,
    scan: impl FnOnce() -> Result<f64> + Send + 'static,
    unread: impl FnOnce(f64) + Send + 'static,
) -> bool {
    THREADS.run(Box::new(move || {
        // What the scan has borrowed is given back before anybody is told.
        let scanned = catch_unwind(AssertUnwindSafe(scan));
        let answer = scanned.ok().and_then(Result::ok).unwrap_or(FAILED);
        if !mailbox.post(ticket, answer) {
            unread(answer);
        }
    }))
}

/// The front end is closed: a transaction that nobody has heard of ends here.
pub(crate) fn end_unread(answer: f64) {
    if answer >= 0.0 {
        TRANSACTIONS.remove((answer / 16.0) as u32);
    }
}
