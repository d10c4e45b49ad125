//! From arguments to an exit code. Each command has a file; `list` has `show` too, and `validate` has `schema`.

mod accelerate;
mod agent;
mod bench;
mod doctor;
mod down;
mod events;
mod exec;
mod failure;
mod firewall;
mod follow;
mod graph;
mod labs;
mod list;
mod metrics;
mod neighbours;
mod peer;
mod ping;
mod plan;
mod power;
mod source;
mod stats;
mod stream;
mod subnets;
mod test;
mod up;
mod validate;
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::CommandFactory;
pub use failure::{Exit, Failure};
use nix::sys::stat::{Mode, umask};

use crate::{
    apply::Foreign,
    cli::{Cli, Command},
};

/// Runs a command line.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let out = &mut io::stdout().lock();
    if !matches!(cli.command, Command::Exec { .. } | Command::Shell { .. }) {
        // Files of vethpath do not depend on the caller's umask. Programs that run for the user keep it.
        let _ = umask(Mode::from_bits_truncate(0o022));
    }
    let done = match cli.command {
        Command::Up { file, hook, allow_drops, follow, overrides, json } => {
            let request = up::Request { hook, allow_drops, overrides: overrides.into() };
            let run = if follow { follow::run } else { up::run };
            run(&file, &request, json.json, out)
        }
        Command::Down { lab, all, force } => {
            let foreign = if force { Foreign::CutOff } else { Foreign::Kept };
            down::run(lab.lab.as_deref(), all, foreign)
        }
        Command::Accelerate(arguments) => accelerate::run(&arguments, out),
        Command::Plan { file, all, overrides, json } => {
            plan::run(&file, overrides.into(), all, json.json, out)
        }
        Command::Validate(arguments) => validate::run(&arguments, out),
        Command::Schema => validate::schema(out),
        Command::List { json } => list::run(json.json, out),
        Command::Exec { lab, namespace, command } => exec::run(lab.as_deref(), &namespace, &command),
        Command::Shell { lab, namespace } => exec::shell(lab.as_deref(), &namespace),
        Command::Graph(arguments) => graph::run(&arguments, out),
        Command::Peer(arguments) => peer::run(&arguments, out),
        Command::Stop(arguments) => power::stop(&arguments),
        Command::Start(arguments) => power::start(&arguments),
        Command::Restart(arguments) => power::restart(&arguments),
        Command::Ping(arguments) => ping::run(&arguments, out),
        Command::Test(arguments) => test::run(&arguments, out),
        Command::Doctor { json } => doctor::run(json.json, out),
        Command::Events(arguments) => events::run(&arguments, out),
        Command::Bench(arguments) => bench::run(&arguments, out),
        Command::Metrics { listen } => metrics::run(listen),
        Command::Agent { lab } => agent::run(&lab),
        Command::MetricsOf { lab } => metrics::of_lab(&lab),
        Command::MetricsServer => metrics::server(),
        Command::BenchEnd(peer) => match peer.run() {
            Ok(()) => Ok(Exit::Done),
            Err(error) => Err(Failure::system(format!("an end of `bench`: {error}"))),
        },
        Command::Completions { shell } => rendered(out, |text| {
            clap_complete::generate(shell, &mut Cli::command(), "vethpath", text);
            Ok(())
        }),
        Command::Man => rendered(out, |text| clap_mangen::Man::new(Cli::command()).render(text)),
        Command::Show { lab, json } => list::show(lab.lab.as_deref(), json.json, out),
        Command::Stats(arguments) => stats::run(&arguments, out),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(&mut io::stderr().lock()),
    }
}

/// Renders to memory before writing, since clap's renderers panic if a write fails.
fn rendered(
    out: &mut dyn Write,
    render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    render(&mut text)
        .and_then(|()| out.write_all(&text))
        .and_then(|()| out.flush())
        .map_err(Failure::output)?;
    Ok(Exit::Done)
}
