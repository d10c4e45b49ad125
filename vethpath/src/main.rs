//! The `vethpath` command.

use std::process::ExitCode;

use clap::Parser;
use vethpath::{
    agent,
    cli::Cli,
    commands,
    kernel::{signals, stack},
};

fn main() -> ExitCode {
    // Threads that are started later inherit the mask.
    signals::reset();
    if !stack::is_small() {
        return run();
    }
    // Capabilities are a thread's, and this one lives as long as the agent: it gives them up, too. Where that is refused,
    // the agent says so.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "agent") {
        let _ = agent::reduce_privileges();
    }
    stack::run_on_default_stack(run)
}

fn run() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => {
            // `--help` and `--version` are no fault; a wrong command line is the user's: 1, not clap's 2.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
    }
}
