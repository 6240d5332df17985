//! The commands. What a command answers goes to standard output; what it is doing goes to standard error.

mod doctor;
mod evaluate;
mod export;
mod import;
mod migrate;
mod models;
mod open_set;
mod people_file;
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

/// The open identity-matching server: who is this, is it nobody here, or can it not be told?
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

/// How long computations that nobody waits for may hold up the end of the program.
const UNFINISHED_WORK: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve REST and gRPC.
    Serve(Box<config::ServeFlags>),
    /// Bring the database to this version's schema.
    Migrate,
    /// List, fetch, install and verify model packages.
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Enroll the rows of a file with a running server: embeddings or pictures. A run that was cut off goes on where it
    /// ended.
    Import(Box<import::ImportFlags>),
    /// Write who is enrolled in a collection to a file, read from the database.
    Export(export::ExportFlags),
    /// Compare the database with itself; the exit code and a list say what is not as it should be.
    Doctor(doctor::DoctorFlags),
    /// Measure a model on a labelled set, through the same code that serves.
    Evaluate(Box<evaluate::EvaluateFlags>),
    /// Make a model of our own.
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
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &anyhow::Error) {
    warn_plainly(&format!("{error:#}"));
}

#[expect(clippy::print_stderr, reason = "what an operator must read, logs or no logs")]
fn warn_plainly(words: &str) {
    eprintln!("semblance: {words}");
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
            // A graph that is being built, or a rehearsal, is nobody's any more.
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

/// A line of a command's answer. Whoever reads it may have seen enough and gone: no reason to fail.
fn say(line: impl std::fmt::Display) {
    let _gone = writeln!(std::io::stdout(), "{line}");
}
