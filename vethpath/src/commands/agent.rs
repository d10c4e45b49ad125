//! `vethpath agent`: the lab's agent process.

use std::io::{self, Write};

use env_logger::fmt::Formatter;
use log::Record;
use nix::sys::stat::{Mode, umask};

use super::{Exit, Failure, failure::runtime};
use crate::{agent, output::printable, state::Directory, topology::NameError};

/// Runs the agent of a lab until it is terminated.
pub fn run(lab: &str) -> Result<Exit, Failure> {
    let lab = lab.parse().map_err(|error: NameError| Failure::request(error.to_string()))?;
    // A new session, so that closing the terminal of `up` does not end the agent. Fails if the process is a session
    // leader already.
    let _ = nix::unistd::setsid();
    // Everything that it creates is accessible to root only.
    let _ = umask(Mode::from_bits_truncate(0o077));
    let level = if cfg!(feature = "ebpf-log") { log::LevelFilter::Debug } else { log::LevelFilter::Info };
    env_logger::Builder::new().filter_level(level).parse_default_env().format(write_record).init();
    // Before the runtime, since capabilities belong to a thread and are inherited by the threads that it creates.
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

/// Formats a line of the log. It is escaped for a terminal.
fn write_record(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (at, level, target) = (out.timestamp(), record.level(), record.target());
    let message = record.args().to_string();
    writeln!(out, "[{at} {level:<5} {target}] {}", printable(&message))
}
