use super::*;
use crate::{Result, StoreError};

on_both_databases!(
    a_migrated_schema_is_this_programs,
    an_empty_database_asks_for_migration,
    a_newer_schema_is_recognised,
    an_altered_schema_is_recognised,
    replicas_may_migrate_at_once,
    a_closed_store_is_unavailable,
);

fn schema_error(outcome: Result<()>) -> String {
    let Err(StoreError::Schema(what)) = outcome else { panic!("not noticed: {outcome:?}") };
    what
}

async fn a_migrated_schema_is_this_programs(subject: &Subject) {
    subject.store.ping().await.expect("answers");
    subject.store.check_schema().await.expect("migrated");
    subject.store.migrate().await.expect("nothing to do");
    subject.store.check_schema().await.expect("still migrated");
}

async fn an_empty_database_asks_for_migration(subject: &Subject) {
    subject.execute("DELETE FROM _sqlx_migrations").await;
    assert!(schema_error(subject.store.check_schema().await).contains("`semblance migrate`"));
    subject.execute("DROP TABLE _sqlx_migrations").await;
    assert!(schema_error(subject.store.check_schema().await).contains("`semblance migrate`"));
}

async fn a_newer_schema_is_recognised(subject: &Subject) {
    subject
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT 9999, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
    assert!(schema_error(subject.store.check_schema().await).contains("newer semblance"));
    assert!(schema_error(subject.store.migrate().await).contains("newer semblance"));
}

async fn an_altered_schema_is_recognised(subject: &Subject) {
    subject
        .store
        .create_collection(
            &Collection { spaces: vec![binding("one", Modality::Face, SpaceRole::Active)], ..collection(1, "staff") },
            None,
        )
        .await
        .expect("created");
    let altered =
        subject.execute("UPDATE _sqlx_migrations SET checksum = (SELECT digest FROM collection_spaces)").await;
    assert!(altered > 0);
    assert!(schema_error(subject.store.check_schema().await).contains("another build"));
    assert!(schema_error(subject.store.migrate().await).contains("another build"));
}

async fn replicas_may_migrate_at_once(subject: &Subject) {
    for table in [
        "DROP TABLE dismissed_pairs",
        "DROP TABLE template_moves",
        "DROP TABLE regrouped_identities",
        "DROP TABLE regroupings",
        "DROP TABLE operation_findings",
        "DROP TABLE operations",
        "DROP TABLE review_samples",
        "DROP TABLE review_cases",
        "DROP TABLE review_trials",
        "DROP TABLE calibrations",
        "DROP TABLE idempotency_keys",
        "DROP TABLE decisions",
        "DROP TABLE log_entries",
        "DROP TABLE template_payloads",
        "DROP TABLE templates",
        "DROP TABLE identities",
        "DROP TABLE collection_spaces",
        "DROP TABLE collections",
        "DROP TABLE _sqlx_migrations",
    ] {
        subject.execute(table).await;
    }
    let mut replicas = vec![Arc::clone(&subject.store)];
    for _ in 0..3 {
        replicas.push(subject.replica().await);
    }
    for migrated in futures::future::join_all(replicas.iter().map(|replica| replica.migrate())).await {
        migrated.expect("migrated");
    }
    subject.store.check_schema().await.expect("migrated");
    created(&subject.store).await;
}

async fn a_closed_store_is_unavailable(subject: &Subject) {
    let replica = subject.replica().await;
    replica.ping().await.expect("answers");
    replica.close().await;
    let refused = replica.ping().await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let refused = replica.create_collection(&collection(1, "staff"), None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}
