#!/usr/bin/env bash
# sqlx 0.9.0 with PostgreSQL: a migration that fails leaves the migrator's advisory lock with the pool's connection.
# Needs PostgreSQL, which tools/postgres.sh starts for the run.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src" "$work/migrations"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
sqlx = { version = "=0.9.0", default-features = false, features = ["runtime-tokio", "postgres", "migrate"] }
tokio = { version = "1.54", features = ["macros", "rt-multi-thread"] }
TOML
# The second row breaks the primary key: the database refuses the statement, as it should.
echo "CREATE TABLE numbers (number int PRIMARY KEY); INSERT INTO numbers VALUES (1), (1);" >"$work/migrations/1_fails.sql"
cat >"$work/src/main.rs" <<'RUST'
//! Runs a migration that the database refuses, gives the connection back, and counts the advisory locks that are held.
use std::path::Path;

use sqlx::{migrate::Migrator, postgres::PgPoolOptions};

#[tokio::main]
async fn main() -> Result<(), sqlx::Error> {
    let url = std::env::args().nth(1).expect("the database's URL");
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    let watching = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    let migrator = Migrator::new(Path::new("migrations")).await?;

    let failed = migrator.run(&pool).await.expect_err("a row breaks the primary key");
    println!("the migration: {failed}");
    // The connection is idle in its pool again when somebody else can take it.
    drop(pool.acquire().await?);
    let held: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted").fetch_one(&watching).await?;
    println!("advisory locks held by an idle connection: {held}");
    assert_eq!(held, 1, "the lock is released when a migration fails");
    Ok(())
}
RUST
cd "$work"
cargo build --quiet --release
# shellcheck disable=SC2016  # the inner shell expands the variable
"$root/tools/postgres.sh" run bash -c 'target/release/finding "$SEMBLANCE_TEST_POSTGRES_URL"'
