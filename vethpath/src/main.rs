//! The `vethpath` command.

use std::process::ExitCode;

use clap::Parser;
use vethpath::{cli::Cli, commands};

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => {
            // `--help` and `--version` are no fault; a wrong command line is the user's: 1, not clap's 2.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
    }
}
