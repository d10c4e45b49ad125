//! `vethpath agent`: the lab's own process.

use std::io::{self, Write};

use env_logger::fmt::Formatter;
use log::Record;
use nix::sys::stat::{Mode, umask};

use super::{Exit, Failure, failure::runtime};
use crate::{agent, output::printable, state::Directory, topology::NameError};

/// Runs the agent of a lab until it is terminated.
pub fn run(lab: &str) -> Result<Exit, Failure> {
    let lab = lab.parse().map_err(|error: NameError| Failure::request(error.to_string()))?;
    // A session of its own: closing the terminal that `up` ran in does not end the agent. Fails
    // where it is the leader of one already.
    let _ = nix::unistd::setsid();
    // Whatever it makes is root's alone from the first moment on.
    let _ = umask(Mode::from_bits_truncate(0o077));
    let level = if cfg!(feature = "ebpf-log") { log::LevelFilter::Debug } else { log::LevelFilter::Info };
    env_logger::Builder::new().filter_level(level).parse_default_env().format(line).init();
    // Before the runtime: capabilities are a thread's, and threads inherit them.
    let done = match agent::reduce_privileges() {
        Ok(()) => runtime()?.block_on(agent::run(&Directory::of(&lab))),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            log::error!("{error}");
            Err(Failure::system(error.to_string()))
        }
    }
}

/// A line of the log, which people will read on a terminal.
fn line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (at, level, target) = (out.timestamp(), record.level(), record.target());
    let message = record.args().to_string();
    writeln!(out, "[{at} {level:<5} {target}] {}", printable(&message))
}
