//! Progress reports of an installation.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::super::Manifest;

/// Warning for a TorchScript package.
const PROGRAM_WARNING: &str = "it holds a program (TorchScript) that runs within this server and can do what the server \
                               can; install it only if you trust its author";

/// Receives the progress of an installation. All methods are called from the installing thread.
pub trait InstallProgress {
    /// A package is about to be downloaded or installed; `origins` are its addresses.
    fn describe(&self, manifest: &Manifest, origins: &[&str]);
    /// A download starts at byte `already`; `total` is its length, if known.
    fn begin(&self, already: u64, total: Option<u64>);
    /// More bytes arrived.
    fn advance(&self, bytes: u64);
    /// The download ended, with or without success.
    fn end(&self);
}

/// Reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl InstallProgress for NoProgress {
    fn describe(&self, _manifest: &Manifest, _origins: &[&str]) {}
    fn begin(&self, _already: u64, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
}

/// Reports to standard error: licence and provenance, then a progress bar on a terminal.
#[derive(Debug, Default)]
pub struct ProgressBars {
    bar: Mutex<Option<ProgressBar>>,
}

impl InstallProgress for ProgressBars {
    fn describe(&self, manifest: &Manifest, origins: &[&str]) {
        let from = origins.join("\n              ");
        let Manifest { id, version, licence, provenance, intended_use, not_for, .. } = manifest;
        let mut out = io::stderr().lock();
        // A closed standard error is ignored.
        let _closed = writeln!(
            out,
            "{id} {version}\n  from        {from}\n  licence     {licence}\n  provenance  {provenance}\n  \
             meant for   {intended_use}\n  not for     {not_for}"
        );
        if manifest.is_program() {
            let _closed = writeln!(out, "  beware      {PROGRAM_WARNING}");
        }
    }

    fn begin(&self, already: u64, total: Option<u64>) {
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_position(already);
        bar.set_style(style(total.is_some()));
        *self.bar.lock() = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.bar.lock() {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.lock().take() {
            bar.finish_and_clear();
        }
    }
}

fn style(has_length: bool) -> ProgressStyle {
    let template = if has_length {
        "  {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "  {spinner} {bytes} {bytes_per_sec}"
    };
    ProgressStyle::with_template(template).expect("the templates are constants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_shown_with_and_without_a_length() {
        let bars = ProgressBars::default();
        for total in [Some(100), None] {
            bars.begin(40, total);
            bars.advance(60);
            let (position, length) = bars.bar.lock().as_ref().map(|bar| (bar.position(), bar.length())).expect("begun");
            assert_eq!((position, length), (100, total));
            bars.end();
            assert!(bars.bar.lock().is_none());
        }
    }
}
