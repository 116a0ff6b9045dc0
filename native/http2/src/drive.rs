//! How h2 is driven without a runtime: its reads and writes go to the gate, its wake-ups to flags and a list.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gate::Gate;

/// The gate as h2 sees it.
pub(crate) struct Wire(pub(crate) Rc<RefCell<Gate>>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gate = self.0.borrow_mut();
        let rest = gate.input.len() - gate.in_at;
        if rest == 0 {
            if gate.is_end_of_input {
                return Poll::Ready(Ok(()));
            }
            gate.is_starved = true;
            // Whoever brings bytes polls.
            return Poll::Pending;
        }
        let length = rest.min(buffer.remaining());
        let at = gate.in_at;
        buffer.put_slice(&gate.input[at..at + length]);
        gate.in_at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.0.borrow_mut().write(bytes) {
            // Whoever takes bytes away polls.
            0 if !bytes.is_empty() => Poll::Pending,
            length => Poll::Ready(Ok(length)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Something is to be done for the connection as a whole.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Flag(AtomicBool::new(true)))
    }

    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn lower(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.raise();
    }
}

/// Streams on which something is to be done, each once.
pub(crate) type Ready = Arc<Mutex<VecDeque<u32>>>;

pub(crate) struct StreamFlag {
    stream: u32,
    is_listed: AtomicBool,
    ready: Ready,
}

impl StreamFlag {
    pub(crate) fn new(stream: u32, ready: &Ready) -> Arc<Self> {
        let ready = Arc::clone(ready);
        Arc::new(StreamFlag { stream, is_listed: AtomicBool::new(false), ready })
    }

    pub(crate) fn raise(&self) {
        if !self.is_listed.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push_back(self.stream);
        }
    }

    pub(crate) fn lower(&self) {
        self.is_listed.store(false, Ordering::Relaxed);
    }
}

impl Wake for StreamFlag {
    fn wake(self: Arc<Self>) {
        self.raise();
    }
}

/// Nothing under this lock can panic, and it is never held across a call.
pub(crate) fn lock(ready: &Ready) -> std::sync::MutexGuard<'_, VecDeque<u32>> {
    ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is to follow the bytes that wait.
#[derive(Debug)]
enum Finish {
    Open,
    End,
    Trailers(Vec<u8>),
    Told,
}

/// The half of a stream that we send: bytes wait here until the peer's windows let them go.
pub(crate) struct Sending {
    stream: SendStream<Bytes>,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    finish: Finish,
    wants_writable: bool,
}

impl Sending {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Sending {
            stream,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            finish: Finish::Open,
            wants_writable: false,
        }
    }

    /// Queues a piece. False: `most` bytes wait.
    pub(crate) fn write(&mut self, bytes: &[u8], most: usize) -> bool {
        if !matches!(self.finish, Finish::Open) {
            return true;
        }
        if !bytes.is_empty() {
            self.waiting.push_back(Bytes::copy_from_slice(bytes));
            self.waiting_bytes += bytes.len();
        }
        let is_full = self.waiting_bytes >= most;
        self.wants_writable |= is_full;
        !is_full
    }

    /// The end, behind what waits; with trailers when there are any.
    pub(crate) fn end(&mut self, trailers: &[u8]) {
        if matches!(self.finish, Finish::Open) {
            self.finish =
                if trailers.is_empty() { Finish::End } else { Finish::Trailers(trailers.to_vec()) };
        }
    }

    /// The end has been told with the head.
    pub(crate) fn end_told(&mut self) {
        self.finish = Finish::Told;
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting_bytes > 0
    }

    /// Whether it is the peer's turn: something waits for its windows, or for it to read.
    pub(crate) fn is_busy(&self) -> bool {
        self.waiting_bytes > 0 || !matches!(self.finish, Finish::Open)
    }

    /// Gives h2 what the windows allow. `put` is called with the block of trailers, right before them. Returns
    /// whether `write` may be called again after it said no.
    pub(crate) fn flush(
        &mut self,
        waker: &Waker,
        most: usize,
        put: impl FnOnce(&[u8]),
    ) -> Result<bool, h2::Error> {
        while self.waiting_bytes > 0 {
            self.stream.reserve_capacity(self.waiting_bytes);
            let mut room = self.stream.capacity();
            if room == 0 {
                match self.stream.poll_capacity(&mut Context::from_waker(waker)) {
                    Poll::Ready(Some(Ok(length))) => room = length,
                    Poll::Ready(Some(Err(error))) => return Err(error),
                    Poll::Ready(None) => return Ok(false),
                    Poll::Pending => break,
                }
            }
            if room == 0 {
                break;
            }
            let Some(piece) = self.waiting.front_mut() else { break };
            let bytes = if piece.len() <= room {
                self.waiting.pop_front().unwrap_or_default()
            } else {
                piece.split_to(room)
            };
            self.waiting_bytes -= bytes.len();
            let is_last = self.waiting_bytes == 0 && matches!(self.finish, Finish::End);
            if is_last {
                self.finish = Finish::Told;
            }
            self.stream.send_data(bytes, is_last)?;
        }
        if self.waiting_bytes == 0 {
            match std::mem::replace(&mut self.finish, Finish::Told) {
                Finish::Open => self.finish = Finish::Open,
                Finish::Told => {}
                Finish::End => self.stream.send_data(Bytes::new(), true)?,
                Finish::Trailers(lines) => {
                    put(&lines);
                    self.stream.send_trailers(http::HeaderMap::new())?;
                }
            }
        }
        let tells = self.wants_writable && self.waiting_bytes < most;
        if tells {
            self.wants_writable = false;
        }
        Ok(tells)
    }

    pub(crate) fn reset(&mut self, reason: h2::Reason) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.finish = Finish::Told;
        self.stream.send_reset(reason);
    }
}

/// What the half of a stream that we receive has to say.
pub(crate) enum Received {
    Data(Bytes),
    End,
    Failed,
    Nothing,
}

/// The next piece. Its bytes open the windows again at once: whoever does not want more does not ask (H-38).
pub(crate) fn receive(stream: &mut RecvStream, waker: &Waker) -> Received {
    let mut context = Context::from_waker(waker);
    loop {
        match stream.poll_data(&mut context) {
            Poll::Ready(Some(Ok(bytes))) => {
                // Fails only when more is given back than came.
                let _ = stream.flow_control().release_capacity(bytes.len());
                if !bytes.is_empty() {
                    return Received::Data(bytes);
                }
            }
            Poll::Ready(Some(Err(_))) => return Received::Failed,
            Poll::Ready(None) => break,
            Poll::Pending => return Received::Nothing,
        }
    }
    match stream.poll_trailers(&mut context) {
        Poll::Ready(Ok(_)) => Received::End,
        Poll::Ready(Err(_)) => Received::Failed,
        Poll::Pending => Received::Nothing,
    }
}
