//! What a connection is doing, and when the server ends it by itself.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::ConnectionLimits;
use crate::api::layers::Wire;

/// What a client that speaks HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// At the end of a connection: the time for the client to answer the notice of HTTP/2, and for a head on its way.
const FAREWELL_MAX: Duration = Duration::from_millis(500);
/// Health watches and reflection: calls that may never end by themselves. A stop does not wait for them.
const UNAWAITED: &str = "/grpc.";

/// Why the server ends a connection by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The head or the preface took too long.
    Header,
    /// It had no request for too long.
    Idle,
    /// The client did not read its answer for too long.
    Unread,
    /// It was the idlest when another connection needed its place.
    Crowded,
    /// The notice of the end was given, and no request that is waited for remains.
    Farewell,
}

impl Ending {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Unread => "unread",
            Self::Crowded => "crowded",
            Self::Farewell => "farewell",
        }
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    wire: Wire,
    state: Mutex<State>,
    close: Notify,
    /// Told when the connection becomes idle: it may then be closed for another.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    /// The requests whose answers have not ended.
    requests: usize,
    /// Those of them that a stop waits for.
    awaited: usize,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// When the last request that a stop waits for ended, or the connection began.
    unawaited_since: Instant,
    /// Since when a head or preface is incomplete.
    head_since: Option<Instant>,
    protocol: Protocol,
    /// Since when a write waits for the client.
    unread_since: Option<Instant>,
    /// When the notice of the end was given.
    ending_since: Option<Instant>,
    is_asked_to_close: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// So many bytes of [`PREFACE`] have arrived, and nothing else.
    Unknown(usize),
    Http1,
    Http2,
}

impl Protocol {
    fn with(self, bytes: &[u8]) -> Self {
        let Self::Unknown(seen) = self else { return self };
        let missing = &PREFACE[seen..];
        let common = missing.len().min(bytes.len());
        match (missing[..common] == bytes[..common], missing.len() == common) {
            (false, _) => Self::Http1,
            (true, true) => Self::Http2,
            (true, false) => Self::Unknown(seen + common),
        }
    }
}

impl Activity {
    pub(super) fn new(wire: Wire, changed: Arc<Notify>) -> Self {
        let now = Instant::now();
        let state = State {
            requests: 0,
            awaited: 0,
            idle_since: now,
            unawaited_since: now,
            head_since: Some(now),
            protocol: Protocol::Unknown(0),
            unread_since: None,
            ending_since: None,
            is_asked_to_close: false,
        };
        Self { wire, state: Mutex::new(state), close: Notify::new(), changed }
    }

    pub(super) fn wire(&self) -> Wire {
        self.wire
    }

    /// Bytes arrived.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.protocol = state.protocol.with(bytes);
        match state.protocol {
            // Heads of HTTP/2 share the connection with pings; the time without a request bounds them.
            Protocol::Http2 => state.head_since = None,
            Protocol::Unknown(_) | Protocol::Http1 if state.requests == 0 => {
                state.head_since.get_or_insert_with(Instant::now);
            }
            Protocol::Unknown(_) | Protocol::Http1 => {}
        }
    }

    /// A write went through, or waits for the client.
    pub(super) fn wrote(&self, is_waiting: bool) {
        let mut state = self.state.lock();
        state.unread_since = is_waiting.then(|| state.unread_since.unwrap_or_else(Instant::now));
    }

    /// The notice of the end was given: no further request is waited for.
    pub(super) fn begin_ending(&self) {
        self.state.lock().ending_since.get_or_insert_with(Instant::now);
    }

    /// Since when the connection has no request in progress. None while it has one, or is about to end.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        let is_idle = state.requests == 0 && state.ending_since.is_none() && !state.is_asked_to_close;
        is_idle.then_some(state.idle_since)
    }

    /// Asks the task of the connection to close it, because another needs its place.
    pub(super) fn ask_to_close(&self) {
        self.state.lock().is_asked_to_close = true;
        self.close.notify_one();
    }

    /// Returns when the connection is to be closed for another one. A request that began meanwhile prevents it.
    pub(super) async fn asked_to_close(&self) {
        loop {
            self.close.notified().await;
            let mut state = self.state.lock();
            if state.requests == 0 {
                return;
            }
            state.is_asked_to_close = false;
        }
    }

    /// The requests that a stop waits for, and an answer on its way.
    pub(super) fn unfinished(&self) -> usize {
        let state = self.state.lock();
        state.awaited.max(usize::from(state.unread_since.is_some()))
    }

    /// When the server ends the connection by itself, as things are, and why.
    pub(super) fn due(&self, limits: &ConnectionLimits) -> Option<(Instant, Ending)> {
        let state = self.state.lock();
        let unread = state.unread_since.map(|since| (since + limits.idle_max, Ending::Unread));
        let quiet = match state.ending_since {
            Some(since) => {
                let is_quiet = state.awaited == 0 && state.unread_since.is_none();
                is_quiet.then(|| (since.max(state.unawaited_since) + FAREWELL_MAX, Ending::Farewell))
            }
            None if state.requests > 0 => None,
            None => {
                let header = state.head_since.map(|since| (since + limits.header_max, Ending::Header));
                let idle = (state.idle_since + limits.idle_max, Ending::Idle);
                Some(header.map_or(idle, |header| earlier(header, idle)))
            }
        };
        match (unread, quiet) {
            (Some(unread), Some(quiet)) => Some(earlier(unread, quiet)),
            (unread, quiet) => unread.or(quiet),
        }
    }
}

fn earlier(one: (Instant, Ending), other: (Instant, Ending)) -> (Instant, Ending) {
    if other.0 < one.0 { other } else { one }
}

/// A request in progress: until its answer has ended.
#[derive(Debug)]
pub(super) struct InProgress {
    activity: Arc<Activity>,
    is_awaited: bool,
}

impl InProgress {
    pub(super) fn begin(activity: &Arc<Activity>, path: &str) -> Self {
        let is_awaited = !path.starts_with(UNAWAITED);
        let mut state = activity.state.lock();
        state.requests += 1;
        state.awaited += usize::from(is_awaited);
        state.head_since = None;
        drop(state);
        Self { activity: Arc::clone(activity), is_awaited }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        state.requests -= 1;
        state.awaited -= usize::from(self.is_awaited);
        let now = Instant::now();
        if state.awaited == 0 {
            state.unawaited_since = now;
        }
        if state.requests == 0 {
            state.idle_since = now;
            drop(state);
            self.activity.changed.notify_waiters();
        }
    }
}

/// The body of an answer; its request is in progress until the body ends.
pub(super) struct AnswerBody {
    body: axum::body::Body,
    _in_progress: InProgress,
}

impl AnswerBody {
    pub(super) fn new(body: axum::body::Body, in_progress: InProgress) -> Self {
        Self { body, _in_progress: in_progress }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_known_in_whatever_pieces_it_arrives() {
        let whole = Protocol::Unknown(0).with(PREFACE);
        assert_eq!(whole, Protocol::Http2);
        let pieces = PREFACE.chunks(5).fold(Protocol::Unknown(0), Protocol::with);
        assert_eq!(pieces, Protocol::Http2);
        assert_eq!(Protocol::Unknown(0).with(b"PRI * HT"), Protocol::Unknown(8));
        assert_eq!(Protocol::Unknown(8).with(b"XX"), Protocol::Http1);
        assert_eq!(Protocol::Unknown(0).with(b"GET / HTTP/1.1\r\n"), Protocol::Http1);
        let more: Vec<u8> = [PREFACE, b"and a frame"].concat();
        assert_eq!(Protocol::Unknown(0).with(&more), Protocol::Http2);
    }
}
