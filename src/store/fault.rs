//! What the databases say when something goes wrong, in the room's own words.

use sqlx::{
    error::{BoxDynError, DatabaseError},
    migrate::MigrateError,
    postgres::PgDatabaseError,
    sqlite::SqliteError,
};

use super::StoreError;

impl From<sqlx::Error> for StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "an open enum: what is not known to pass is a refusal")]
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as Sqlx;
        match error {
            Sqlx::Io(_) | Sqlx::Tls(_) | Sqlx::PoolTimedOut | Sqlx::PoolClosed | Sqlx::WorkerCrashed => {
                Self::Unavailable(error.into())
            }
            Sqlx::Database(said) => from_database(&*said),
            // The decoder's own words may quote the value, which may be a label; the column's name is enough.
            Sqlx::ColumnDecode { index, .. } => Self::Corrupt(format!("column {index} does not hold what it should")),
            other => Self::Refused(other.into()),
        }
    }
}

impl From<MigrateError> for StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "an open enum: what is not known to pass is a refusal")]
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(version) => newer_schema(version),
            MigrateError::VersionMismatch(version) => altered_migration(version),
            other => Self::Refused(other.into()),
        }
    }
}

/// The schema has a migration that this program does not know.
pub(super) fn newer_schema(version: i64) -> StoreError {
    StoreError::Schema(format!(
        "the database was migrated by a newer semblance (its migration {version} is unknown to this one): run that \
         version, or a later one"
    ))
}

/// A migration was applied whose text is not this program's.
pub(super) fn altered_migration(version: i64) -> StoreError {
    StoreError::Schema(format!(
        "migration {version} of the database is not the one of this semblance: the schema was made by another build"
    ))
}

/// A row does not say what this program would have written.
pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}

fn from_database(said: &dyn DatabaseError) -> StoreError {
    match trouble(said) {
        Trouble::Passing => StoreError::Unavailable(words(said)),
        Trouble::Damage => corrupt(said.message()),
        Trouble::Refusal => StoreError::Refused(words(said)),
    }
}

/// The message and the code without the detail, in which Postgres quotes the row.
fn words(said: &dyn DatabaseError) -> BoxDynError {
    format!("{} (code {})", said.message(), said.code().unwrap_or_default()).into()
}

enum Trouble {
    /// Of the moment: asking again later may succeed.
    Passing,
    /// The database file is damaged.
    Damage,
    /// The database does not do what was asked.
    Refusal,
}

fn trouble(said: &dyn DatabaseError) -> Trouble {
    if let Some(postgres) = said.try_downcast_ref::<PgDatabaseError>() {
        return postgres_trouble(postgres.code());
    }
    if said.try_downcast_ref::<SqliteError>().is_some() {
        return sqlite_trouble(said.code().and_then(|code| code.parse().ok()).unwrap_or(0));
    }
    Trouble::Refusal
}

/// By SQLSTATE, PostgreSQL documentation, appendix A.
fn postgres_trouble(state: &str) -> Trouble {
    match (state.get(..2).unwrap_or_default(), state) {
        // Connection lost; out of resources; shutting down, starting up or cancelled by the operator.
        ("08" | "53" | "57", _)
        // Serialisation failure and deadlock; lock not available in time; idle for too long inside a turn; demoted to
        // a standby, as happens in a failover.
        | (_, "40001" | "40P01" | "55P03" | "25P03" | "25006") => Trouble::Passing,
        ("XX", "XX001" | "XX002") => Trouble::Damage,
        _ => Trouble::Refusal,
    }
}

/// By primary result code, <https://www.sqlite.org/rescode.html>; the extended code keeps it in its low byte.
fn sqlite_trouble(extended_code: u32) -> Trouble {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const IO_ERROR: u32 = 10;
    const CORRUPT: u32 = 11;
    const FULL: u32 = 13;
    const CANNOT_OPEN: u32 = 14;
    const NOT_A_DATABASE: u32 = 26;
    match extended_code & 0xff {
        BUSY | LOCKED | IO_ERROR | FULL | CANNOT_OPEN => Trouble::Passing,
        CORRUPT | NOT_A_DATABASE => Trouble::Damage,
        _ => Trouble::Refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        for passing in ["08006", "53300", "57P01", "57P03", "40001", "40P01", "55P03", "25P03", "25006"] {
            assert!(matches!(postgres_trouble(passing), Trouble::Passing), "{passing}");
        }
        for refusal in ["23505", "42P01", "28P01", "3D000", "25P02", ""] {
            assert!(matches!(postgres_trouble(refusal), Trouble::Refusal), "{refusal}");
        }
        assert!(matches!(postgres_trouble("XX001"), Trouble::Damage));
        // Extended codes: busy while recovering, no memory of a shared page, disk full, a failed sync.
        for passing in [5, 261, 6, 10, 1034, 13, 14] {
            assert!(matches!(sqlite_trouble(passing), Trouble::Passing), "{passing}");
        }
        for damage in [11, 267, 26] {
            assert!(matches!(sqlite_trouble(damage), Trouble::Damage), "{damage}");
        }
        for refusal in [0, 1, 787, 2067] {
            assert!(matches!(sqlite_trouble(refusal), Trouble::Refusal), "{refusal}");
        }
    }

    #[test]
    fn an_unreadable_value_is_not_quoted() {
        let error = sqlx::Error::ColumnDecode { index: "labels".to_owned(), source: "alice lives here".into() };
        assert_eq!(
            StoreError::from(error).to_string(),
            "the database holds something unreadable: column labels does not hold what it should"
        );
    }
}
