//! The report of an import: progress, refused rows with reasons, and the result.

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

/// The most refused rows in the log; the file of `--rejects` has all.
const LOGGED_MAX: u64 = 20;
/// The interval of progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct ImportReport {
    bar: Option<ProgressBar>,
    rejects: Option<BufWriter<File>>,
    total: u64,
    /// Rows of earlier runs.
    skipped: u64,
    enrolled: u64,
    refused: u64,
    first_refusal: Option<String>,
    logged: Instant,
}

impl ImportReport {
    pub(super) fn begin(total: u64, skipped: u64, rejects: Option<&Path>) -> anyhow::Result<Self> {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta}")?;
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(total).with_style(style));
        if let Some(bar) = &bar {
            bar.set_position(skipped);
            bar.reset_eta();
        }
        if skipped > 0 {
            info!("continuing after row {skipped} of {total}");
        }
        let rejects = rejects.map(|path| open(path, skipped > 0)).transpose()?;
        let (enrolled, refused, first_refusal) = (0, 0, None);
        Ok(Self { bar, rejects, total, skipped, enrolled, refused, first_refusal, logged: Instant::now() })
    }

    /// The number of rows of the file.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn enrolled(&mut self) {
        self.enrolled += 1;
        self.show();
    }

    pub(super) fn refused(&mut self, row: u64, reason: &str) -> anyhow::Result<()> {
        self.refused += 1;
        if self.refused <= LOGGED_MAX {
            let line = || warn!("row {row} refused: {reason}");
            self.bar.as_ref().map_or_else(line, |bar| bar.suspend(line));
        }
        if let Some(rejects) = &mut self.rejects {
            writeln!(rejects, "{}", json!({"row": row, "reason": reason})).context("--rejects")?;
            rejects.flush().context("--rejects")?;
        }
        self.first_refusal.get_or_insert_with(|| format!("{row} refused: {reason}"));
        self.show();
        Ok(())
    }

    pub(super) fn first_refusal(&self) -> Option<&str> {
        self.first_refusal.as_deref()
    }

    fn show(&mut self) {
        let done = self.skipped + self.enrolled + self.refused;
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.logged.elapsed() >= LINE_EVERY => {
                self.logged = Instant::now();
                info!("{done} of {} rows, {} refused", self.total, self.refused);
            }
            None => {}
        }
    }

    /// The result, one line.
    pub(super) fn end(self) -> String {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let before = match self.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} before this run"),
        };
        format!("{} rows enrolled{before}, {} refused", self.enrolled, self.refused)
    }
}

/// Reasons may quote a row, so only the owner may read the file.
fn open(path: &Path, is_continued: bool) -> anyhow::Result<BufWriter<File>> {
    let mut options = OpenOptions::new();
    options.create(true).append(is_continued).write(true).truncate(!is_continued);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).with_context(|| format!("cannot write rejects to {}", path.display()))?;
    Ok(BufWriter::new(file))
}
