#!/usr/bin/env bash
# sqlx 0.9.0 with SQLite: after a statement that finds the disk full, the pooled connection refuses every later begin_with.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
sqlx = { version = "=0.9.0", default-features = false, features = ["runtime-tokio", "sqlite"] }
tokio = { version = "1.54", features = ["macros", "rt-multi-thread"] }
TOML
cat >"$work/src/main.rs" <<'RUST'
//! Fills a database up to its limit of pages, which SQLite reports as a full disk, lifts the limit, and begins again.
use sqlx::sqlite::SqlitePoolOptions;

#[tokio::main]
async fn main() -> Result<(), sqlx::Error> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite:full.db?mode=rwc").await?;
    sqlx::raw_sql("CREATE TABLE numbers (bytes BLOB); PRAGMA max_page_count = 8").execute(&pool).await?;

    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let full = sqlx::query("INSERT INTO numbers VALUES (zeroblob(100000))").execute(&mut *transaction).await;
    println!("the insert: {}", full.expect_err("more pages than the limit"));
    drop(transaction);

    sqlx::raw_sql("PRAGMA max_page_count = 1000000").execute(&pool).await?;
    sqlx::query("INSERT INTO numbers VALUES (1)").execute(&pool).await?;
    println!("without a transaction, the connection writes again");
    for _ in 0..3 {
        let refused = pool.begin_with("BEGIN IMMEDIATE").await.map(drop).expect_err("sqlx counts the transaction that SQLite ended");
        println!("begin_with: {refused}");
    }
    Ok(())
}
RUST
cd "$work"
cargo build --quiet --release
target/release/finding
