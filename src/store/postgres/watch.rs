//! Hearing what any replica committed, by LISTEN and NOTIFY.
//!
//! One channel for each schema; what is told is where to look, so a word that is lost costs time and nothing else. A
//! proxy that hands one session to many clients takes the LISTEN and then delivers nothing. Only an echo tells: the
//! watch sends itself a word over another connection, at first and after every long silence.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgListener, PgPool};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::super::{News, Result, StoreError, Watch};
use domain::{CollectionUid, Position};

/// How long to wait before the database is asked again for a line.
const RETRY: Duration = Duration::from_secs(1);
/// The same, where it answers and does not let us listen: that takes an operator.
const RETRY_REFUSED: Duration = Duration::from_mins(1);
/// After so long without a word the line is tried: the other end may have gone without saying so.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long the echo may take.
const ECHO_MAX: Duration = Duration::from_secs(5);

/// Listens on the channel of the schema, and begins again where the line breaks.
#[derive(Debug)]
pub(super) struct PgWatch {
    listener: PgPool,
    /// For the word that comes back as an echo.
    others: PgPool,
    line: Option<Line>,
    /// The operator was told that nothing is heard.
    warned: bool,
}

#[derive(Debug)]
struct Line {
    listener: PgListener,
    channel: String,
    /// What this watch says to itself.
    word: String,
    /// The word was sent and has not come back.
    owed: bool,
}

impl PgWatch {
    pub(super) fn new(listener: PgPool, others: PgPool) -> Self {
        Self { listener, others, line: None, warned: false }
    }
}

#[async_trait]
impl Watch for PgWatch {
    async fn next(&mut self) -> News {
        loop {
            match &mut self.line {
                None => {
                    if self.open().await {
                        return News::Anything;
                    }
                }
                Some(line) => match line.hear(&self.others).await {
                    Heard::News(news) => return news,
                    Heard::Echo if self.warned => {
                        info!("what other replicas write is heard again");
                        self.warned = false;
                    }
                    Heard::Echo => {}
                    Heard::Broken => self.line = None,
                    Heard::Nothing => {
                        self.line = None;
                        self.warn("what was said did not arrive; a proxy that shares sessions does not pass it on");
                        tokio::time::sleep(RETRY_REFUSED).await;
                    }
                },
            }
        }
    }
}

impl PgWatch {
    /// Begins to listen; where that fails, waits a little. Answers whether it listens.
    async fn open(&mut self) -> bool {
        match Line::open(&self.listener, &self.others).await {
            Ok(line) => {
                self.line = Some(line);
                return true;
            }
            // Whoever polls says already that the database is not there.
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
            warn!(why, "cannot hear what other replicas write; it is asked for at every follow interval instead");
        }
    }
}

/// What came over the line.
enum Heard {
    News(News),
    /// The line works.
    Echo,
    /// The connection ended.
    Broken,
    /// The word that was sent did not come back.
    Nothing,
}

impl Line {
    async fn open(pool: &PgPool, others: &PgPool) -> Result<Self> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.eager_reconnect(false); // what was said meanwhile is lost, and whoever watches must hear of that
        let (channel, word): (String, String) = sqlx::query_as(
            "SELECT 'semblance_' || current_schema()::text::regnamespace::oid, 'echo ' || gen_random_uuid()",
        )
        .fetch_one(&mut listener)
        .await?;
        listener.listen(&channel).await?;
        let mut line = Self { listener, channel, word, owed: false };
        line.call(others).await?;
        Ok(line)
    }

    /// Sends the word that shall come back.
    async fn call(&mut self, others: &PgPool) -> Result<()> {
        sqlx::query("SELECT pg_notify($1, $2)").bind(&self.channel).bind(&self.word).execute(others).await?;
        self.owed = true;
        Ok(())
    }

    async fn hear(&mut self, others: &PgPool) -> Heard {
        loop {
            let patience = if self.owed { ECHO_MAX } else { SILENCE_MAX };
            match timeout(patience, self.listener.try_recv()).await {
                Ok(Ok(Some(said))) if said.payload() == self.word => {
                    self.owed = false;
                    return Heard::Echo;
                }
                Ok(Ok(Some(said))) => {
                    if let Some(news) = news(said.payload()) {
                        return Heard::News(news);
                    }
                }
                Ok(Ok(None) | Err(_)) => return Heard::Broken,
                Err(_) if self.owed => return Heard::Nothing,
                Err(_) => {
                    if self.call(others).await.is_err() {
                        return Heard::Broken;
                    }
                }
            }
        }
    }
}

/// News as they stand in a notification: the collection, and the position where there is one.
pub(super) fn payload(news: &News) -> String {
    match news {
        News::Appended { uid, position } => format!("{} {}", uid.0, position.0),
        News::Changed(uid) => uid.0.to_string(),
        News::Anything => String::new(),
    }
}

/// `None` for echoes of others and for what a later version may say.
fn news(payload: &str) -> Option<News> {
    let (uid, position) = payload.split_once(' ').map_or((payload, None), |(uid, position)| (uid, Some(position)));
    if payload.is_empty() {
        return Some(News::Anything);
    }
    let uid = CollectionUid(Uuid::parse_str(uid).ok()?);
    Some(match position {
        None => News::Changed(uid),
        Some(position) => News::Appended { uid, position: Position(position.parse().ok()?) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_survive_the_channel_and_other_words_are_passed_over() {
        let uid = CollectionUid(Uuid::from_u128(7));
        for said in [News::Appended { uid, position: Position(u64::MAX) }, News::Changed(uid), News::Anything] {
            assert_eq!(news(&payload(&said)), Some(said));
        }
        for other in ["echo 0", "x", "00000000-0000-0000-0000-000000000007 -1", " ", "7 7 7"] {
            assert_eq!(news(other), None, "{other}");
        }
    }
}
