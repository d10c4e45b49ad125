//! One-way datagrams at the highest rate of one core. Each has a number, so that losses are counted. The receive buffer
//! may hold most of a short slice. So the time counts until the receiver has read the last datagram, not until it was
//! sent.

use std::{
    io,
    net::{IpAddr, UdpSocket},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::{
    interface::{Arrived, Load, Window},
    socket::{CONNECT_TIMEOUT, persist, udp_pair},
};
use crate::bench::{
    endpoints::Endpoint,
    error::Error,
    measurement::{Measurement, Timing},
    workload::Wait,
};

/// Receive buffer in bytes: for some thousands of datagrams, while the receiver is not scheduled.
const BUFFER: usize = 8 << 20;

/// Number of the datagram that ends a slice.
const LAST: u64 = u64::MAX;

/// A number that is not set yet.
const UNKNOWN: u64 = u64::MAX - 1;

/// The sender reads the clock once per this many datagrams.
const BATCH: u64 = 16;

/// The ends, connected to each other, and the state that the sender passes to the receiver.
pub(super) struct UdpRate {
    sending: UdpSocket,
    receiving: UdpSocket,
    size: usize,
    /// The first number after the warm-up.
    first: AtomicU64,
    /// When the last datagram was sent.
    sent: Mutex<Option<Instant>>,
    /// Whether the receiver has received the end of the slice.
    seen: AtomicBool,
}

impl UdpRate {
    pub(super) async fn open(
        ends: (&Endpoint, &Endpoint),
        addresses: (IpAddr, IpAddr),
        size: usize,
    ) -> Result<io::Result<Self>, Error> {
        let open = |(sending, receiving)| {
            setsockopt(&receiving, RcvBufForce, &BUFFER)?;
            Ok(Self::between(sending, receiving, size))
        };
        Ok(udp_pair(ends, addresses, Wait::Blocking).await?.and_then(open))
    }

    fn between(sending: UdpSocket, receiving: UdpSocket, size: usize) -> Self {
        let (first, sent, seen) = (AtomicU64::new(UNKNOWN), Mutex::default(), AtomicBool::new(false));
        Self { sending, receiving, size, first, sent, seen }
    }

    fn ended(&self, at: Option<Instant>) {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Time since the last datagram was sent.
    fn since_sent(&self) -> Duration {
        let sent = *self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.map(|at| at.elapsed()).unwrap_or_default()
    }

    fn send(&self, number: u64, datagram: &mut [u8]) -> io::Result<()> {
        let number = number.to_le_bytes();
        datagram[..number.len()].copy_from_slice(&number);
        // A datagram that the kernel drops (ENOBUFS) counts as lost.
        match persist(Wait::Blocking, || self.sending.send(datagram)) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

impl Load for UdpRate {
    fn prepare(&self) {
        self.first.store(UNKNOWN, Ordering::Release);
        self.ended(None);
        self.seen.store(false, Ordering::Release);
    }

    fn run_client(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measurement> {
        let window = Window::start(timing);
        let mut measured = Measurement::counted();
        let mut datagram = vec![0; self.size];
        let mut since = None;
        loop {
            let now = Instant::now();
            if now >= window.warm && since.is_none() {
                since = Some(now);
                self.first.store(measured.sent, Ordering::Release);
            }
            if now >= window.end || stop.load(Ordering::Relaxed) {
                measured.window = since.map(|since| now - since).unwrap_or_default();
                self.ended(Some(now));
                break;
            }
            for _ in 0..BATCH {
                self.send(measured.sent, &mut datagram)?;
                measured.sent += 1;
            }
        }
        // The end datagram may be lost too.
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        while !self.seen.load(Ordering::Acquire) && Instant::now() < deadline && !stop.load(Ordering::Relaxed)
        {
            self.send(LAST, &mut datagram)?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(measured)
    }

    fn run_server(&self, stop: &AtomicBool) -> io::Result<Arrived> {
        let mut datagram = vec![0; self.size];
        let mut arrived = Arrived::default();
        loop {
            match persist(Wait::Blocking, || self.receiving.recv(&mut datagram))? {
                Some(_) => {
                    let number = datagram.first_chunk().map_or(LAST, |number| u64::from_le_bytes(*number));
                    if number == LAST {
                        // A duplicate end datagram of the previous slice is skipped.
                        if arrived.all > 0 {
                            // It arrived after all others.
                            arrived.late = self.since_sent();
                            self.seen.store(true, Ordering::Release);
                            return Ok(arrived);
                        }
                        continue;
                    }
                    arrived.all += 1;
                    arrived.within += u64::from(number >= self.first.load(Ordering::Acquire));
                }
                None if stop.load(Ordering::Relaxed) => return Ok(arrived),
                None => {}
            }
        }
    }

    fn fewest_frames(&self, measured: &Measurement) -> u64 {
        measured.received
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{super::socket::udp, *};

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(1), measure: Duration::from_millis(5) };

    /// The receiver starts after everything was sent, so nothing has arrived before.
    #[test]
    fn what_waits_in_a_buffer_has_not_arrived() {
        let [sending, receiving] = [(); 2].map(|()| udp(Ipv4Addr::LOCALHOST.into(), Wait::Blocking).unwrap());
        sending.connect(receiving.local_addr().unwrap()).unwrap();
        let rate = UdpRate::between(sending, receiving, 64);
        let never = AtomicBool::new(false);
        let (sent, arrived, waited) = thread::scope(|scope| {
            let client = scope.spawn(|| rate.run_client(SLICE, &never).unwrap());
            while rate.since_sent() == Duration::ZERO {
                thread::yield_now();
            }
            let waited = rate.since_sent();
            let arrived = rate.run_server(&never).unwrap();
            (client.join().unwrap(), arrived, waited)
        });
        assert!(arrived.all > 0 && arrived.all <= sent.sent, "{arrived:?} {sent:?}");
        assert!(arrived.late > waited, "{arrived:?}");
        let window = sent.window;
        assert_eq!(sent.with(arrived.all, arrived.within, arrived.late).window, window + arrived.late);
    }
}
