//! `vethpath agent`: the lab's own process.

use super::{Exit, Failure, failure::runtime};
use crate::{agent, state::Directory, topology::NameError};

/// Runs the agent of a lab until it is told to end.
pub fn run(lab: &str) -> Result<Exit, Failure> {
    let lab = lab.parse().map_err(|error: NameError| Failure::request(error.to_string()))?;
    // A session of its own: closing the terminal that `up` ran in does not end the agent. Fails
    // where it is the leader of one already.
    let _ = nix::unistd::setsid();
    let level = if cfg!(feature = "ebpf-log") { log::LevelFilter::Debug } else { log::LevelFilter::Info };
    env_logger::Builder::new().filter_level(level).parse_default_env().init();
    match runtime()?.block_on(agent::run(&Directory::of(&lab))) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            log::error!("{error}");
            Err(Failure::system(error.to_string()))
        }
    }
}
