//! The listeners of both wires: how many connections there are, how long a head may take, how long a connection may stay
//! idle, and how connections end at a stop. A stop waits for requests, not for connections.

mod activity;
mod connection;
mod open;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub use open::{ConnectionLimits, OpenConnections};

use super::layers::Wire;
use connection::ConnectionServer;
use open::Place;

/// The longest wait after an error of the listener, such as no free file descriptor.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Errors of one kind are logged once in this time, with their number.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Serves `router` on `socket` until `stop`, then lets the requests in progress end.
pub(super) async fn serve(
    socket: TcpListener,
    router: Router,
    wire: Wire,
    open: Arc<OpenConnections>,
    stop: impl Future<Output = ()>,
) {
    let server = ConnectionServer::new(router, wire, open.limits());
    let stopping = server.stopping();
    let acceptor = Acceptor { socket, wire, open, refused: Mutex::default() };
    // Dropped with this future, which ends the connections too.
    let mut connections = JoinSet::new();
    {
        let mut stop = pin!(stop);
        let mut accepting = pin!(acceptor.accept());
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                // Taken out as they end: the set must not grow with every connection that there ever was.
                Some(ended) = connections.join_next() => log_panic(ended),
                Accepted { stream, peer, place } = &mut accepting => {
                    connections.spawn(server.clone().serve_one(stream, peer, place));
                    accepting.set(acceptor.accept());
                }
            }
        }
    }
    drop(acceptor);
    stopping.cancel();
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection panicked");
    }
}

/// A connection, with its place among those that may be open.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
}

struct Acceptor {
    socket: TcpListener,
    wire: Wire,
    open: Arc<OpenConnections>,
    refused: Mutex<RefusedAccepts>,
}

impl Acceptor {
    async fn accept(&self) -> Accepted {
        loop {
            let error = match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let place = self.open.place(self.wire).await;
                    return Accepted { stream, peer, place };
                }
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => error,
            };
            metrics::counter!(domain::metric::ACCEPTS_REFUSED, "transport" => self.wire.as_str()).increment(1);
            self.refused.lock().log(&error, self.wire);
            // The likeliest error is that the process has no free file descriptor; an idle connection holds one.
            self.open.make_room(ACCEPT_RETRY).await;
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Accepts that the operating system refused, logged once in a while.
#[derive(Debug, Default)]
struct RefusedAccepts {
    logged: Option<Instant>,
    since: u64,
}

impl RefusedAccepts {
    fn log(&mut self, error: &io::Error, wire: Wire) {
        self.since += 1;
        if self.logged.is_some_and(|logged| logged.elapsed() < LOGGED_EVERY) {
            return;
        }
        tracing::error!(
            %error,
            transport = wire.as_str(),
            times = self.since,
            "cannot accept a connection; the idlest one is closed. If this goes on, raise the limit of open files"
        );
        *self = Self { logged: Some(Instant::now()), since: 0 };
    }
}

#[cfg(test)]
mod tests;
