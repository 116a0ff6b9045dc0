//! Scans of one exchange: what every exchange with a rule set calls, and therefore without the conversions of napi-rs.
//!
//! A call tells of the client, of one head and of its body, and is answered with `transaction * 16 + flags`. A scan that is
//! the last one of its transaction and has found nothing ends it as well, phase 5 included: then the number is 0.
//!
//! With `unsafe`: these are functions of the raw Node-API.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use napi::{sys, Error, Result};
use sallyport_engine::{Client, Flags, Transaction};

use crate::front::{driver, exchange_of};
use crate::held_scan::{end_unread, in_thread, IN_THREAD};
use crate::raw::{run, Call};
use crate::rule_set::{lock, PROFILES, TRANSACTIONS};

/// Room for texts that grew beyond this is given back.
const MOST_TEXT_BYTES: usize = 256 * 1024;

thread_local! {
    static TEXTS: RefCell<Texts> = RefCell::default();
}

/// Where the texts of a call are put on their way; the same for every call of a thread.
#[derive(Default)]
struct Texts {
    client_text: Vec<u8>,
    /// Of whom `client_text` tells.
    client: Client,
    request_id: Vec<u8>,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Texts {
    /// Reads the client (`ip port serverIp serverPort`), the request's id and its head.
    fn read_request(&mut self, call: &Call, at: usize) -> Result<()> {
        let Texts { client_text, client, request_id, head, .. } = self;
        // The head has not been read yet: its room serves to compare.
        call.latin1_into(at, head)?;
        if head != client_text {
            std::mem::swap(head, client_text);
            *client = Client::parse(client_text);
        }
        call.latin1_into(at + 1, request_id)?;
        client.request_id.clear();
        client.request_id.extend(request_id.iter().copied().map(char::from));
        call.latin1_into(at + 2, head)
    }
}

/// Calls with the texts of this thread.
fn with_texts(scan: impl FnOnce(&mut Texts) -> Result<f64>) -> Result<f64> {
    TEXTS.with_borrow_mut(|texts| {
        let answer = scan(texts);
        for text in [&mut texts.head, &mut texts.body] {
            if text.capacity() > MOST_TEXT_BYTES {
                *text = Vec::new();
            }
        }
        answer
    })
}

/// A body as JavaScript has it: bytes, a string, or null.
///
/// # Safety
/// JavaScript does not run while the result is in use.
unsafe fn body_of<'a>(
    call: &'a Call,
    at: usize,
    text: &'a mut Vec<u8>,
) -> Result<Option<&'a [u8]>> {
    if call.is_string(at)? {
        call.utf8_into(at, text)?;
        return Ok(Some(text));
    }
    // SAFETY: as for this function.
    unsafe { call.bytes(at) }
}

/// `scanRequest(profile, client, requestId, head, body, isLast)`: phases 1 and 2.
pub(crate) unsafe extern "C" fn scan_request(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let scan = |call: &Call| {
        let profile = PROFILES.get(call.uint32(0)?)?;
        let is_last = call.boolean(5)?;
        let answer = with_texts(|texts| {
            texts.read_request(call, 1)?;
            let Texts { client, head, body, .. } = texts;
            // SAFETY: nothing of JavaScript runs until this closure is left.
            let body = unsafe { body_of(call, 4, body)? };
            start(Transaction::request(&profile, client, head, body), is_last)
        })?;
        Ok(call.number(answer))
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, scan) }
}

/// `scanResponse(transaction, status, head, body, isLast)`: phases 3 and 4.
pub(crate) unsafe extern "C" fn scan_response(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let scan = |call: &Call| {
        let judged = Judged::of(call, 0, 4)?;
        let answer = with_texts(|texts| {
            let Texts { head, body, .. } = texts;
            call.latin1_into(2, head)?;
            // SAFETY: nothing of JavaScript runs until this closure is left.
            let body = unsafe { body_of(call, 3, body)? };
            Ok(judged.response(head, body))
        })?;
        Ok(call.number(answer))
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, scan) }
}

/// `startResponseTransaction(profile, client, requestId, head)`: a transaction whose request is not scanned.
pub(crate) unsafe extern "C" fn start_response_transaction(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let begin = |call: &Call| {
        let profile = PROFILES.get(call.uint32(0)?)?;
        let answer = with_texts(|texts| {
            texts.read_request(call, 1)?;
            start(Transaction::for_response_only(&profile, &texts.client, &texts.head), false)
        })?;
        Ok(call.number(answer))
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, begin) }
}

/// `scanHeldRequest(front, exchange, threadThreshold, ticket, profile, client, requestId, head, isLast)`: as `scanRequest`, over
/// a request body that the front end holds; -1 = it has more bytes than `threadThreshold` and a thread has it: the answer
/// comes with `ticket`.
pub(crate) unsafe extern "C" fn scan_held_request(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let scan = |call: &Call| {
        let driver = driver(call.uint32(0)?)?;
        let exchange = exchange_of(call.double(1)?);
        let (threshold, ticket) = (call.double(2)?, call.uint32(3)?);
        let profile = PROFILES.get(call.uint32(4)?)?;
        let is_last = call.boolean(8)?;
        let answer = with_texts(|texts| {
            texts.read_request(call, 5)?;
            let Texts { client, head, .. } = texts;
            let mut front = driver.source.borrow_mut();
            if front.request_body(exchange).len() as f64 > threshold {
                if let Some(body) = front.lend_request_body(exchange) {
                    let (profile, client, head) =
                        (Arc::clone(&profile), client.clone(), head.clone());
                    let scan = move || {
                        let body = Some(body.bytes());
                        start(Transaction::request(&profile, &client, &head, body), is_last)
                    };
                    if in_thread(front.mailbox(), ticket, scan, end_unread) {
                        return Ok(IN_THREAD);
                    }
                }
            }
            let body = Some(front.request_body(exchange));
            start(Transaction::request(&profile, client, head, body), is_last)
        })?;
        Ok(call.number(answer))
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, scan) }
}

/// `scanHeldResponse(front, exchange, threadThreshold, ticket, transaction, status, head, isLast)`: as `scanResponse`, over a
/// response body that the front end holds; -1 as for `scanHeldRequest`.
pub(crate) unsafe extern "C" fn scan_held_response(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value {
    let scan = |call: &Call| {
        let driver = driver(call.uint32(0)?)?;
        let exchange = exchange_of(call.double(1)?);
        let (threshold, ticket) = (call.double(2)?, call.uint32(3)?);
        let judged = Judged::of(call, 4, 7)?;
        let answer = with_texts(|texts| {
            let head = &mut texts.head;
            call.latin1_into(6, head)?;
            let mut front = driver.source.borrow_mut();
            if front.response_body(exchange).len() as f64 > threshold {
                if let Some(body) = front.lend_response_body(exchange) {
                    let (judged, head) = (judged.clone(), head.clone());
                    let scan = move || Ok(judged.response(&head, Some(body.bytes())));
                    // The transaction is its exchange's.
                    if in_thread(front.mailbox(), ticket, scan, |_| ()) {
                        return Ok(IN_THREAD);
                    }
                }
            }
            Ok(judged.response(head, Some(front.response_body(exchange))))
        })?;
        Ok(call.number(answer))
    };
    // SAFETY: Node-API calls with what belongs to the call under way.
    unsafe { run(env, info, scan) }
}

/// A transaction whose response is to be judged.
#[derive(Clone)]
struct Judged {
    number: u32,
    transaction: Arc<Mutex<Transaction>>,
    status: u16,
    is_last: bool,
}

impl Judged {
    /// Transaction and status are the arguments from `at` on.
    fn of(call: &Call, at: usize, last_at: usize) -> Result<Self> {
        let number = call.uint32(at)?;
        let transaction = TRANSACTIONS.get(number)?;
        let status = u16::try_from(call.uint32(at + 1)?)
            .map_err(|_| Error::from_reason("a status has three digits"))?;
        Ok(Judged { number, transaction, status, is_last: call.boolean(last_at)? })
    }

    fn response(&self, head: &[u8], body: Option<&[u8]>) -> f64 {
        let mut transaction = lock(&self.transaction);
        let flags = transaction.response(self.status, head, body);
        if self.is_last && ends(&mut transaction, flags) {
            TRANSACTIONS.remove(self.number);
            return answer(0, flags);
        }
        answer(self.number, flags)
    }
}

/// Says what a transaction that was begun has found, and keeps it if there is more to do with it.
fn start(mut transaction: Transaction, is_last: bool) -> Result<f64> {
    let flags = transaction.flags();
    if is_last && ends(&mut transaction, flags) {
        return Ok(answer(0, flags));
    }
    Ok(answer(TRANSACTIONS.insert(Mutex::new(transaction))?, flags))
}

/// Phase 5, if nothing was found. True: nobody has anything to ask of the transaction any more.
fn ends(transaction: &mut Transaction, flags: Flags) -> bool {
    flags == Flags::default() && !transaction.finish().matched
}

/// `transaction * 16 + flags`
fn answer(transaction: u32, flags: Flags) -> f64 {
    f64::from(transaction) * 16.0 + f64::from(flags.bits())
}
