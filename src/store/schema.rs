//! Checks that a database has this program's schema.

use sqlx::migrate::{AppliedMigration, Migrator};

use super::{
    Result, StoreError,
    fault::{altered_migration, newer_schema},
};

/// # Errors
/// [`StoreError::Schema`], which tells the operator what to do.
pub(super) fn check(ours: &Migrator, applied: &[AppliedMigration]) -> Result<()> {
    if let Some(unknown) = applied.iter().find(|theirs| !ours.version_exists(theirs.version)) {
        return Err(newer_schema(unknown.version));
    }
    for migration in ours.iter() {
        match applied.iter().find(|theirs| theirs.version == migration.version) {
            Some(theirs) if theirs.checksum != migration.checksum => return Err(altered_migration(theirs.version)),
            Some(_) => {}
            None if applied.is_empty() => {
                return Err(StoreError::Schema("the database is empty: run `semblance migrate`".to_owned()));
            }
            None => {
                return Err(StoreError::Schema(
                    "the database is older than this semblance: run `semblance migrate`".to_owned(),
                ));
            }
        }
    }
    Ok(())
}
