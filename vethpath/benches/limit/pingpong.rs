//! Two threads that exchange messages, each in its namespace and both on one CPU.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use vethpath::kernel::Netns;
use vethpath_figures::statistics::median;

use super::lab;

const SIZE: usize = 64;

/// Ends the server thread.
const END: [u8; SIZE] = [0xff; SIZE];

/// A pair of sockets. Dropping it closes them; the path must work then.
pub(crate) struct PingPong {
    slices: Option<Sender<Duration>>,
    medians: Receiver<f64>,
    ends: Vec<JoinHandle<()>>,
}

/// The protocol of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

impl PingPong {
    /// Opens sockets at these addresses in the namespaces `a` and `b`.
    pub(crate) fn between([a, b]: [&'static str; 2], protocol: Protocol) -> Self {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 7007);
        let (client, server) = (address(a), address(b));
        let (bound, is_bound) = channel();
        let server_thread = thread::spawn(move || {
            settle("b");
            let mut socket: Box<dyn Ends> = match protocol {
                Protocol::Udp => Box::new(datagrams(server, client)),
                Protocol::Tcp => {
                    let listener = TcpListener::bind(server).unwrap();
                    bound.send(()).unwrap();
                    Box::new(stream(listener.accept().unwrap().0))
                }
            };
            drop(bound);
            let mut message = [0; SIZE];
            while socket.take(&mut message).is_ok() && message != END {
                socket.give(&message).unwrap();
            }
        });
        let (slices, wanted) = channel();
        let (done, medians) = channel();
        let client_thread = thread::spawn(move || {
            settle("a");
            let _ = is_bound.recv();
            let mut socket: Box<dyn Ends> = match protocol {
                Protocol::Udp => Box::new(met(datagrams(client, server))),
                Protocol::Tcp => Box::new(stream(TcpStream::connect(server).unwrap())),
            };
            while let Ok(time) = wanted.recv() {
                done.send(slice(&mut *socket, time)).unwrap();
            }
            socket.give(&END).unwrap();
        });
        Self { slices: Some(slices), medians, ends: vec![client_thread, server_thread] }
    }

    /// The median of the round trips of a slice, in microseconds.
    pub(crate) fn slice(&self, time: Duration) -> f64 {
        self.slices.as_ref().unwrap().send(time).unwrap();
        self.medians.recv().unwrap()
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        self.slices = None;
        // If one end has failed, the other does not end.
        if !thread::panicking() {
            self.ends.drain(..).for_each(|end| end.join().unwrap());
        }
    }
}

/// One end.
trait Ends {
    fn give(&mut self, message: &[u8; SIZE]) -> io::Result<()>;
    fn take(&mut self, message: &mut [u8; SIZE]) -> io::Result<()>;
}

/// An unconnected UDP socket, as in `vethpath bench`, and its destination.
struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Ends for Datagrams {
    fn give(&mut self, message: &[u8; SIZE]) -> io::Result<()> {
        self.socket.send_to(message, self.to).map(|_| ())
    }
    fn take(&mut self, message: &mut [u8; SIZE]) -> io::Result<()> {
        self.socket.recv_from(message).map(|_| ())
    }
}

impl Ends for TcpStream {
    fn give(&mut self, message: &[u8; SIZE]) -> io::Result<()> {
        self.write_all(message)
    }
    fn take(&mut self, message: &mut [u8; SIZE]) -> io::Result<()> {
        self.read_exact(message)
    }
}

/// Moves the thread to a namespace and pins it to the last CPU. TCP uses reno there, which any namespace may use: a
/// connection that starts with BBR stays paced until it is closed.
fn settle(namespace: &str) {
    Netns::named(&lab::name(namespace)).unwrap().enter_for_good().unwrap();
    fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").unwrap();
    let this_thread = Pid::from_raw(0);
    let mine = sched_getaffinity(this_thread).unwrap();
    let last = (0..CpuSet::count()).rfind(|&cpu| mine.is_set(cpu).unwrap_or(false)).unwrap();
    let mut set = CpuSet::new();
    set.set(last).unwrap();
    sched_setaffinity(this_thread, &set).unwrap();
}

fn datagrams(own: SocketAddr, to: SocketAddr) -> Datagrams {
    Datagrams { socket: UdpSocket::bind(own).unwrap(), to }
}

fn stream(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends until a reply arrives, then drains the remaining replies.
fn met(mut datagrams: Datagrams) -> Datagrams {
    datagrams.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut datagram = [0; SIZE];
    let unanswered = (0..50).find(|_| {
        let _ = datagrams.give(&datagram);
        datagrams.take(&mut datagram).is_ok()
    });
    for _ in 0..unanswered.expect("an answer") {
        let _ = datagrams.take(&mut datagram);
    }
    datagrams.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    datagrams
}

/// The median of a slice's round trips. A slice without a round trip, because the thread was not scheduled, is
/// repeated.
fn slice(socket: &mut dyn Ends, time: Duration) -> f64 {
    loop {
        if let Some(median) = median(round_trips(socket, time)) {
            return median;
        }
    }
}

fn round_trips(socket: &mut dyn Ends, time: Duration) -> Vec<f64> {
    let started = Instant::now();
    let (warm, end) = (started + time / 10, started + time);
    let mut taken = Vec::new();
    let mut message = [0; SIZE];
    loop {
        let sent = Instant::now();
        if sent > end {
            return taken;
        }
        socket.give(&message).unwrap();
        socket.take(&mut message).unwrap();
        if sent > warm {
            taken.push(sent.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
}
