//! Streams between two hosts of a lab: iperf3, and numbered datagrams.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use serde_json::Value;

use super::{Lab, Process, SLACK, wait_until};

/// A running iperf3 client and its server.
pub(crate) struct Iperf {
    server: Process,
    client: Process,
}

impl Iperf {
    /// Starts a server in `to` and a client in `from`, with more command-line options.
    #[track_caller]
    pub(crate) fn start(lab: &Lab<'_>, from: &str, (to, address): (&str, &str), options: &str) -> Self {
        let server = lab.spawn(to, "iperf3 --server --one-off --forceflush");
        wait_until(SLACK, || {
            let output = server.output();
            if output.contains("Server listening") { Ok(()) } else { Err(format!("iperf3 says {output:?}")) }
        });
        let client = lab.spawn(from, format!("iperf3 --client {address} --json {options}"));
        Self { server, client }
    }

    /// Waits for its end and returns the client's report.
    #[track_caller]
    pub(crate) fn report(self) -> Value {
        let report = self.client.wait(Duration::from_secs(60)).ok().json();
        let _ = self.server.wait(SLACK).ok();
        report
    }
}

/// Runs iperf3 to its end and returns the client's report.
#[track_caller]
pub(crate) fn iperf(lab: &Lab<'_>, from: &str, to: (&str, &str), options: &str) -> Value {
    Iperf::start(lab, from, to, options).report()
}

/// Bytes that arrived, from a TCP report.
#[track_caller]
pub(crate) fn received(report: &Value) -> u64 {
    report["end"]["sum_received"]["bytes"].as_u64().unwrap_or_else(|| panic!("no TCP report: {report}"))
}

const PORT: u16 = 7007;

/// How long nothing arrives before a receiver looks whether the stream has ended.
const SILENCE: Duration = Duration::from_millis(500);

/// How late a datagram may be on a busy machine.
const LATE: Duration = Duration::from_secs(5);

/// The result of one direction of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamReport {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Datagrams that arrived more than once.
    pub(crate) duplicated: u64,
    /// Datagrams that arrived after a later one.
    pub(crate) reordered: u64,
    /// The number of the first datagram that never arrived.
    pub(crate) first_lost: Option<u64>,
}

impl StreamReport {
    /// Datagrams that never arrived.
    pub(crate) fn lost(&self) -> u64 {
        self.sent - arrived(self)
    }
}

/// A running stream. It ends when this is dropped.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    directions: Vec<Direction>,
}

struct Direction {
    sender: JoinHandle<u64>,
    receiver: JoinHandle<StreamReport>,
    /// How many datagrams were sent in all, once that is known.
    sent: Arc<OnceLock<u64>>,
}

impl Stream {
    /// Sends a datagram each `pace` from either host to the other, which must be able to reach each other. A host is
    /// `(namespace, address)`.
    #[track_caller]
    pub(crate) fn start(lab: &Lab<'_>, a: (&str, &str), b: (&str, &str), pace: Duration) -> Self {
        let mut stream = Self { stop: Arc::default(), directions: Vec::new() };
        let sockets = [a, b].map(|(namespace, address)| {
            let address: SocketAddr = (address.parse::<std::net::IpAddr>().expect("an address"), PORT).into();
            // The kernel releases the port of an earlier socket asynchronously.
            let bound = wait_until(SLACK, || {
                let bound = lab.netns(namespace).run(|| socket(address)).expect("it can be entered");
                bound.map_err(|error| format!("a socket in {namespace}: {error}"))
            });
            (bound, address)
        });
        let [(a, at_a), (b, at_b)] = &sockets;
        let copy = |socket: &UdpSocket| socket.try_clone().expect("a descriptor");
        for (from, to, at) in [(a, b, at_b), (b, a, at_a)] {
            let (from, to) = (copy(from), copy(to));
            let (stop, at, sent) = (stream.stop.clone(), *at, Arc::<OnceLock<u64>>::default());
            let sender = thread::spawn(move || send(&from, at, pace, &stop));
            let known = sent.clone();
            let receiver = thread::spawn(move || receive(&to, &known));
            stream.directions.push(Direction { sender, receiver, sent });
        }
        stream
    }

    /// Ends the stream and returns the results of both directions.
    pub(crate) fn end(mut self) -> [StreamReport; 2] {
        self.stop.store(true, SeqCst);
        let reports = std::mem::take(&mut self.directions).into_iter().map(|direction| {
            let sent = direction.sender.join().expect("it sends");
            direction.sent.set(sent).expect("it is set once");
            direction.receiver.join().expect("it receives")
        });
        let reports: Vec<_> = reports.collect();
        reports.try_into().expect("two directions")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // Receivers wait for nothing more.
        for direction in &self.directions {
            let _ = direction.sent.set(0);
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    setsockopt(&socket, RcvBufForce, &(16 << 20))?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok(socket)
}

/// Sends numbers until stopped, and returns how many. A late sender does not catch up.
fn send(socket: &UdpSocket, to: SocketAddr, pace: Duration, stop: &AtomicBool) -> u64 {
    let mut number = 0_u64;
    let mut next = Instant::now();
    while !stop.load(SeqCst) {
        // A datagram that the socket refuses was not sent.
        if socket.send_to(&number.to_be_bytes(), to).is_ok() {
            number += 1;
        }
        next = (next + pace).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    number
}

/// Receives until all that was sent has arrived, or nothing more arrives although the stream has ended.
fn receive(socket: &UdpSocket, sent: &OnceLock<u64>) -> StreamReport {
    let (mut report, mut seen, mut highest) = (StreamReport::default(), Vec::new(), None);
    let mut bytes = [0; 8];
    let mut ended = None;
    loop {
        // Read before the wait: if it is set, the whole wait came after it.
        let sent = sent.get().copied();
        match socket.recv(&mut bytes) {
            Ok(_) => {
                let number = usize::try_from(u64::from_be_bytes(bytes)).expect("it is counted from 0");
                seen.resize(seen.len().max(number + 1), false);
                report.received += 1;
                report.duplicated += u64::from(std::mem::replace(&mut seen[number], true));
                report.reordered += u64::from(highest > Some(number));
                highest = highest.max(Some(number));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let Some(sent) = sent else { continue };
                if arrived(&report) < sent && ended.get_or_insert_with(Instant::now).elapsed() < LATE {
                    continue;
                }
                let number = usize::try_from(sent).expect("it was counted");
                seen.resize(seen.len().max(number), false);
                let first_lost = seen.iter().position(|seen| !seen).map(|number| number as u64);
                return StreamReport { sent, first_lost, ..report };
            }
            // A datagram of ours was refused.
            Err(_) => {}
        }
    }
}

/// Datagrams that arrived at least once.
fn arrived(report: &StreamReport) -> u64 {
    report.received - report.duplicated
}
