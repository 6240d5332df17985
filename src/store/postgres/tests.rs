use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use uuid::Uuid;

use super::{MIGRATION_LOCK, SqlStore};
use crate::{DecisionRecord, ListenAddress, LogNotice, LogWatch, Store, StoreError, StoreOptions, contract::Subject};
use domain::{Change, Collection, DecisionId, Position, Revision, Timestamp};

fn collection() -> Collection {
    testing::collection(1, "staff")
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn decisions_do_not_wait_for_a_turn_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let uid = collection().uid;
        subject.store.create_collection(&collection(), None).await.expect("created");
        let turn = subject.store.take_turn(uid).await.expect("the turn");
        let record = DecisionRecord {
            id: DecisionId(Uuid::from_u128(2)),
            time: Timestamp::UNIX_EPOCH,
            body: serde_json::json!({}),
        };
        // If it waited for the turn, which is still open, it would fail when the lock times out.
        subject.store.put_decisions(&[(uid, record)]).await.expect("stored beside the turn");
        turn.commit().await.expect("committed");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_turn_whose_connection_is_lost_is_unavailable_and_leaves_no_trace_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let uid = collection().uid;
        subject.store.create_collection(&collection(), None).await.expect("created");
        let mut turn = subject.store.take_turn(uid).await.expect("the turn");
        let next = Collection { revision: Revision(2), ..collection() };
        turn.put_collection(&next).await.expect("put");
        subject
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'semblance' AND datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        let lost = turn.entries_after(Position::START, 1).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        assert!(turn.commit().await.is_err());

        let turn = subject.store.take_turn(uid).await.expect("the store recovers by itself");
        assert_eq!(turn.collection(), &collection());
    })
    .await;
}

/// The next notice. A watch that sends none fails the test instead of blocking it.
async fn next(watch: &mut Box<dyn LogWatch>) -> LogNotice {
    tokio::time::timeout(Duration::from_mins(1), watch.next()).await.expect("a notice within a minute")
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_watch_notices_what_another_replica_commits_and_nothing_else_on_postgres() {
    Box::pin(Subject::on_postgres(async |subject: &Subject| {
        let replica = subject.replica().await;
        let mut watch = replica.watch();
        assert_eq!(next(&mut watch).await, LogNotice::Anything, "it connects");

        let uid = collection().uid;
        subject.store.create_collection(&collection(), None).await.expect("created");
        assert_eq!(next(&mut watch).await, LogNotice::Changed(uid));
        let put = Change::PutIdentity(testing::identity("alice"));
        let mut dropped = subject.store.take_turn(uid).await.expect("the turn");
        dropped.append(std::slice::from_ref(&put), Timestamp::UNIX_EPOCH).await.expect("appended");
        drop(dropped);
        let mut turn = subject.store.take_turn(uid).await.expect("the turn");
        turn.append(&[put.clone(), put.clone()], Timestamp::UNIX_EPOCH).await.expect("appended");
        turn.append(&[put], Timestamp::UNIX_EPOCH).await.expect("appended");
        turn.commit().await.expect("committed");
        assert_eq!(next(&mut watch).await, LogNotice::Appended { uid, position: Position(2) });
        assert_eq!(next(&mut watch).await, LogNotice::Appended { uid, position: Position(3) });
        assert_eq!(replica.head(uid).await.expect("read").expect("there").position, Position(3));

        let renamed = Collection { revision: Revision(2), ..collection() };
        subject.store.update_collection(&renamed, Revision::FIRST).await.expect("updated");
        assert_eq!(next(&mut watch).await, LogNotice::Changed(uid));
        assert!(subject.store.delete_collection(uid).await.expect("deleted"));
        assert_eq!(next(&mut watch).await, LogNotice::Changed(uid));
        assert_eq!(replica.head(uid).await.expect("read"), None);
    }))
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_watch_that_reconnects_reports_that_notices_may_be_lost_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let mut watch = subject.store.watch();
        assert_eq!(next(&mut watch).await, LogNotice::Anything);
        for _ in 0..3 {
            let ended = subject
                .execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND query LIKE 'LISTEN%'",
                )
                .await;
            assert_eq!(ended, 1, "one connection listens");
            assert_eq!(next(&mut watch).await, LogNotice::Anything, "it reconnects by itself");
        }
        subject.store.create_collection(&collection(), None).await.expect("created");
        assert_eq!(next(&mut watch).await, LogNotice::Changed(collection().uid));
    })
    .await;
}

/// A network between store and server that fails at a COMMIT.
struct BadNetwork {
    url: String,
    next: Arc<AtomicU8>,
}

const GOOD: u8 = 0;
/// The next COMMIT reaches the server; its answer is lost with the connection.
const LOSES_THE_ANSWER: u8 = 1;
/// The next COMMIT is lost with the connection.
const LOSES_THE_COMMIT: u8 = 2;

impl BadNetwork {
    async fn before(url: &str) -> Self {
        let server: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
        let server = format!("{}:{}", server.get_host(), server.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("an address").to_string();
        let next = Arc::new(AtomicU8::new(GOOD));
        let url = url.replacen(&server, &here, 1);
        assert!(url.contains(&here), "the tests' database has a host and a port");
        tokio::spawn({
            let next = Arc::clone(&next);
            async move {
                loop {
                    let (client, _) = listener.accept().await.expect("accepted");
                    let (client, server) = (client.into_split(), TcpStream::connect(&server).await.expect("connected"));
                    tokio::spawn(Self::carry(client, server, Arc::clone(&next)));
                }
            }
        });
        Self { url, next }
    }

    async fn carry(client: (OwnedReadHalf, OwnedWriteHalf), server: TcpStream, next: Arc<AtomicU8>) {
        let (mut from_client, mut to_client) = client;
        let (mut from_server, mut to_server) = server.into_split();
        let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut bytes = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            let is_commit = bytes[..read].windows(7).any(|window| window == b"COMMIT\0");
            let fate = if is_commit { next.swap(GOOD, Ordering::SeqCst) } else { GOOD };
            if fate == GOOD {
                to_server.write_all(&bytes[..read]).await.expect("sent");
                continue;
            }
            back.abort();
            let _ = back.await; // the client hears no more
            if fate == LOSES_THE_ANSWER {
                to_server.write_all(&bytes[..read]).await.expect("sent");
            }
            return;
        }
        back.abort();
    }
}

/// Appends one identity to the collection. Returns the outcome of the commit.
async fn put_alice(store: &dyn Store) -> crate::Result<()> {
    let mut turn = store.take_turn(collection().uid).await?;
    turn.append(&[Change::PutIdentity(testing::identity("alice"))], Timestamp::UNIX_EPOCH).await?;
    turn.commit().await
}

async fn position(subject: &Subject) -> Position {
    subject.store.head(collection().uid).await.expect("read").expect("there").position
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_commit_is_never_told_as_failed_when_only_its_answer_is_lost_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        subject.store.create_collection(&collection(), None).await.expect("created");
        let network = BadNetwork::before(&subject.options.url).await;
        let options = StoreOptions { url: network.url.clone(), listen: ListenAddress::Off, ..subject.options.clone() };
        let store = SqlStore::connect(&options).await.expect("connected");
        put_alice(&store).await.expect("a good network");

        network.next.store(LOSES_THE_ANSWER, Ordering::SeqCst);
        put_alice(&store).await.expect("it is committed, whatever the network did");
        assert_eq!(position(subject).await, Position(2));
        assert_eq!(store.write_outage(), None);

        network.next.store(LOSES_THE_COMMIT, Ordering::SeqCst);
        let lost = put_alice(&store).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        assert_eq!(position(subject).await, Position(2), "and this one is not");
        assert!(store.write_outage().is_some());
        store.check_writes().await.expect("the network is good again");
        assert_eq!(store.write_outage(), None);
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_session_that_another_client_left_listening_does_not_fail_commits_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        subject.store.create_collection(&collection(), None).await.expect("created");
        let options = StoreOptions { connections_max: 2, listen: ListenAddress::Off, ..subject.options.clone() };
        let store = SqlStore::connect(&options).await.expect("connected");
        let mut session = store.pools.writers.acquire().await.expect("the only writer");
        let listen: String =
            sqlx::query_scalar("SELECT format('LISTEN %I', 'semblance_' || current_schema()::text::regnamespace::oid)")
                .fetch_one(&mut *session)
                .await
                .expect("the channel");
        session.execute(AssertSqlSafe(listen)).await.expect("listens");
        drop(session);
        for round in 1..=3 {
            put_alice(&store).await.expect("committed, and told so");
            assert_eq!(position(subject).await, Position(round));
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_migration_says_for_whom_it_waits_and_a_migrated_schema_takes_no_lock_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let mut other = PgConnection::connect(&subject.options.url).await.expect("connected");
        let mut held = other.begin().await.expect("begun");
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid() FROM pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .fetch_one(&mut *held)
            .await
            .expect("the lock");
        let options = StoreOptions { migrate_wait: Duration::ZERO, ..subject.options.clone() };
        let store = SqlStore::connect(&options).await.expect("connected");
        store.migrate().await.expect("nothing to do");

        subject.execute("DELETE FROM _sqlx_migrations WHERE version = 1").await;
        let Err(StoreError::Unavailable(why)) = store.migrate().await else { panic!("it did not wait") };
        assert!(why.to_string().contains(&format!("backend {pid}")), "{why}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_read_only_database_is_told_as_an_outage_of_writes_alone_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        subject.store.create_collection(&collection(), None).await.expect("created");
        subject
            .execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$")
            .await;
        let store = SqlStore::connect(&subject.options).await.expect("connected");
        store.migrate().await.expect("nothing to do");
        store.ping().await.expect("answers");
        let refused = put_alice(&store).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        store.check_writes().await.expect_err("read-only");
        assert!(store.write_outage().expect("told").contains("read-only"), "{:?}", store.write_outage());
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_listen_address_of_its_own_or_none_is_used_on_postgres() {
    Subject::on_postgres(async |subject: &Subject| {
        let own = ListenAddress::Url(subject.options.url.clone());
        let store =
            SqlStore::connect(&StoreOptions { listen: own, ..subject.options.clone() }).await.expect("connected");
        assert_eq!(next(&mut store.watch()).await, LogNotice::Anything);

        let off = StoreOptions { listen: ListenAddress::Off, ..subject.options.clone() };
        let store = SqlStore::connect(&off).await.expect("connected");
        let mut watch = store.watch();
        assert_eq!(futures::FutureExt::now_or_never(watch.next()), None);
        assert!(store.pools.listener.is_none());
    })
    .await;
}
