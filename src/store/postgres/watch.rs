//! Notices of other replicas' commits, by LISTEN and NOTIFY.
//!
//! One channel per schema. A notice says where to look, so a lost notice costs only time. A proxy that shares one
//! session between clients accepts the LISTEN and delivers the notices to any of them, so the watch listens only on a
//! session that proves to be its own. It then tests the connection by an echo: it notifies itself over another
//! connection, first when it connects and then after each long silence.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgListener, PgPool};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::super::{LogNotice, LogWatch, Result, StoreError};
use domain::{CollectionUid, Position};

/// Pause before the next attempt to connect.
const RETRY: Duration = Duration::from_secs(1);
/// Pause after the database answered but refused LISTEN: an operator must act.
const RETRY_REFUSED: Duration = Duration::from_mins(1);
/// Longest silence before the watch tests the connection: the peer may have vanished.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often a session is tested. One test may miss a pooler that spreads transactions over many sessions.
const SESSION_TESTS: usize = 4;
/// Longest wait for the echo.
const ECHO_MAX: Duration = Duration::from_secs(5);

/// Listens on the channel of the schema, and reconnects when the connection breaks.
#[derive(Debug)]
pub(super) struct PgWatch {
    listener: PgPool,
    /// Sends the echo.
    senders: PgPool,
    connection: Option<ListenConnection>,
    /// The log already says that no notices arrive.
    warned: bool,
}

#[derive(Debug)]
struct ListenConnection {
    listener: PgListener,
    channel: String,
    /// The payload by which this watch recognises its own echo.
    echo: String,
    /// The echo was sent and has not arrived.
    echo_pending: bool,
}

impl PgWatch {
    pub(super) fn new(listener: PgPool, senders: PgPool) -> Self {
        Self { listener, senders, connection: None, warned: false }
    }
}

#[async_trait]
impl LogWatch for PgWatch {
    async fn next(&mut self) -> LogNotice {
        loop {
            match &mut self.connection {
                None => {
                    if self.open().await {
                        return LogNotice::Anything;
                    }
                }
                Some(connection) => {
                    match connection.next(&self.senders).await {
                        WatchEvent::Notice(notice) => return notice,
                        WatchEvent::Echo if self.warned => {
                            info!("notices of other replicas' writes arrive again");
                            self.warned = false;
                        }
                        WatchEvent::Echo => {}
                        WatchEvent::Broken => self.connection = None,
                        WatchEvent::EchoMissing => {
                            self.connection = None;
                            self.warn("the echo did not arrive; a proxy drops it, or DATABASE_LISTEN_URL names another database");
                            tokio::time::sleep(RETRY_REFUSED).await;
                        }
                    }
                }
            }
        }
    }
}

impl PgWatch {
    /// Starts to listen. Waits after a failure. Returns whether it listens.
    async fn open(&mut self) -> bool {
        match ListenConnection::open(&self.listener, &self.senders).await {
            Ok(Some(connection)) => {
                self.connection = Some(connection);
                return true;
            }
            Ok(None) => {
                self.warn(
                    "a connection pooler shares sessions between clients; set DATABASE_LISTEN_URL to a direct address, or \
                     to off",
                );
                tokio::time::sleep(RETRY_REFUSED).await;
            }
            // The poll for heads already reports that the database is not available.
            Err(StoreError::Unavailable(error)) => {
                debug!(%error, "not listening yet");
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                self.warn(&error.to_string());
                tokio::time::sleep(RETRY_REFUSED).await;
            }
        }
        false
    }

    fn warn(&mut self, why: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            warn!(why, "no notices of other replicas' writes; this replica polls at every follow interval instead");
        }
    }
}

/// What a wait on the connection ended with.
enum WatchEvent {
    Notice(LogNotice),
    /// The connection works.
    Echo,
    /// The connection ended.
    Broken,
    /// The echo did not arrive in time.
    EchoMissing,
}

impl ListenConnection {
    /// `None` when the session is shared with other clients.
    async fn open(pool: &PgPool, senders: &PgPool) -> Result<Option<Self>> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.eager_reconnect(false); // notices sent meanwhile are lost, and the caller must learn of that
        if !is_own_session(&mut listener, pool).await? {
            return Ok(None);
        }
        let (channel, echo): (String, String) = sqlx::query_as(
            "SELECT 'semblance_' || current_schema()::text::regnamespace::oid, 'echo ' || gen_random_uuid()",
        )
        .fetch_one(&mut listener)
        .await?;
        listener.listen(&channel).await?;
        let mut connection = Self { listener, channel, echo, echo_pending: false };
        connection.send_echo(senders).await?;
        Ok(Some(connection))
    }

    async fn send_echo(&mut self, senders: &PgPool) -> Result<()> {
        sqlx::query("SELECT pg_notify($1, $2)").bind(&self.channel).bind(&self.echo).execute(senders).await?;
        self.echo_pending = true;
        Ok(())
    }

    async fn next(&mut self, senders: &PgPool) -> WatchEvent {
        loop {
            let wait_max = if self.echo_pending { ECHO_MAX } else { SILENCE_MAX };
            match timeout(wait_max, self.listener.try_recv()).await {
                Ok(Ok(Some(message))) if message.payload() == self.echo => {
                    self.echo_pending = false;
                    return WatchEvent::Echo;
                }
                Ok(Ok(Some(message))) => {
                    if let Some(notice) = notice(message.payload()) {
                        return WatchEvent::Notice(notice);
                    }
                }
                Ok(Ok(None) | Err(_)) => return WatchEvent::Broken,
                Err(_) if self.echo_pending => return WatchEvent::EchoMissing,
                Err(_) => {
                    if self.send_echo(senders).await.is_err() {
                        return WatchEvent::Broken;
                    }
                }
            }
        }
    }
}

/// Whether the session belongs to this connection alone. A pooler that gives sessions out by transaction gives the one
/// of `listener` to the next transaction, and `listener` then gets another one, or waits.
async fn is_own_session(listener: &mut PgListener, pool: &PgPool) -> Result<bool> {
    const BACKEND: &str = "SELECT pg_backend_pid()";
    for _ in 0..SESSION_TESTS {
        let before: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *listener).await?;
        let mut other = pool.begin().await?;
        let taken: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *other).await?;
        let again = timeout(ECHO_MAX, sqlx::query_scalar(BACKEND).fetch_one(&mut *listener)).await;
        other.rollback().await?;
        let Ok(again) = again else {
            return Ok(false); // the pooler has one session only, and the other transaction had it
        };
        let after: i32 = again?;
        if taken == before || after != before {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The payload of a notice: the collection's uid, and the position if there is one.
pub(super) fn payload(notice: &LogNotice) -> String {
    match notice {
        LogNotice::Appended { uid, position } => format!("{} {}", uid.0, position.0),
        LogNotice::Changed(uid) => uid.0.to_string(),
        LogNotice::Anything => String::new(),
    }
}

/// `None` for echoes of other watches and for payloads of later versions.
fn notice(payload: &str) -> Option<LogNotice> {
    let (uid, position) = payload.split_once(' ').map_or((payload, None), |(uid, position)| (uid, Some(position)));
    if payload.is_empty() {
        return Some(LogNotice::Anything);
    }
    let uid = CollectionUid(Uuid::parse_str(uid).ok()?);
    Some(match position {
        None => LogNotice::Changed(uid),
        Some(position) => LogNotice::Appended { uid, position: Position(position.parse().ok()?) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_survive_the_channel_and_other_payloads_are_ignored() {
        let uid = CollectionUid(Uuid::from_u128(7));
        for sent in
            [LogNotice::Appended { uid, position: Position(u64::MAX) }, LogNotice::Changed(uid), LogNotice::Anything]
        {
            assert_eq!(notice(&payload(&sent)), Some(sent));
        }
        for other in ["echo 0", "x", "00000000-0000-0000-0000-000000000007 -1", " ", "7 7 7"] {
            assert_eq!(notice(other), None, "{other}");
        }
    }
}
