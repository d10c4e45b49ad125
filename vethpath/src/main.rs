//! The `vethpath` command.

use std::process::ExitCode;

use clap::Parser;
use vethpath::{agent, cli::Cli, commands, kernel::process};

fn main() -> ExitCode {
    // Threads that are started later inherit the mask.
    process::reset_signals();
    process::set_name();
    if !process::has_small_stack() {
        return run();
    }
    // Capabilities are per thread. This thread lives as long as the agent, so it drops its own as well. The agent
    // reports it if that is refused.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "agent") {
        let _ = agent::reduce_privileges();
    }
    process::run_on_default_stack(run)
}

fn run() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => {
            // `--help` and `--version` succeed. A wrong command line is a user error: exit code 1, not clap's 2.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
    }
}
