//! Round trips of any protocol. Each end is a process of its own, like servers and their clients.
//!
//! Two threads of one process switch on one CPU without a change of page tables, and a round trip of 64 bytes takes
//! 0.5 us less than between two processes. Each system call of a multi-threaded process also takes a reference to the
//! file (`fdget`); a round trip has four system calls.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use clap::{Args, ValueEnum};
use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, getppid},
};
use serde::{Deserialize, Serialize};

use super::{
    interface::{Arrived, Load, Window},
    socket::{CONNECT_TIMEOUT, READ_TIMEOUT, is_nothing_yet, tcp_pair, udp_sockets},
    tcp_rr, udp_rr,
};
use crate::bench::{
    endpoints::Endpoint,
    error::Error,
    measurement::{Measurement, Timing},
    workload::Wait,
};

/// The role of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Sends requests, one slice at a time, and reports the times.
    Ask,
    /// Answers requests.
    Answer,
}

/// Arguments of a peer process. Its socket is its standard input.
#[derive(Args, Clone, Copy, Debug)]
pub struct Peer {
    /// Whether to send requests or to answer them
    #[arg(long, value_enum)]
    role: Role,
    /// Bytes of a message or datagram
    #[arg(long)]
    size: usize,
    /// How to wait during a slice
    #[arg(long, value_enum)]
    wait: Wait,
    /// Address of the other end, for UDP; without it the socket is TCP
    #[arg(long)]
    other: Option<SocketAddr>,
    /// The parent process; this process ends with it
    #[arg(long)]
    parent: i32,
}

/// The report of a slice.
#[derive(Serialize, Deserialize)]
enum Reply {
    Measurement { sent: u64, received: u64, nanoseconds: Vec<(u64, u64)> },
    Failed(String),
}

impl Peer {
    fn new(role: Role, size: usize, wait: Wait, other: Option<SocketAddr>) -> Self {
        // Below the kernel's PID_MAX_LIMIT of 2^22.
        Self { role, size, wait, other, parent: std::process::id().cast_signed() }
    }

    fn arguments(self) -> Vec<String> {
        let Self { role, size, wait, other, parent } = self;
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        let (role, wait) = (name(role.to_possible_value()), name(wait.to_possible_value()));
        let mut arguments = ["role", "size", "wait", "parent"]
            .into_iter()
            .zip([role, size.to_string(), wait, parent.to_string()])
            .map(|(name, value)| format!("--{name}={value}"))
            .collect::<Vec<_>>();
        arguments.extend(other.map(|other| format!("--other={other}")));
        arguments
    }

    /// Runs until the other end or the control socket is closed, or the parent ends. The client reads the timing
    /// of slices from its standard error, a socket, and writes its reports there.
    ///
    /// # Errors
    /// Standard input is not such a socket, or the socket fails.
    pub fn run(self) -> io::Result<()> {
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != Pid::from_raw(self.parent) {
            // The parent ended before PR_SET_PDEATHSIG was set.
            return Err(io::Error::other("whoever started it has ended"));
        }
        if self.size == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "messages have at least a byte"));
        }
        let Self { role, size, wait, other, .. } = self;
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        match (role, other) {
            (Role::Answer, Some(client)) => udp_rr::serve(&socket.into(), client, size, wait),
            (Role::Answer, None) => tcp_rr::serve(&socket.into(), size, wait),
            (Role::Ask, Some(server)) => {
                let mut client = udp_rr::Client { socket: socket.into(), to: server, size, wait };
                measure_slices(|window| client.run_slice(window))
            }
            (Role::Ask, None) => {
                let mut client = tcp_rr::Client { stream: socket.into(), size, wait };
                measure_slices(|window| client.run_slice(window))
            }
        }
    }

    /// Starts the process. It inherits the calling thread's namespaces and CPU affinity, and ends with that thread.
    fn start(self, socket: impl Into<OwnedFd>, control: Stdio) -> io::Result<Process> {
        let mut command = Command::new("/proc/self/exe");
        self.configure(&mut command);
        // In its own process group: only the parent handles Ctrl-C, and it ends this process.
        command.process_group(0).stdin(Stdio::from(socket.into()));
        command.stdout(Stdio::null()).stderr(control).spawn().map(Process)
    }

    #[cfg(not(test))]
    fn configure(self, command: &mut Command) {
        command.arg("bench-end").args(self.arguments());
    }
}

/// Measures each requested slice.
fn measure_slices(mut measure: impl FnMut(Window) -> io::Result<Measurement>) -> io::Result<()> {
    let control = UnixStream::from(io::stderr().as_fd().try_clone_to_owned()?);
    for line in BufReader::new(&control).lines() {
        let timing: Timing = serde_json::from_str(&line?)?;
        let reply = match measure(Window::start(timing)) {
            Ok(Measurement { sent, received, histogram, .. }) => {
                let recorded = histogram.iter().flat_map(|histogram| histogram.iter_recorded());
                let nanoseconds = recorded.map(|step| (step.value_iterated_to(), step.count_at_value()));
                Reply::Measurement { sent, received, nanoseconds: nanoseconds.collect() }
            }
            Err(error) => Reply::Failed(error.to_string()),
        };
        send(&control, &reply)?;
    }
    Ok(())
}

fn send(mut control: &UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    control.write_all(&line)
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server process, which runs until this is dropped.
pub(super) struct ServerProcess {
    _process: Process,
}

impl ServerProcess {
    /// `client` is set for UDP.
    pub(super) fn start(
        socket: impl Into<OwnedFd>,
        size: usize,
        wait: Wait,
        client: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let process = Peer::new(Role::Answer, size, wait, client).start(socket, Stdio::null())?;
        Ok(Self { _process: process })
    }
}

/// The client process, which runs until this is dropped.
struct ClientProcess {
    _process: Process,
    control: Mutex<BufReader<UnixStream>>,
}

impl ClientProcess {
    /// `server` is set for UDP.
    fn start(
        socket: impl Into<OwnedFd>,
        size: usize,
        wait: Wait,
        server: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(READ_TIMEOUT))?;
        let process = Peer::new(Role::Ask, size, wait, server).start(socket, OwnedFd::from(theirs).into())?;
        Ok(Self { _process: process, control: Mutex::new(BufReader::new(ours)) })
    }

    /// Runs a slice in the process. The result is invalid once `stop` is set.
    fn slice(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measurement> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        send(control.get_ref(), &timing)?;
        let mut line = Vec::new();
        // The process's own timeout expires first, unless it is stopped (SIGSTOP).
        let deadline = Instant::now() + timing.warm_up + timing.measure + 2 * CONNECT_TIMEOUT;
        loop {
            match control.read_until(b'\n', &mut line) {
                Ok(_) if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => break,
                Err(error)
                    if is_nothing_yet(&error)
                        && !stop.load(Ordering::Relaxed)
                        && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
        // A line that is not a report is the process's error message.
        let message = || io::Error::other(String::from_utf8_lossy(&line).trim_end().to_owned());
        match serde_json::from_slice(&line).map_err(|_| message())? {
            Reply::Measurement { sent, received, nanoseconds } => {
                Measurement::parse_counts(sent, received, &nanoseconds)
            }
            Reply::Failed(why) => Err(io::Error::other(why)),
        }
    }
}

/// The two processes.
pub(super) struct RoundTrips {
    client: ClientProcess,
    _server: ServerProcess,
}

impl RoundTrips {
    /// UDP: two sockets that are not connected. Datagrams from other senders are ignored, as on a connected socket.
    pub(super) async fn udp(
        ends: (&Endpoint, &Endpoint),
        addresses: (IpAddr, IpAddr),
        size: usize,
        wait: Wait,
    ) -> Result<io::Result<Self>, Error> {
        let sockets = udp_sockets(ends, addresses, wait).await?.and_then(|(client_socket, server_socket)| {
            // Without a read timeout, which costs a timer per datagram.
            server_socket.set_read_timeout(None)?;
            let addresses = (client_socket.local_addr()?, server_socket.local_addr()?);
            Ok(((client_socket, server_socket), addresses))
        });
        match sockets {
            Ok((sockets, addresses)) => Self::start(ends, sockets, Some(addresses), size, wait).await,
            Err(error) => Ok(Err(error)),
        }
    }

    /// TCP: the two ends of a connection.
    pub(super) async fn tcp(
        ends: (&Endpoint, &Endpoint),
        addresses: (IpAddr, IpAddr),
        size: usize,
        wait: Wait,
    ) -> Result<io::Result<Self>, Error> {
        let pair = tcp_pair(ends, addresses, wait).await?.and_then(|(client_socket, server_socket)| {
            // As for UDP: a timeout costs a timer per wait.
            server_socket.set_read_timeout(None)?;
            Ok((client_socket, server_socket))
        });
        match pair {
            Ok(pair) => Self::start(ends, pair, None, size, wait).await,
            Err(error) => Ok(Err(error)),
        }
    }

    /// Starts them, each at its end with its socket. For UDP, `addresses` are the client's and the server's.
    async fn start(
        (client_end, server_end): (&Endpoint, &Endpoint),
        (client_socket, server_socket): (
            impl Into<OwnedFd> + Send + 'static,
            impl Into<OwnedFd> + Send + 'static,
        ),
        addresses: Option<(SocketAddr, SocketAddr)>,
        size: usize,
        wait: Wait,
    ) -> Result<io::Result<Self>, Error> {
        let (from, to) = addresses.unzip();
        let server = server_end.run(move || ServerProcess::start(server_socket, size, wait, from)).await?;
        let client = client_end.run(move || ClientProcess::start(client_socket, size, wait, to)).await?;
        Ok(server.and_then(|server| Ok(Self { client: client?, _server: server })))
    }
}

impl Load for RoundTrips {
    fn run_client(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measurement> {
        self.client.slice(timing, stop)
    }

    /// The server process does the work.
    fn run_server(&self, _: &AtomicBool) -> io::Result<Arrived> {
        Ok(Arrived::default())
    }

    fn fewest_frames(&self, measured: &Measurement) -> u64 {
        2 * measured.received
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixDatagram, thread, time::Duration};

    use super::*;
    use crate::bench::load::tcp_rr::REQUEST;

    /// The environment variable with a test process's arguments.
    const ARGUMENTS: &str = "VETHPATH_BENCH_END";

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        peer: Peer,
    }

    impl Peer {
        /// The test binary has no such command line. The process is this binary again, with the test below.
        pub(super) fn configure(self, command: &mut Command) {
            let test = concat!(module_path!(), "::in_a_process_of_its_own");
            let (_, test) = test.split_once("::").expect("a path in a crate");
            command.args([test, "--exact"]).env(ARGUMENTS, self.arguments().join(" "));
        }
    }

    fn parse(arguments: &[String]) -> Peer {
        let line: Line = clap::Parser::parse_from(std::iter::once(&"test".to_owned()).chain(arguments));
        line.peer
    }

    /// Does nothing without the environment variable.
    #[test]
    fn in_a_process_of_its_own() {
        let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
        parse(&arguments.split(' ').map(str::to_owned).collect::<Vec<_>>()).run().unwrap();
    }

    #[test]
    fn what_it_is_told_is_understood() {
        for other in [None, Some("192.0.2.1:7"), Some("[fe80::1%3]:7")] {
            for (role, wait) in [(Role::Ask, Wait::Spinning), (Role::Answer, Wait::Blocking)] {
                let peer = Peer::new(role, 64, wait, other.map(|other| other.parse().unwrap()));
                assert_eq!(parse(&peer.arguments()).arguments(), peer.arguments());
            }
        }
    }

    #[test]
    fn it_ends_with_what_started_it() {
        let (one, other) = UnixDatagram::pair().unwrap();
        other.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let pid = thread::spawn(move || {
            let server = ServerProcess::start(one, 2, Wait::Blocking, None).unwrap();
            let pid = Pid::from_raw(server._process.0.id().cast_signed());
            // A reply proves that PR_SET_PDEATHSIG is set.
            other.send(&[REQUEST, 7]).unwrap();
            let mut room = [0; 2];
            assert_eq!((other.recv(&mut room).unwrap(), room), (2, [REQUEST, 7]));
            // `drop` must not kill it: the end of this thread must.
            std::mem::forget(server);
            (pid, other)
        });
        let (pid, other) = pid.join().unwrap();
        let _ = nix::sys::wait::waitpid(pid, None).unwrap();
        assert!(other.send(&[0]).is_err(), "its socket is open");
    }

    #[test]
    fn a_client_that_is_gone_is_an_error() {
        let (one, _other) = UnixStream::pair().unwrap();
        let client = ClientProcess::start(one, 2, Wait::Blocking, None).unwrap();
        let pid = Pid::from_raw(client._process.0.id().cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        let timing = Timing { warm_up: Duration::ZERO, measure: Duration::from_millis(1) };
        assert!(client.slice(timing, &AtomicBool::new(false)).is_err());
    }
}
