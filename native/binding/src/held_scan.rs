//! Scans of bodies that the native front end holds: read where they lie, large ones by a thread, which answers by the front
//! end's mailbox. No byte of them comes to JavaScript.

use std::panic::{catch_unwind, AssertUnwindSafe};

use napi::bindgen_prelude::Buffer;
use napi::{Error, Result};
use napi_derive::napi;
use sallyport_engine::{Client, Transaction};
use sallyport_front::Mailbox;
use sallyport_threads::Threads;

use crate::front::{driver, exchange_of};
use crate::rule_set::{answer, first, lock, start, PROFILES, TRANSACTIONS};

static THREADS: Threads = Threads::new();

/// A thread has it: the answer comes as an event.
const IN_THREAD: f64 = -1.0;
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

/// Phases 1 and 2 over a request body that is held. As `scan_request`; -1 = it has more bytes than `thread_threshold` and a
/// thread has it: the answer comes with `ticket`.
#[allow(clippy::too_many_arguments)]
#[napi(catch_unwind)]
pub fn scan_held_request(
    front: u32,
    exchange: f64,
    profile: u32,
    client: &[u8],
    head: &[u8],
    head_length: u32,
    thread_threshold: f64,
    ticket: u32,
) -> Result<f64> {
    let driver = driver(front)?;
    let profile = PROFILES.get(profile)?;
    let client = Client::parse(client);
    let head = first(head, head_length)?;
    let exchange = exchange_of(exchange);
    let mut front = driver.source.borrow_mut();
    if front.request_body(exchange).len() as f64 > thread_threshold {
        if let Some(body) = front.lend_request_body(exchange) {
            let (profile, client, head) = (profile.clone(), client.clone(), head.to_vec());
            let scan =
                move || start(Transaction::request(&profile, &client, &head, Some(body.bytes())));
            if in_thread(front.mailbox(), ticket, scan, end_unread) {
                return Ok(IN_THREAD);
            }
        }
    }
    start(Transaction::request(&profile, &client, head, Some(front.request_body(exchange))))
}

/// Phases 3 and 4 over a response body that is held. As `scan_response`; -1 as for `scan_held_request`.
#[allow(clippy::too_many_arguments)]
#[napi(catch_unwind)]
pub fn scan_held_response(
    front: u32,
    exchange: f64,
    transaction: u32,
    status: u32,
    head: &[u8],
    head_length: u32,
    thread_threshold: f64,
    ticket: u32,
) -> Result<f64> {
    let driver = driver(front)?;
    let held = TRANSACTIONS.get(transaction)?;
    let head = first(head, head_length)?;
    let status =
        u16::try_from(status).map_err(|_| Error::from_reason("a status has three digits"))?;
    let exchange = exchange_of(exchange);
    let mut front = driver.source.borrow_mut();
    if front.response_body(exchange).len() as f64 > thread_threshold {
        if let Some(body) = front.lend_response_body(exchange) {
            let (held, head) = (held.clone(), head.to_vec());
            let scan = move || {
                let flags = lock(&held).response(status, &head, Some(body.bytes()));
                Ok(answer(transaction, flags))
            };
            // The transaction is its exchange's.
            if in_thread(front.mailbox(), ticket, scan, |_| ()) {
                return Ok(IN_THREAD);
            }
        }
    }
    let flags = lock(&held).response(status, head, Some(front.response_body(exchange)));
    Ok(answer(transaction, flags))
}

/// Has a thread scan and tell. False: it was not taken.
fn in_thread(
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
fn end_unread(answer: f64) {
    if answer >= 0.0 {
        TRANSACTIONS.remove((answer / 16.0) as u32);
    }
}
