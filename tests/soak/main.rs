//! Mixed load on the real program while it, its database, its pooler and its disk fail, with a check of every answer. What
//! was acknowledged is there exactly once, what was refused is not, what was erased is neither found nor on disk, and a read
//! with a consistency token is never older than the token.
//!
//! `make soak` runs it for minutes; `SOAK_SECONDS=14400 make soak` for hours. `SOAK_SEED` repeats the choices of a run, and
//! `SOAK_STAGES=sqlite,full-disk,postgres,pooler` chooses. It ends with a table, and with 1 on a violation.

mod database;
mod disk;
mod faults;
mod history;
mod load;
mod random;
mod server;
mod stage;

use std::{process::ExitCode, time::Duration};

use stage::{Kind, Stage};

/// Seconds of all stages together, without `SOAK_SECONDS`.
const SECONDS: u64 = 240;

fn main() -> ExitCode {
    let seconds = setting("SOAK_SECONDS").and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let seed = setting("SOAK_SEED").and_then(|text| text.parse().ok()).unwrap_or_else(random::fresh);
    let chosen = setting("SOAK_STAGES").unwrap_or_else(|| "sqlite,full-disk,postgres,pooler".to_owned());
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| chosen.split(',').any(|name| name == kind.name())).collect();
    say(&format!("SOAK_SEED={seed} SOAK_SECONDS={seconds}"));
    let parts: u64 = kinds.iter().map(|kind| kind.share()).sum();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (mut lines, mut violations) = (Vec::new(), 0);
    for kind in kinds {
        let time = Duration::from_secs(seconds * kind.share() / parts.max(1));
        match runtime.block_on(Stage::run(kind, time, seed)) {
            Ok(tally) => {
                violations += tally.violations;
                lines.push(tally.row(kind.name()));
            }
            Err(why) => say(&format!("NOT RUN: {}: {why}", kind.name())),
        }
    }
    say("NOT RUN: clock jumps: the program reads the clock of the system, which belongs to everybody here");
    say(stage::Tally::HEAD);
    lines.iter().for_each(|line| say(line));
    say(&format!("violations: {violations}; repeat with SOAK_SEED={seed}"));
    if violations == 0 && !lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "a test program has no configuration")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::print_stdout, reason = "it answers on standard output")]
fn say(line: &str) {
    println!("{line}");
}
