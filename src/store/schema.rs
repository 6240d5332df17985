//! Checks that a database has this program's schema.

use sqlx::migrate::{AppliedMigration, Migrator};

use super::{
    Result, StoreError,
    fault::{altered_migration, newer_schema},
};

/// # Errors
/// [`StoreError::Schema`], which tells the operator what to do.
pub(super) fn check(ours: &Migrator, applied: &[AppliedMigration]) -> Result<()> {
    if needs_migration(ours, applied)? {
        let age = if applied.is_empty() { "empty" } else { "older than this semblance" };
        return Err(StoreError::Schema(format!("the database is {age}: run `semblance migrate`")));
    }
    Ok(())
}

/// Whether migrations of this program are not applied yet.
///
/// # Errors
/// [`StoreError::Schema`] when the schema is of another program: newer, or altered.
pub(super) fn needs_migration(ours: &Migrator, applied: &[AppliedMigration]) -> Result<bool> {
    if let Some(unknown) = applied.iter().find(|theirs| !ours.version_exists(theirs.version)) {
        return Err(newer_schema(unknown.version));
    }
    let mut is_behind = false;
    for migration in ours.iter() {
        match applied.iter().find(|theirs| theirs.version == migration.version) {
            Some(theirs) if theirs.checksum != migration.checksum => return Err(altered_migration(theirs.version)),
            Some(_) => {}
            None => is_behind = true,
        }
    }
    Ok(is_behind)
}
