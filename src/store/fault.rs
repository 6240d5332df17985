//! Errors of sqlx and of the databases as errors of the store.

use sqlx::{
    error::{BoxDynError, DatabaseError},
    migrate::MigrateError,
    postgres::PgDatabaseError,
    sqlite::SqliteError,
};

use super::StoreError;

impl From<sqlx::Error> for StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a non-exhaustive enum: an unknown error counts as a refusal")]
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as Sqlx;
        match error {
            Sqlx::Io(_) | Sqlx::Tls(_) | Sqlx::PoolTimedOut | Sqlx::PoolClosed | Sqlx::WorkerCrashed => {
                Self::Unavailable(error.into())
            }
            Sqlx::Database(error) => from_database(&*error),
            // The decoder's own message may quote the value, which may be a label; the column's name is enough.
            Sqlx::ColumnDecode { index, .. } => Self::Corrupt(format!("column {index} holds a value of another type")),
            other => Self::Refused(other.into()),
        }
    }
}

impl From<MigrateError> for StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a non-exhaustive enum: an unknown error counts as a refusal")]
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(version) => newer_schema(version),
            MigrateError::VersionMismatch(version) => altered_migration(version),
            other => Self::Refused(other.into()),
        }
    }
}

/// The schema has a migration that is unknown to this program.
pub(super) fn newer_schema(version: i64) -> StoreError {
    StoreError::Schema(format!(
        "the database was migrated by a newer semblance (its migration {version} is unknown to this one): run that \
         version, or a later one"
    ))
}

/// The text of an applied migration differs from this program's.
pub(super) fn altered_migration(version: i64) -> StoreError {
    StoreError::Schema(format!(
        "migration {version} of the database is not the one of this semblance: the schema was made by another build"
    ))
}

/// A row holds a value that this program does not write.
pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}

fn from_database(error: &dyn DatabaseError) -> StoreError {
    match class_of(error) {
        ErrorClass::Transient => StoreError::Unavailable(message(error)),
        ErrorClass::Damage => corrupt(error.message()),
        ErrorClass::Refusal => StoreError::Refused(message(error)),
        ErrorClass::SharedSession => StoreError::BadUrl(
            "DATABASE_URL leads to a connection pooler that shares sessions between clients and loses their prepared \
             statements; use PgBouncer 1.21 or later with max_prepared_statements above 0, session pooling, or a direct \
             connection"
                .to_owned(),
        ),
    }
}

/// The message and the code, without the detail, in which Postgres quotes the row.
fn message(error: &dyn DatabaseError) -> BoxDynError {
    format!("{} (code {})", error.message(), error.code().unwrap_or_default()).into()
}

enum ErrorClass {
    /// A later attempt may succeed.
    Transient,
    /// The database file is damaged.
    Damage,
    /// The database refuses the statement.
    Refusal,
    /// Another client prepared a statement in this session.
    SharedSession,
}

fn class_of(error: &dyn DatabaseError) -> ErrorClass {
    if let Some(postgres) = error.try_downcast_ref::<PgDatabaseError>() {
        return postgres_class(postgres.code());
    }
    if error.try_downcast_ref::<SqliteError>().is_some() {
        return sqlite_class(error.code().and_then(|code| code.parse().ok()).unwrap_or(0));
    }
    ErrorClass::Refusal
}

/// By SQLSTATE, PostgreSQL documentation, appendix A.
fn postgres_class(state: &str) -> ErrorClass {
    match (state.get(..2).unwrap_or_default(), state) {
        // Connection lost; out of resources; shutting down, starting up or cancelled by the operator.
        ("08" | "53" | "57", _)
        // Serialisation failure and deadlock; lock not available in time; idle for too long inside a turn; demoted to
        // a standby, as happens in a failover.
        | (_, "40001" | "40P01" | "55P03" | "25P03" | "25006") => ErrorClass::Transient,
        ("XX", "XX001" | "XX002") => ErrorClass::Damage,
        (_, "42P05") => ErrorClass::SharedSession,
        _ => ErrorClass::Refusal,
    }
}

/// By primary result code, <https://www.sqlite.org/rescode.html>; the extended code keeps it in its low byte.
fn sqlite_class(extended_code: u32) -> ErrorClass {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const IO_ERROR: u32 = 10;
    const CORRUPT: u32 = 11;
    const FULL: u32 = 13;
    const CANNOT_OPEN: u32 = 14;
    const NOT_A_DATABASE: u32 = 26;
    const READ_ONLY: u32 = 8;
    match extended_code & 0xff {
        BUSY | LOCKED | READ_ONLY | IO_ERROR | FULL | CANNOT_OPEN => ErrorClass::Transient,
        CORRUPT | NOT_A_DATABASE => ErrorClass::Damage,
        _ => ErrorClass::Refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_errors_are_told_from_damage_and_refusals() {
        for transient in ["08006", "53300", "57P01", "57P03", "40001", "40P01", "55P03", "25P03", "25006"] {
            assert!(matches!(postgres_class(transient), ErrorClass::Transient), "{transient}");
        }
        for refusal in ["23505", "42P01", "28P01", "3D000", "25P02", ""] {
            assert!(matches!(postgres_class(refusal), ErrorClass::Refusal), "{refusal}");
        }
        assert!(matches!(postgres_class("XX001"), ErrorClass::Damage));
        assert!(matches!(postgres_class("42P05"), ErrorClass::SharedSession));
        // Extended codes: busy while recovering, no memory of a shared page, disk full, a failed sync.
        for transient in [5, 261, 6, 10, 1034, 13, 14] {
            assert!(matches!(sqlite_class(transient), ErrorClass::Transient), "{transient}");
        }
        for damage in [11, 267, 26] {
            assert!(matches!(sqlite_class(damage), ErrorClass::Damage), "{damage}");
        }
        for refusal in [0, 1, 787, 2067] {
            assert!(matches!(sqlite_class(refusal), ErrorClass::Refusal), "{refusal}");
        }
    }

    #[test]
    fn an_unreadable_value_is_not_quoted() {
        let error = sqlx::Error::ColumnDecode { index: "labels".to_owned(), source: "alice lives here".into() };
        assert_eq!(
            StoreError::from(error).to_string(),
            "the database holds an unreadable value: column labels holds a value of another type"
        );
    }
}
