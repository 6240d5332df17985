//! The program: parse, start the logs, run, exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    semblance::cli::main()
}
