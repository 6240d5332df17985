//! The program: parses the command line, runs the command and returns its exit code. All other code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    semblance::cli::main()
}
