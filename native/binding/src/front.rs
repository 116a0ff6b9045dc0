//! The native front end on the worker's own event loop (`driver`): its calls, and what its events are to JavaScript.
//!
//! With `unsafe`: the raw Node-API has no safe form.

use std::ffi::{c_char, c_void, CStr};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, Ordering};

use napi::{sys, Error, JsValue, Result, Unknown};
use napi_derive::napi;
use sallyport_front::{
    ConnectionId, Edits, Event, ExchangeId, Front, Limits, Record, Relay, Request, StandingId,
    StandingRelay, MOST_CLOCKS, MOST_ENDED,
};
use sallyport_upstream::TargetId;

use crate::driver::{check, Arguments, Driver, Drivers, SharedMemory, Source, MOST_TOLD};
use crate::tls::{client_context, facts_text, take_prepared};
use crate::upstream::{latin1, latin1_of, options, socket_addresses, HEAD_TEXT};

/// Kinds of events; src/native/front.ts has the same.
const CONNECTED: u32 = 1;
const REQUEST: u32 = 2;
const REQUEST_BODY: u32 = 3;
const RESPONSE: u32 = 4;
const RESPONSE_BODY: u32 = 5;
const FILTER_DATA: u32 = 6;
const FILTER_END: u32 = 7;
const FILTER_WRITABLE: u32 = 8;
const UPSTREAM_FAILED: u32 = 9;
const DONE: u32 = 10;
const REFUSED: u32 = 11;
const REQUEST_HELD: u32 = 12;
const RESPONSE_HELD: u32 = 13;
const SCANNED: u32 = 14;
const PASSED: u32 = 15;
const ENDED: u32 = 16;
const REJECTED: u32 = 17;
const STANDING_PASSED: u32 = 18;
const STANDING_FAILED: u32 = 19;

/// What calls return that answer.
const NOTHING: i32 = 0;
/// The exchange is over: its record is in the shared numbers.
const IS_DONE: i32 = 1;
/// The body goes through the filter.
const IS_FILTERED: i32 = 2;
const BAD_HEAD: i32 = -1;

/// Numbers of a record, in the order of src/native/front.ts.
const RECORD_NUMBERS: usize = 16;
/// Records that fit into the shared numbers: those that are told together, and behind them one that is told alone.
const RECORDS: usize = MOST_ENDED + 1;
const ALONE: usize = MOST_ENDED;
/// Behind the records: what requests are told with, and what their relaying is told with, as src/native/front.ts has them.
const REQUEST_AT: usize = RECORDS * RECORD_NUMBERS;
const REQUEST_NUMBERS: usize = 7;
const RELAY_AT: usize = REQUEST_AT + MOST_TOLD * REQUEST_NUMBERS;
const RELAY_NUMBERS: usize = 5 + MOST_CLOCKS;
/// Of those that are told together, and behind them of one that is relayed by a call.
const RELAYS: usize = MOST_TOLD + 1;
const RELAYED_ALONE: usize = MOST_TOLD;
const NUMBERS: usize = RELAY_AT + RELAYS * RELAY_NUMBERS;
/// Arguments of an event; requests behind the first have two each beyond them.
const ARGUMENTS: usize = 8;

/// Handles of exchanges, as JavaScript has them: the generation above 20 bits, below it twice the slot and one. Those of the
/// other front end are even, so that both may serve in one worker.
fn handle_of(exchange: ExchangeId) -> f64 {
    ((exchange.0 & !SLOT_MASK) | ((exchange.0 & SLOT_MASK) << 1) | 1) as f64
}

pub(crate) fn exchange_of(handle: f64) -> ExchangeId {
    let handle = handle as u64;
    ExchangeId((handle & !SLOT_MASK) | ((handle & SLOT_MASK) >> 1))
}

const SLOT_MASK: u64 = (1 << 20) - 1;

thread_local! {
    static FRONTS: Drivers<Front> = const { Drivers::new() };
}

pub(crate) fn driver(front: u32) -> Result<Rc<Driver<Front>>> {
    FRONTS
        .with(|fronts| fronts.get(front))
        .ok_or_else(|| Error::from_reason(format!("no front end has the handle {front}")))
}

fn limits_of(numbers: &[f64]) -> Result<Limits> {
    let [head_bytes, uri_bytes, fields, body_bytes, stream_buffer_bytes, head_ms, idle_ms, progress_ms, linger_ms, tunnel_idle_ms, max_tunnels, other_upgrades] =
        *numbers
    else {
        return Err(Error::from_reason("twelve limits are expected"));
    };
    Ok(Limits {
        head_bytes: head_bytes as usize,
        uri_bytes: uri_bytes as usize,
        fields: fields as usize,
        body_bytes: body_bytes as u64,
        stream_buffer_bytes: (stream_buffer_bytes as usize).max(1),
        head_ms: head_ms as u64,
        idle_ms: idle_ms as u64,
        progress_ms: progress_ms as u64,
        linger_ms: linger_ms as u64,
        tunnel_idle_ms: tunnel_idle_ms as u64,
        max_tunnels: max_tunnels as usize,
        other_upgrades: other_upgrades != 0.0,
    })
}

/// A front end whose events go to `on_event(kind, handle, text, a, b, c, d, extra)`; `numbers` is a Float64Array for records.
#[napi(catch_unwind)]
pub fn create_front(
    limits: Vec<f64>,
    clock_ms: f64,
    numbers: Unknown,
    on_event: Unknown,
) -> Result<u32> {
    let function = on_event.value();
    let (env, value) = (function.env, function.value);
    let front = Front::new(limits_of(&limits)?, clock_ms)?;
    let (mut memory, mut memory_length, mut kind) = (null_mut(), 0, 0);
    // SAFETY: all values come from the call under way; all out pointers are to locals.
    let driver = unsafe {
        let owner = numbers.value().value;
        check(
            sys::napi_get_typedarray_info(
                env,
                owner,
                &mut kind,
                &mut memory_length,
                &mut memory,
                null_mut(),
                null_mut(),
            ),
            "napi_get_typedarray_info",
        )?;
        if kind != sys::TypedarrayType::float64_array || memory_length < NUMBERS {
            return Err(Error::from_reason("a Float64Array with more room is expected"));
        }
        Driver::start(front, env, value, SharedMemory { start: memory, owner })?
    };
    Ok(FRONTS.with(|fronts| fronts.add(driver)))
}

/// Closes every connection; the ends of open exchanges are told before it returns. A stale handle does no harm.
#[napi(catch_unwind)]
pub fn close_front(front: u32) {
    let Ok(driver) = driver(front) else { return };
    driver.source.borrow_mut().close();
    driver.deliver_all();
    FRONTS.with(|fronts| fronts.remove(front));
    driver.end();
}

impl Source for Front {
    type Event = Event;
    const NAME: &'static CStr = c"sallyport:front";
    const PANIC: &'static CStr = c"the front end panicked";

    fn descriptor(&self) -> RawFd {
        self.fd().as_raw_fd()
    }

    fn turn(&mut self) {
        Front::turn(self);
    }

    fn next_event(&mut self) -> Option<Event> {
        Front::next_event(self)
    }

    fn close(&mut self) {
        Front::close(self);
    }

    unsafe fn fill(driver: &Driver<Self>, event: Event, arguments: &mut Arguments) -> usize {
        let mut count = ARGUMENTS;
        // SAFETY: as for this function.
        unsafe {
            match event {
                Event::Connected { listener, connection } => {
                    arguments[0] = driver.number(f64::from(CONNECTED));
                    arguments[3] = driver.number(f64::from(listener));
                    arguments[4] = driver.number(connection.0 as f64);
                }
                Event::Request(exchange, request) => {
                    driver.told.borrow_mut().clear();
                    let mut next = Some((exchange, request));
                    let mut place = 0;
                    while let Some((exchange, request)) = next {
                        let (head, lines) = match place {
                            0 => (2, 7),
                            _ => (ARGUMENTS + 2 * (place - 1), ARGUMENTS + 2 * place - 1),
                        };
                        arguments[head] = driver.latin1(&request.head);
                        if !request.connection_lines.is_empty() {
                            arguments[lines] = driver.latin1(&request.connection_lines);
                        }
                        driver.tell_request(place, exchange, *request);
                        place += 1;
                        next = match place {
                            MOST_TOLD => None,
                            _ => driver.source.borrow_mut().another_request(),
                        };
                    }
                    count += 2 * (place - 1);
                    arguments[0] = driver.number(f64::from(REQUEST));
                    arguments[3] = driver.number(place as f64);
                }
                Event::RequestBody { exchange, is_complete, is_held } => {
                    let mut front = driver.source.borrow_mut();
                    let bytes = front.request_body(exchange);
                    let kind = if is_held { REQUEST_HELD } else { REQUEST_BODY };
                    driver.fill_body(arguments, kind, exchange, bytes, is_complete);
                }
                Event::Response { exchange, status, body_length } => {
                    arguments[0] = driver.number(f64::from(RESPONSE));
                    arguments[1] = driver.number(handle_of(exchange));
                    arguments[2] = driver.latin1(driver.source.borrow().response_head());
                    arguments[3] = driver.number(f64::from(status));
                    arguments[4] = driver.number(body_length as f64);
                }
                Event::ResponseBody { exchange, is_complete, is_held } => {
                    let mut front = driver.source.borrow_mut();
                    let bytes = front.response_body(exchange);
                    let kind = if is_held { RESPONSE_HELD } else { RESPONSE_BODY };
                    driver.fill_body(arguments, kind, exchange, bytes, is_complete);
                }
                Event::Note { ticket, answer } => {
                    arguments[0] = driver.number(f64::from(SCANNED));
                    arguments[3] = driver.number(f64::from(ticket));
                    arguments[4] = driver.number(answer);
                }
                Event::FilterData { exchange, data } => {
                    arguments[0] = driver.number(f64::from(FILTER_DATA));
                    arguments[1] = driver.number(handle_of(exchange));
                    arguments[7] = driver.bytes(&data);
                }
                Event::FilterEnd { exchange } => {
                    arguments[0] = driver.number(f64::from(FILTER_END));
                    arguments[1] = driver.number(handle_of(exchange));
                }
                Event::FilterWritable { exchange } => {
                    arguments[0] = driver.number(f64::from(FILTER_WRITABLE));
                    arguments[1] = driver.number(handle_of(exchange));
                }
                Event::UpstreamFailed { exchange, failure, body_consumed } => {
                    arguments[0] = driver.number(f64::from(UPSTREAM_FAILED));
                    arguments[1] = driver.number(handle_of(exchange));
                    arguments[2] = driver.utf8(&failure.detail);
                    arguments[3] = driver.number(f64::from(failure.reason as u8));
                    arguments[4] = driver.number(f64::from(u8::from(failure.not_processed)));
                    arguments[5] = driver.number(f64::from(u8::from(body_consumed)));
                }
                Event::Done(exchange, record) => {
                    arguments[0] = driver.number(f64::from(DONE));
                    arguments[1] = driver.number(handle_of(exchange));
                    if let Some(failure) = &record.failure {
                        arguments[2] = driver.utf8(&failure.detail);
                    }
                    if !record.rule.is_empty() {
                        arguments[7] = driver.utf8(record.rule);
                    }
                    driver.write_record(ALONE, exchange, &record);
                }
                Event::Passed { exchange, status, first_byte_at_ms } => {
                    arguments[0] = driver.number(f64::from(PASSED));
                    arguments[1] = driver.number(handle_of(exchange));
                    arguments[3] = driver.number(f64::from(status));
                    arguments[4] = driver.number(first_byte_at_ms);
                }
                Event::StandingPassed { relay, status, elapsed_ms } => {
                    arguments[0] = driver.number(f64::from(STANDING_PASSED));
                    arguments[3] = driver.number(relay.0 as f64);
                    arguments[4] = driver.number(f64::from(status));
                    arguments[5] = driver.number(elapsed_ms);
                }
                Event::StandingFailed { exchange, failure } => {
                    let announced = driver.source.borrow_mut().announce(exchange);
                    arguments[0] = driver.number(f64::from(STANDING_FAILED));
                    arguments[1] = driver.number(handle_of(exchange));
                    arguments[4] = driver.number(f64::from(failure.reason as u8));
                    arguments[5] = driver.number(f64::from(u8::from(failure.not_processed)));
                    if let Some(announced) = announced {
                        arguments[2] = driver.latin1(&announced.request.head);
                        arguments[3] = driver.number(announced.relay.0 as f64);
                        driver.write_request(0, exchange, &announced.request);
                        let ids = [&announced.request_id[..], b" ", &announced.traceparent, b" "];
                        let ids = String::from_utf8_lossy(&ids.concat()).into_owned();
                        arguments[7] = driver.utf8(&(ids + &failure.detail));
                    }
                }
                Event::Rejected(exchange) => {
                    arguments[0] = driver.number(f64::from(REJECTED));
                    arguments[1] = driver.number(handle_of(exchange));
                }
                Event::Ended => {
                    let mut count = 0;
                    driver.source.borrow_mut().take_ended(|exchange, record| {
                        driver.write_record(count, exchange, record);
                        count += 1;
                    });
                    arguments[0] = driver.number(f64::from(ENDED));
                    arguments[3] = driver.number(count as f64);
                }
                Event::Refused(refused) => {
                    arguments[0] = driver.number(f64::from(REFUSED));
                    arguments[2] = driver.latin1(&refused.request_line);
                    arguments[3] = driver.number(f64::from(refused.listener));
                    arguments[4] = driver.number(f64::from(refused.status));
                    let text = format!("{} {}", refused.rule, refused.peer.ip());
                    arguments[7] = driver.utf8(&text);
                }
            }
        }
        count
    }

    /// The lines with which the requests that were told are relayed: the usual answer, which spares a call for each.
    unsafe fn returned(driver: &Driver<Self>, value: sys::napi_value) {
        let mut told = driver.told.take();
        let mut kind = 0;
        if !told.is_empty() {
            // SAFETY: as for this function; the out pointer is to a local.
            unsafe { sys::napi_typeof(driver.env, value, &mut kind) };
        }
        if kind == sys::ValueType::napi_string {
            HEAD_TEXT.with_borrow_mut(|text| {
                let text = latin1_of(driver.env, value, text).unwrap_or_default();
                let mut start = 0;
                for (place, exchange) in told.iter().enumerate() {
                    let numbers = driver.relay_numbers(place);
                    let [target, end, ..] = numbers;
                    if target >= 0.0 {
                        let end = text.len().min(end as usize);
                        let own = text.get(start..end).unwrap_or_default();
                        start = end;
                        if !driver.relay(ExchangeId(*exchange), own, numbers) {
                            driver.source.borrow_mut().reject(ExchangeId(*exchange));
                        }
                    }
                }
            });
        }
        told.clear();
        driver.told.replace(told);
    }
}

impl Driver<Front> {
    fn write_numbers(&self, at: usize, numbers: &[f64]) {
        assert!(at + numbers.len() <= NUMBERS, "the numbers have their places");
        // SAFETY: the array has room for NUMBERS (checked at creation) and lives as long as its owner, which goes only
        // after the last event; JavaScript never detaches it.
        unsafe {
            let start = self.memory.cast::<f64>().add(at);
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), start, numbers.len());
        }
    }

    fn write_request(&self, place: usize, exchange: ExchangeId, request: &Request) {
        let head = self.source.borrow_mut().head_facts(&request.head);
        // From the last bit on: some field is one that proxies write; the version, in two; the facts of the head.
        let facts = u8::from(request.proxy_fields)
            + request.version as u8 * 2
            + u8::from(head.is_same_host) * 8
            + u8::from(head.is_plain_path) * 16;
        let numbers: [f64; REQUEST_NUMBERS] = [
            handle_of(exchange),
            f64::from(request.listener) * 32.0 + f64::from(facts),
            request.body_length as f64,
            request.connection.0 as f64,
            request.received_at_ms,
            head.host.0 as f64,
            head.host.1 as f64,
        ];
        self.write_numbers(REQUEST_AT + place * REQUEST_NUMBERS, &numbers);
    }

    /// The numbers of a request, which is then JavaScript's to answer for.
    fn tell_request(&self, place: usize, exchange: ExchangeId, request: Request) {
        self.write_request(place, exchange, &request);
        self.told.borrow_mut().push(exchange.0);
        let mut front = self.source.borrow_mut();
        front.keep_head(exchange, request.head);
        front.recycle(request.connection_lines);
    }

    /// What JavaScript wrote beside the text of a relayed request: target, where the text ends, and what is in it.
    fn relay_numbers(&self, place: usize) -> [f64; RELAY_NUMBERS] {
        assert!(place < RELAYS, "the numbers have their places");
        // SAFETY: as for `write_numbers`.
        unsafe {
            let start = self.memory.cast::<f64>().add(RELAY_AT + place * RELAY_NUMBERS);
            start.cast::<[f64; RELAY_NUMBERS]>().read()
        }
    }

    /// `text`: lines to be added, those of the answer, names of fields that it leaves without; the numbers say where.
    fn relay(&self, exchange: ExchangeId, text: &[u8], numbers: [f64; RELAY_NUMBERS]) -> bool {
        let [target, _, answer_at, removed_at, clock_count, clocks @ ..] = numbers;
        let clocks = clocks.map(|place| place as u32);
        let (added, answer) = if answer_at < 0.0 {
            (text, None)
        } else {
            let (lines, removed) = text.split_at(text.len().min(removed_at as usize));
            let (added, lines) = lines.split_at(lines.len().min(answer_at as usize));
            let clocks = &clocks[..MOST_CLOCKS.min(clock_count as usize)];
            (added, Some(Edits { lines, removed, clocks }))
        };
        let target = TargetId(target as u64);
        let relay = Relay { adds: true, answer };
        self.source.borrow_mut().forward(exchange, target, added, None, relay).is_ok()
    }

    /// `place`: below `RECORDS`.
    fn write_record(&self, place: usize, exchange: ExchangeId, record: &Record) {
        let failure = record.failure.as_ref();
        let standing = record.standing.as_ref();
        let numbers: [f64; RECORD_NUMBERS] = [
            f64::from(record.status),
            record.received_bytes as f64,
            record.sent_bytes as f64,
            f64::from(record.end as u8),
            failure.map_or(-1.0, |failure| f64::from(failure.reason as u8)),
            failure.map_or(0.0, |failure| f64::from(u8::from(failure.not_processed))),
            record.connected_at_ms,
            record.first_byte_at_ms,
            record.ended_at_ms,
            f64::from(u8::from(record.reused)),
            f64::from(u8::from(record.tunnel)),
            f64::from(record.passed_status),
            handle_of(exchange),
            standing.map_or(0.0, |end| end.relay.0 as f64),
            standing.map_or(0.0, |end| end.received_at_ms),
            standing.map_or(0.0, |end| f64::from(u8::from(end.is_head))),
        ];
        self.write_numbers(place * RECORD_NUMBERS, &numbers);
    }

    /// The end of an exchange that a call brought about needs no event, unless there is more to tell than numbers.
    fn outcome(&self, exchange: ExchangeId) -> i32 {
        let done = self.source.borrow_mut().take_done(exchange);
        match done {
            None => NOTHING,
            Some(record) => {
                self.write_record(ALONE, exchange, &record);
                IS_DONE
            }
        }
    }

    /// A body that was collected: its bytes, or, of one that is held, how many they are.
    ///
    /// # Safety
    /// As for the functions below.
    unsafe fn fill_body(
        &self,
        arguments: &mut Arguments,
        kind: u32,
        exchange: ExchangeId,
        bytes: &[u8],
        is_complete: bool,
    ) {
        // SAFETY: as for this function.
        unsafe {
            arguments[0] = self.number(f64::from(kind));
            arguments[1] = self.number(handle_of(exchange));
            arguments[3] = self.number(f64::from(u8::from(is_complete)));
            if matches!(kind, REQUEST_HELD | RESPONSE_HELD) {
                arguments[4] = self.number(bytes.len() as f64);
            } else {
                arguments[7] = self.bytes(bytes);
            }
        }
    }

    /// # Safety
    /// This and the functions below: only on the environment's thread, inside a handle scope. Bytes are copied.
    unsafe fn number(&self, number: f64) -> sys::napi_value {
        let mut value = null_mut();
        // SAFETY: the out pointer is to a local.
        unsafe {
            if number.fract() == 0.0 && number >= -1.0 && number <= f64::from(u32::MAX >> 2) {
                sys::napi_create_int32(self.env, number as i32, &mut value);
            } else {
                sys::napi_create_double(self.env, number, &mut value);
            }
        }
        value
    }

    unsafe fn latin1(&self, bytes: &[u8]) -> sys::napi_value {
        let mut value = null_mut();
        let start = bytes.as_ptr().cast::<c_char>();
        // SAFETY: the bytes are copied by the call.
        unsafe {
            sys::napi_create_string_latin1(self.env, start, bytes.len() as isize, &mut value);
        }
        value
    }

    unsafe fn utf8(&self, text: &str) -> sys::napi_value {
        let mut value = null_mut();
        let start = text.as_ptr().cast::<c_char>();
        // SAFETY: the bytes are copied by the call.
        unsafe { sys::napi_create_string_utf8(self.env, start, text.len() as isize, &mut value) };
        value
    }

    unsafe fn bytes(&self, bytes: &[u8]) -> sys::napi_value {
        let (mut value, mut copy) = (null_mut(), null_mut());
        let start = bytes.as_ptr().cast::<c_void>();
        // SAFETY: the bytes are copied by the call.
        unsafe {
            sys::napi_create_buffer_copy(self.env, bytes.len(), start, &mut copy, &mut value);
        }
        value
    }
}

// ── settings and listeners ──

/// Limits and timers for what begins from now on; see `limits_of`.
#[napi(catch_unwind)]
pub fn front_limits(front: u32, limits: Vec<f64>) -> Result<()> {
    driver(front)?.source.borrow_mut().set_limits(limits_of(&limits)?);
    Ok(())
}

/// Whether connections are announced.
#[napi(catch_unwind)]
pub fn front_ask_connect(front: u32, asks: bool) -> Result<()> {
    driver(front)?.source.borrow_mut().ask_connect(asks);
    Ok(())
}

/// Listens on `ip:port` or `[ip]:port`; returns the port.
#[napi(catch_unwind)]
pub fn front_listen(front: u32, id: u32, address: String, proxy_protocol: bool) -> Result<u32> {
    let driver = driver(front)?;
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| Error::from_reason(format!("{address} is no address and port")))?;
    let port = driver
        .source
        .borrow_mut()
        .listen(id, parsed, proxy_protocol)
        .map_err(|error| Error::from_reason(error.to_string()))?;
    driver.keep_alive();
    Ok(u32::from(port))
}

/// Accepts nothing more there.
#[napi(catch_unwind)]
pub fn front_close_listener(front: u32, id: u32) -> Result<()> {
    driver(front)?.source.borrow_mut().close_listener(id);
    Ok(())
}

/// Every answer closes its connection from now on.
#[napi(catch_unwind)]
pub fn front_drain(front: u32) -> Result<()> {
    driver(front)?.source.borrow_mut().drain();
    Ok(())
}

/// `[exchanges, upstream connections, of these idle, requests that wait for one]`
#[napi(catch_unwind)]
pub fn front_counts(front: u32) -> Result<Vec<u32>> {
    let driver = driver(front)?;
    let front = driver.source.borrow();
    let upstream = front.upstream_connections();
    let counts = [front.in_flight(), upstream.open, upstream.idle, upstream.waiting];
    Ok(counts.map(|count| count as u32).to_vec())
}

/// `[connections, of these with HTTP/2, tunnels, of these streams of HTTP/2]`
#[napi(catch_unwind)]
pub fn front_connections(front: u32, listener: u32) -> Result<Vec<u32>> {
    let open = driver(front)?.source.borrow().connections_of(listener);
    let counts = [open.connections, open.shared, open.tunnels, open.streamed_tunnels];
    Ok(counts.map(|count| count as u32).to_vec())
}

/// `address port localAddress localPort`, and `proxiedAddress proxiedPort` where a PROXY header named them; '' = gone.
#[napi(catch_unwind)]
pub fn front_peer(front: u32, connection: f64) -> Result<String> {
    let driver = driver(front)?;
    let front = driver.source.borrow();
    let Some(addresses) = front.addresses_of(ConnectionId(connection as u64)) else {
        return Ok(String::new());
    };
    let (peer, local) = (addresses.peer, addresses.local);
    let mut text = format!("{} {} {} {}", peer.ip(), peer.port(), local.ip(), local.port());
    if let Some(proxied) = addresses.proxied {
        text += &format!(" {} {}", proxied.ip(), proxied.port());
    }
    Ok(text)
}

/// What is known of a connection's TLS, as JSON; empty on plain connections and before the first request.
#[napi(catch_unwind)]
pub fn front_tls(front: u32, connection: f64) -> Result<String> {
    let driver = driver(front)?;
    let facts = driver.source.borrow().tls_of(ConnectionId(connection as u64));
    Ok(facts.map(|facts| facts_text(&facts)).unwrap_or_default())
}

/// Connections that come to a listener from now on speak the TLS that `prepare_tls` made.
#[napi(catch_unwind)]
pub fn front_use_tls(front: u32, listener: u32, number: u32) -> Result<()> {
    let driver = driver(front)?;
    let context = take_prepared(number)
        .ok_or_else(|| Error::from_reason(format!("nothing prepared has the number {number}")))?;
    driver.source.borrow_mut().set_tls(listener, context);
    Ok(())
}

/// Turns a connection away.
#[napi(catch_unwind)]
pub fn front_refuse(front: u32, connection: f64) -> Result<()> {
    driver(front)?.source.borrow_mut().refuse(ConnectionId(connection as u64));
    Ok(())
}

// ── targets ──

/// A new target; see `add_upstream_target`.
#[allow(clippy::too_many_arguments)]
#[napi(catch_unwind)]
pub fn add_front_target(
    front: u32,
    addresses: String,
    connect_ms: u32,
    queue_ms: u32,
    first_byte_ms: u32,
    idle_ms: u32,
    keep_alive_ms: u32,
    max_connections: u32,
    max_queued: u32,
) -> Result<f64> {
    let options = options(
        connect_ms,
        queue_ms,
        first_byte_ms,
        idle_ms,
        keep_alive_ms,
        max_connections,
        max_queued,
    );
    let addresses = socket_addresses(&addresses)?;
    let target = driver(front)?.source.borrow_mut().add_target(options, addresses);
    target
        .map(|target| target.0 as f64)
        .ok_or_else(|| Error::from_reason("too many upstream targets"))
}

/// Has a new target speak HTTP/2; see `upstream_speaks_http2`.
#[napi(catch_unwind)]
pub fn front_speaks_http2(front: u32, target: f64) -> Result<()> {
    driver(front)?.source.borrow_mut().speak_http2(TargetId(target as u64));
    Ok(())
}

/// Has a new target speak TLS; see `secure_upstream_target`.
#[napi(catch_unwind)]
pub fn secure_front_target(
    front: u32,
    target: f64,
    authorities: Option<String>,
    name: String,
    is_http2: bool,
) -> Result<bool> {
    let Some(context) = client_context(authorities, &name, is_http2) else { return Ok(false) };
    driver(front)?.source.borrow_mut().secure_target(TargetId(target as u64), context, name);
    Ok(true)
}

/// New addresses, limits and timers of a target.
#[allow(clippy::too_many_arguments)]
#[napi(catch_unwind)]
pub fn change_front_target(
    front: u32,
    target: f64,
    addresses: String,
    connect_ms: u32,
    queue_ms: u32,
    first_byte_ms: u32,
    idle_ms: u32,
    keep_alive_ms: u32,
    max_connections: u32,
    max_queued: u32,
) -> Result<()> {
    let options = options(
        connect_ms,
        queue_ms,
        first_byte_ms,
        idle_ms,
        keep_alive_ms,
        max_connections,
        max_queued,
    );
    let addresses = socket_addresses(&addresses)?;
    driver(front)?.source.borrow_mut().change_target(TargetId(target as u64), options, addresses);
    Ok(())
}

/// No new requests; idle connections close.
#[napi(catch_unwind)]
pub fn retire_front_target(front: u32, target: f64) -> Result<()> {
    driver(front)?.source.borrow_mut().retire_target(TargetId(target as u64));
    Ok(())
}

// ── standing relays ──

/// Standing relays hold as long as the first number of this Int32Array is the one with which they were decided. It is kept for
/// good, and must not be detached.
#[napi(catch_unwind)]
pub fn front_rest_on(front: u32, version: Unknown) -> Result<()> {
    let driver = driver(front)?;
    let raw = version.value();
    let (env, owner) = (raw.env, raw.value);
    let (mut kind, mut length, mut start, mut kept) = (0, 0, null_mut(), null_mut());
    // SAFETY: the value comes from the call under way; all out pointers are to locals.
    unsafe {
        let status = sys::napi_get_typedarray_info(
            env,
            owner,
            &mut kind,
            &mut length,
            &mut start,
            null_mut(),
            null_mut(),
        );
        check(status, "napi_get_typedarray_info")?;
        if kind != sys::TypedarrayType::int32_array || length == 0 {
            return Err(Error::from_reason("an Int32Array is expected"));
        }
        check(sys::napi_create_reference(env, owner, 1, &mut kept), "napi_create_reference")?;
    }
    let word = start.cast::<i32>();
    driver.source.borrow_mut().rest_on(Box::new(move || {
        // SAFETY: aligned as elements of an Int32Array are, and there as long as its owner, to which a reference is kept that
        // nobody gives back; this is called on the environment's thread only. All processes that share the memory touch it
        // by atomic instructions (src/shared-state).
        unsafe { AtomicI32::from_ptr(word) }.load(Ordering::Acquire)
    }));
    Ok(())
}

/// A new standing relay; `text`: its host, then its lines. Returns its number, or 0 when that is not possible.
#[napi(catch_unwind)]
pub fn front_stand(
    front: u32,
    listener: u32,
    target: f64,
    text: Unknown,
    host_length: u32,
    version: i32,
) -> Result<f64> {
    let driver = driver(front)?;
    HEAD_TEXT.with_borrow_mut(|space| {
        let text = latin1(&text, space)?;
        let (host, lines) = text.split_at(text.len().min(host_length as usize));
        let target = TargetId(target as u64);
        let relay = StandingRelay { listener, host, target, lines, version };
        let id = driver.source.borrow_mut().stand(relay);
        Ok(id.map_or(0.0, |id| id.0 as f64))
    })
}

/// Takes it back. Returns how many requests are under way by it whose end is still to be told.
#[napi(catch_unwind)]
pub fn front_withdraw(front: u32, relay: f64) -> Result<u32> {
    Ok(driver(front)?.source.borrow_mut().withdraw(StandingId(relay as u64)) as u32)
}

/// Requests under way by a standing relay, or by all of them (0).
#[napi(catch_unwind)]
pub fn front_standing(front: u32, relay: f64) -> Result<u32> {
    let relay = (relay != 0.0).then_some(StandingId(relay as u64));
    Ok(driver(front)?.source.borrow().standing_in_flight(relay) as u32)
}

/// Closes the connections of the requests that are under way by a standing relay.
#[napi(catch_unwind)]
pub fn front_abort_standing(front: u32, relay: f64) -> Result<()> {
    driver(front)?.source.borrow_mut().abort_standing(StandingId(relay as u64));
    Ok(())
}

// ── exchanges ──

/// See `Front::read_request_body`.
#[napi(catch_unwind)]
pub fn front_read_request_body(front: u32, exchange: f64, limit_bytes: f64) -> Result<()> {
    let driver = driver(front)?;
    driver.source.borrow_mut().read_request_body(exchange_of(exchange), limit_bytes as usize);
    Ok(())
}

/// Sends the request upstream. Returns 0, or -1 when `head` is not one request's.
#[napi(catch_unwind)]
pub fn front_forward(
    front: u32,
    exchange: f64,
    target: f64,
    head: Unknown,
    body: Option<&[u8]>,
) -> Result<i32> {
    let driver = driver(front)?;
    HEAD_TEXT.with_borrow_mut(|text| {
        let head = latin1(&head, text)?;
        let exchange = exchange_of(exchange);
        let target = TargetId(target as u64);
        let mut front = driver.source.borrow_mut();
        let sent = front.forward(exchange, target, head, body, Relay::default());
        Ok(sent.map_or(BAD_HEAD, |()| NOTHING))
    })
}

/// Sends the request upstream as it came, with lines behind its own; the shared numbers say what is in `text`. Returns 0, or -1
/// when it has what is no lines.
#[napi(catch_unwind)]
pub fn front_relay(front: u32, exchange: f64, text: Unknown) -> Result<i32> {
    let driver = driver(front)?;
    HEAD_TEXT.with_borrow_mut(|space| {
        let text = latin1(&text, space)?;
        let numbers = driver.relay_numbers(RELAYED_ALONE);
        let is_sent = driver.relay(exchange_of(exchange), text, numbers);
        Ok(if is_sent { NOTHING } else { BAD_HEAD })
    })
}

/// See `Front::can_repeat`.
#[napi(catch_unwind)]
pub fn front_can_repeat(front: u32, exchange: f64) -> Result<bool> {
    Ok(driver(front)?.source.borrow().can_repeat(exchange_of(exchange)))
}

/// See `Front::read_response_body`.
#[napi(catch_unwind)]
pub fn front_read_response_body(front: u32, exchange: f64, limit_bytes: f64) -> Result<()> {
    let driver = driver(front)?;
    driver.source.borrow_mut().read_response_body(exchange_of(exchange), limit_bytes as usize);
    Ok(())
}

/// Sends the upstream's answer on. Returns 1 = the exchange is over, 2 = the body goes through the filter, -1 = `head` is not one
/// answer's, 0 otherwise.
#[napi(catch_unwind)]
pub fn front_continue(
    front: u32,
    exchange: f64,
    head: Unknown,
    body: Option<&[u8]>,
    is_filtered: bool,
) -> Result<i32> {
    let driver = driver(front)?;
    let id = exchange_of(exchange);
    let continued = HEAD_TEXT.with_borrow_mut(|text| {
        let head = latin1(&head, text)?;
        let mut front = driver.source.borrow_mut();
        Ok::<_, Error>(front.continue_response(id, head, body, is_filtered))
    })?;
    Ok(match continued {
        Err(_) => BAD_HEAD,
        Ok(true) => IS_FILTERED,
        Ok(false) => driver.outcome(id),
    })
}

/// Answers by ourselves. Returns 1 = the exchange is over, -1 = `head` is not one answer's, 0 otherwise.
#[napi(catch_unwind)]
pub fn front_respond(front: u32, exchange: f64, head: Unknown, body: &[u8]) -> Result<i32> {
    let driver = driver(front)?;
    let id = exchange_of(exchange);
    let responded = HEAD_TEXT.with_borrow_mut(|text| {
        let head = latin1(&head, text)?;
        Ok::<_, Error>(driver.source.borrow_mut().respond(id, head, body))
    })?;
    Ok(match responded {
        Err(_) => BAD_HEAD,
        Ok(()) => driver.outcome(id),
    })
}

/// Closes the client's connection without an answer. Returns 1 = the exchange is over.
#[napi(catch_unwind)]
pub fn front_abort(front: u32, exchange: f64) -> Result<i32> {
    let driver = driver(front)?;
    driver.source.borrow_mut().abort(exchange_of(exchange));
    Ok(driver.outcome(exchange_of(exchange)))
}

/// A piece of what a filter made. False: wait for the event.
#[napi(catch_unwind)]
pub fn front_write(front: u32, exchange: f64, bytes: &[u8]) -> Result<bool> {
    Ok(driver(front)?.source.borrow_mut().write_response(exchange_of(exchange), bytes))
}

/// The filter has made everything.
#[napi(catch_unwind)]
pub fn front_end(front: u32, exchange: f64) -> Result<()> {
    driver(front)?.source.borrow_mut().end_response(exchange_of(exchange));
    Ok(())
}

/// The filter wants no more of the upstream's body at present, or wants more again.
#[napi(catch_unwind)]
pub fn front_hold(front: u32, exchange: f64, is_held: bool) -> Result<()> {
    driver(front)?.source.borrow_mut().hold_upstream(exchange_of(exchange), is_held);
    Ok(())
}

/// The upstream's body cannot be changed as asked.
#[napi(catch_unwind)]
pub fn front_break(front: u32, exchange: f64, detail: String) -> Result<()> {
    driver(front)?.source.borrow_mut().break_response(exchange_of(exchange), &detail);
    Ok(())
}
