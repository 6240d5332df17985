//! The commands. Results go to standard output, progress and logs to standard error.

mod doctor;
mod evaluate;
mod export;
mod import;
mod migrate;
mod models;
mod open_set;
mod people_file;
mod process_limits;
mod reference;
mod serve;
mod templates;
mod train;

use std::{io::Write, process::ExitCode, time::Duration};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    config::{self, LogFlags, LogFormat, PlaceFlags},
    telemetry::{self, LogLines},
};

/// The open identity-matching server: known, new or uncertain, by face, person and gait.
#[derive(Debug, Parser)]
#[command(name = "semblance", version, max_term_width = 100)]
struct Program {
    #[command(flatten)]
    places: PlaceFlags,
    #[command(flatten)]
    log: LogFlags,
    #[command(subcommand)]
    command: Command,
}

/// The wait at exit for computations without a caller.
const UNFINISHED_WORK: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve REST and gRPC.
    Serve(Box<config::ServeFlags>),
    /// Migrate the database to the schema of this version.
    Migrate,
    /// List, download, install and verify model packages.
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Enroll the rows of a file, embeddings or pictures, on a running server. An interrupted import continues at the next
    /// run.
    Import(Box<import::ImportFlags>),
    /// Write the templates of a collection from the database to a file.
    Export(export::ExportFlags),
    /// Check the consistency of the database and the gallery snapshots. The exit code is 1 when there are findings.
    Doctor(doctor::DoctorFlags),
    /// Measure the accuracy of a model, or of embeddings, scores or detections, on labelled data.
    Evaluate(Box<evaluate::EvaluateFlags>),
    /// Train one of Semblance's own models.
    #[command(subcommand)]
    Train(train::TrainCommand),
    /// Write a generated page of the documentation.
    #[command(hide = true)]
    Reference { page: reference::ReferencePage },
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "an operator must read it whatever the log filter is")]
fn print_error(sentence: &str) {
    eprintln!("semblance: {sentence}");
}

fn run() -> anyhow::Result<()> {
    let matches = config::with_file(Program::command())?.get_matches();
    let program = Program::from_arg_matches(&matches)?;
    let lines = match program.log.log_format {
        LogFormat::Text => LogLines::Text,
        LogFormat::Json => LogLines::Json,
    };
    telemetry::start_logs(&program.log.log, lines)?;
    let places = program.places;
    match program.command {
        Command::Serve(flags) => {
            let reactor = reactor()?;
            let served = reactor.block_on(serve::run(&places, &flags));
            // A graph under construction or a rehearsal has no caller any more.
            reactor.shutdown_timeout(UNFINISHED_WORK);
            served
        }
        Command::Migrate => reactor()?.block_on(migrate::run(&places)),
        Command::Models(command) => models::run(&places, command),
        Command::Import(flags) => import::run(&flags),
        Command::Export(flags) => reactor()?.block_on(export::run(&places, &flags)),
        Command::Doctor(flags) => reactor()?.block_on(doctor::run(&places, &flags)),
        Command::Evaluate(flags) => evaluate::run(&places, &flags),
        Command::Train(command) => train::run(&places, command),
        Command::Reference { page } => {
            reference::run(&Program::command(), page);
            Ok(())
        }
    }
}

fn reactor() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Prints a line of a command's result. A closed pipe, as of `head`, is not an error.
fn print(line: impl std::fmt::Display) {
    let _closed = writeln!(std::io::stdout(), "{line}");
}
