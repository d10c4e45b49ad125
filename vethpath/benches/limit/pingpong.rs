//! Two threads, each in its namespace and on the same CPU for good, that send a datagram to and fro.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use vethpath::kernel::Netns;

use super::{lab, ratio::median};

const SIZE: usize = 64;

/// A connected pair of sockets.
pub(crate) struct PingPong {
    slices: Sender<Duration>,
    medians: Receiver<f64>,
}

impl PingPong {
    /// Between these addresses of the namespaces `a` and `b`.
    pub(crate) fn between([a, b]: [&'static str; 2]) -> Self {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 7007);
        let (ask, answer) = (address(a), address(b));
        thread::spawn(move || {
            let socket = socket("b", answer, ask);
            let mut datagram = [0; SIZE];
            while let Ok(length) = socket.recv(&mut datagram) {
                socket.send(&datagram[..length]).unwrap();
            }
        });
        let (slices, wanted) = channel();
        let (done, medians) = channel();
        thread::spawn(move || {
            let socket = socket("a", ask, answer);
            meet(&socket);
            while let Ok(time) = wanted.recv() {
                done.send(slice(&socket, time)).unwrap();
            }
        });
        Self { slices, medians }
    }

    /// The median of the round trips of a slice, in microseconds.
    pub(crate) fn slice(&self, time: Duration) -> f64 {
        self.slices.send(time).unwrap();
        self.medians.recv().unwrap()
    }
}

fn socket(namespace: &str, own: SocketAddr, other: SocketAddr) -> UdpSocket {
    Netns::named(&lab::name(namespace)).unwrap().enter_for_good().unwrap();
    let this_thread = Pid::from_raw(0);
    let mine = sched_getaffinity(this_thread).unwrap();
    let last = (0..CpuSet::count()).rfind(|&cpu| mine.is_set(cpu).unwrap_or(false)).unwrap();
    let mut set = CpuSet::new();
    set.set(last).unwrap();
    sched_setaffinity(this_thread, &set).unwrap();
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect(other).unwrap();
    socket
}

/// Sends until somebody answers, and takes all answers.
fn meet(socket: &UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut datagram = [0; SIZE];
    let answered = (0..50).any(|_| {
        let _ = socket.send(&datagram);
        socket.recv(&mut datagram).is_ok()
    });
    assert!(answered, "nobody answers");
    while socket.recv(&mut datagram).is_ok() {}
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
}

fn slice(socket: &UdpSocket, time: Duration) -> f64 {
    let begin = Instant::now();
    let (warm, end) = (begin + time / 10, begin + time);
    let mut taken = Vec::new();
    let mut datagram = [0; SIZE];
    loop {
        let sent = Instant::now();
        if sent > end {
            return median(&taken);
        }
        socket.send(&datagram).unwrap();
        socket.recv(&mut datagram).unwrap();
        if sent > warm {
            taken.push(sent.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
}
