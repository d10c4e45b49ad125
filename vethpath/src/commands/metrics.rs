//! `vethpath metrics`, and the processes that serve the metrics of a lab.

use std::{
    fs::File,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::net::UnixStream},
};

use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::Signal,
        stat::{Mode, umask},
    },
    unistd::{dup2_stdin, setsid},
};
use sd_notify::NotifyState;

use super::{Exit, Failure, failure::runtime, up};
use crate::{
    kernel::privileges,
    metrics::{self, Scope},
    topology::NameError,
};

/// Serves the metrics of all labs until interrupted.
pub fn run(listen: SocketAddr) -> Result<Exit, Failure> {
    up::privileged()?;
    let listener = TcpListener::bind(listen).map_err(|error| {
        Failure::request(format!("cannot serve metrics at {listen}: {error}"))
            .hint("pass an address of this machine and a free port, such as 127.0.0.1:9466")
    })?;
    let address = listener.local_addr().unwrap_or(listen);
    let ready = || {
        // A closed stderr does not affect the metrics.
        let _ =
            writeln!(io::stderr(), "the metrics of all labs are at http://{address}/metrics until Ctrl-C");
        // Without a service manager there is none to notify.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    };
    runtime()?.block_on(metrics::run(listener, Scope::Machine, ready)).map_err(failed)?;
    Ok(Exit::Done)
}

/// Serves the metrics of a lab until the lab is down. The standard input is the listening socket.
pub fn of_lab(lab: &str) -> Result<Exit, Failure> {
    let lab = lab.parse().map_err(|error: NameError| Failure::request(error.to_string()))?;
    // A new session, so that closing the terminal of `up` does not end it.
    let _ = setsid();
    // Everything that it creates is accessible to root only.
    let _ = umask(Mode::from_bits_truncate(0o077));
    let listener = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    // The server alone is to have it, so that nothing listens once the server has ended.
    let null = File::open("/dev/null").map_err(failed)?;
    dup2_stdin(&null).map_err(|errno| failed(errno.into()))?;
    runtime()?.block_on(metrics::run(listener.into(), Scope::Lab(lab), || ())).map_err(failed)?;
    Ok(Exit::Done)
}

/// Serves without any privilege. The standard input is the listening socket, the standard output a socket to the reader.
pub fn server() -> Result<Exit, Failure> {
    // Before the runtime: capabilities belong to a thread and are inherited by the threads that it creates.
    privileges::drop_all()?;
    // A stopped process does not notice that its reader has ended. A change of the user would clear this.
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| failed(errno.into()))?;
    let listener = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let reader = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    runtime()?.block_on(metrics::serve(listener.into(), UnixStream::from(reader))).map_err(failed)?;
    Ok(Exit::Done)
}

fn failed(error: io::Error) -> Failure {
    Failure::system(format!("cannot serve metrics: {error}"))
}
