//! The `vethpath` command.

use std::process::ExitCode;

use clap::Parser;
use vethpath::{
    agent,
    cli::Cli,
    commands,
    kernel::{privileges, process},
};

fn main() -> ExitCode {
    // Threads that are started later inherit the mask.
    process::reset_signals();
    process::set_name();
    if !process::has_small_stack() {
        return run();
    }
    // Capabilities are per thread. This thread lives as long as the agent, or the server of metrics, so it drops its own
    // as well. They report it if that is refused.
    match std::env::args_os().nth(1) {
        Some(verb) if verb == "agent" => drop(agent::reduce_privileges()),
        Some(verb) if verb == "metrics-server" => drop(privileges::drop_all()),
        _ => {}
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
