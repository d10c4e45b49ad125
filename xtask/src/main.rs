//! The project's chores: `cargo xtask setup`, `cargo xtask test`, `cargo xtask demo`, `cargo xtask figures`,
//! `cargo xtask gallery`, `cargo xtask screenshots`.

mod demo;
mod documents;
mod error;
mod figures;
mod gallery;
mod interrupt;
mod screenshots;
mod setup;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{error::Error, setup::Need};

/// vethpath's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// The chores.
#[derive(Debug, Subcommand)]
enum Task {
    /// Install missing requirements of building, testing, the demo and the figures
    Setup,
    /// Run all checks for a change: format, lints, tests, documentation
    Test(test::Args),
    /// Build vethpath and show its main features on a small lab
    Demo,
    /// Run tests in a guest, for `cargo xtask test --kernel`
    #[command(hide = true)]
    Guest(test::GuestArgs),
    /// Measure every figure in the documents, and write tables and charts
    Figures(figures::Args),
    /// Draw the pictures of docs/gallery.md, and write what their commands print
    Gallery,
    /// Take the documents' pictures of `vethpath stats --watch`, on a real lab
    Screenshots(screenshots::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup => setup::run(&Need::USUAL),
        Task::Test(args) => test::run(&args),
        Task::Guest(args) => test::run_guest(&args),
        Task::Demo => demo::run(),
        Task::Figures(args) => figures::run(&args),
        Task::Gallery => gallery::run(),
        Task::Screenshots(args) => screenshots::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Prints an error with its causes and hint.
fn report(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        eprintln!("  because: {inner}");
        cause = inner.source();
    }
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(error.exit_code())
}
