//! What an import tells of itself: how far it is, which rows were refused and why, and what came of it.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tracing::{info, warn};

/// Refused rows that are shown; a file named by `--rejects` has them all.
const SHOWN_MAX: u64 = 20;
/// Without a terminal: how often a line says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Report {
    bar: Option<ProgressBar>,
    rejects: Option<BufWriter<File>>,
    total: u64,
    passed_over: u64,
    enrolled: u64,
    refused: u64,
    first_refusal: Option<String>,
    said: Instant,
}

impl Report {
    pub(super) fn begin(total: u64, passed_over: u64, rejects: Option<&Path>) -> anyhow::Result<Self> {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta}")?;
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(total).with_style(style));
        if let Some(bar) = &bar {
            bar.set_position(passed_over);
            bar.reset_eta();
        }
        if passed_over > 0 {
            info!("going on after row {passed_over} of {total}, where the last run ended");
        }
        let rejects = rejects.map(|path| open(path, passed_over > 0)).transpose()?;
        let (enrolled, refused, first_refusal) = (0, 0, None);
        Ok(Self { bar, rejects, total, passed_over, enrolled, refused, first_refusal, said: Instant::now() })
    }

    /// How many rows the file has.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn enrolled(&mut self) {
        self.enrolled += 1;
        self.tell();
    }

    pub(super) fn refused(&mut self, row: u64, reason: &str) -> anyhow::Result<()> {
        self.refused += 1;
        if self.refused <= SHOWN_MAX {
            let line = || warn!("row {row} is refused: {reason}");
            self.bar.as_ref().map_or_else(line, |bar| bar.suspend(line));
        }
        if let Some(rejects) = &mut self.rejects {
            writeln!(rejects, "{}", json!({"row": row, "reason": reason})).context("--rejects")?;
            rejects.flush().context("--rejects")?;
        }
        self.first_refusal.get_or_insert_with(|| format!("{row} is refused: {reason}"));
        self.tell();
        Ok(())
    }

    pub(super) fn first_refusal(&self) -> Option<&str> {
        self.first_refusal.as_deref()
    }

    fn tell(&mut self) {
        let done = self.passed_over + self.enrolled + self.refused;
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.said.elapsed() >= LINE_EVERY => {
                self.said = Instant::now();
                info!("{done} of {} rows, {} refused", self.total, self.refused);
            }
            None => {}
        }
    }

    /// The last line.
    pub(super) fn end(self) -> String {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let before = match self.passed_over {
            0 => String::new(),
            passed_over => format!(", {passed_over} before this run"),
        };
        format!("{} rows are enrolled{before}, {} are refused", self.enrolled, self.refused)
    }
}

/// Reasons may name what a row holds, so only the owner may read them.
fn open(path: &Path, is_going_on: bool) -> anyhow::Result<BufWriter<File>> {
    let mut options = OpenOptions::new();
    options.create(true).append(is_going_on).write(true).truncate(!is_going_on);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).with_context(|| format!("cannot write rejects to {}", path.display()))?;
    Ok(BufWriter::new(file))
}
