//! UDP round trips between two ends: one asks, the other sends it back.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{Error, end::End, schedule::Timing};
use crate::kernel::Netns;

/// Payload in bytes. The first eight number the datagram.
const SIZE: usize = 64;

/// How long an answer may take. On one core it takes some microseconds.
const PATIENCE: Duration = Duration::from_millis(200);

/// Datagrams that may be lost in one slice, and one of so many besides.
const MAY_BE_LOST: u64 = 5;
const ONE_IN: u64 = 1000;

/// How long the two may take to find each other: links coming up, ARP, neighbour discovery.
const ACQUAINTANCE: Duration = Duration::from_secs(5);

/// Longest round trip that the histogram tells apart, in nanoseconds.
const LONGEST: u64 = 1_000_000_000;

/// Significant decimal digits of the histogram: 0.1 %.
const DIGITS: u8 = 3;

/// Round trips of one slice.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Nanoseconds.
    pub histogram: Histogram<u64>,
    /// Datagrams sent, those of the warm-up included.
    pub asked: u64,
    /// Those of them that had no answer.
    pub lost: u64,
}

impl Measured {
    fn new() -> io::Result<Self> {
        let histogram = Histogram::new_with_max(LONGEST, DIGITS).map_err(io::Error::other)?;
        Ok(Self { histogram, asked: 0, lost: 0 })
    }

    fn has_lost_many(&self) -> bool {
        self.lost > MAY_BE_LOST + self.asked / ONE_IN
    }
}

/// Where one end is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its namespace.
    pub netns: &'a Netns,
    /// Its address.
    pub address: IpAddr,
}

/// Two ends with a socket each, connected to each other.
pub struct PingPong {
    asker: (End, Arc<UdpSocket>),
    answerer: (End, Arc<UdpSocket>),
    names: (String, String),
}

impl PingPong {
    /// Opens both ends, on `cpu` alone.
    ///
    /// # Errors
    /// A thread or a socket is refused.
    pub async fn open(from: Place<'_>, to: Place<'_>, cpu: usize) -> Result<Self, Error> {
        let name = |place: Place<'_>| format!("{} ({})", place.netns, place.address);
        let names = (name(from), name(to));
        let failed = |source| Error::Socket {
            operation: "open sockets",
            from: names.0.clone(),
            to: names.1.clone(),
            source,
        };
        let (asks, answers) = (End::start(from.netns, cpu)?, End::start(to.netns, cpu)?);
        let asking = asks.run(move || bind(from.address)).await?.map_err(failed)?;
        let answering = answers.run(move || bind(to.address)).await?.map_err(failed)?;
        let connect = || {
            asking.connect(answering.local_addr()?)?;
            answering.connect(asking.local_addr()?)
        };
        connect().map_err(failed)?;
        Ok(Self { asker: (asks, Arc::new(asking)), answerer: (answers, Arc::new(answering)), names })
    }

    /// Returns as soon as a datagram is answered. `path` is what it takes, for the error.
    ///
    /// # Errors
    /// None is in five seconds, or a socket fails.
    pub async fn meet(&self, path: &'static str) -> Result<(), Error> {
        let once = Timing { warm_up: Duration::ZERO, measure: Duration::from_millis(1) };
        let deadline = Instant::now() + ACQUAINTANCE;
        let mut asked = 0;
        loop {
            let measured = self.slice(once, path).await?;
            asked += measured.asked;
            if !measured.histogram.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (from, to) = self.names.clone();
                return Err(Error::Lost { from, to, lost: asked, asked, path });
            }
        }
    }

    /// Measures for a while. `path` is what the datagrams take, for the error.
    ///
    /// # Errors
    /// Many datagrams are lost, or a socket fails.
    pub async fn slice(&self, timing: Timing, path: &'static str) -> Result<Measured, Error> {
        let stop = Stop::default();
        let (socket, stopped) = (self.answerer.1.clone(), stop.flag());
        let answered = self.answerer.0.run(move || answer(&socket, &stopped));
        let (socket, stopped) = (self.asker.1.clone(), stop.flag());
        let asked = self.asker.0.run(move || ask(&socket, timing, &stopped)).await?;
        drop(stop);
        // The answerer stops at the next datagram, or when none comes.
        let _ = self.asker.1.send(&[]);
        answered.await?.map_err(|source| self.failed(source))?;
        let measured = asked.map_err(|source| self.failed(source))?;
        if measured.has_lost_many() {
            let (from, to) = self.names.clone();
            return Err(Error::Lost { from, to, lost: measured.lost, asked: measured.asked, path });
        }
        Ok(measured)
    }

    fn failed(&self, source: io::Error) -> Error {
        let (from, to) = self.names.clone();
        Error::Socket { operation: "exchange datagrams", from, to, source }
    }
}

/// Ends the threads' work when it is dropped, as it is when a slice is given up.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn bind(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(address, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends back what comes, until it is told to stop.
fn answer(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    let mut datagram = [0; SIZE];
    loop {
        match socket.recv(&mut datagram) {
            Ok(_) if stop.load(Ordering::Relaxed) => return Ok(()),
            Ok(length) => {
                socket.send(&datagram[..length])?;
            }
            Err(error) if is_timeout(&error) && stop.load(Ordering::Relaxed) => return Ok(()),
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Asks for the time of a slice and notes what comes after the warm-up.
fn ask(socket: &UdpSocket, timing: Timing, stop: &AtomicBool) -> io::Result<Measured> {
    let mut measured = Measured::new()?;
    let warm = Instant::now() + timing.warm_up;
    let end = warm + timing.measure;
    loop {
        let begin = Instant::now();
        if begin >= end || measured.has_lost_many() || stop.load(Ordering::Relaxed) {
            return Ok(measured);
        }
        measured.asked += 1;
        let answered = round_trip(socket, measured.asked)?;
        let taken = begin.elapsed();
        match answered {
            false => measured.lost += 1,
            true if begin >= warm => {
                let nanoseconds = u64::try_from(taken.as_nanos()).unwrap_or(LONGEST);
                measured.histogram.saturating_record(nanoseconds);
            }
            true => {}
        }
    }
}

/// One datagram there and back. False if it was lost.
fn round_trip(socket: &UdpSocket, number: u64) -> io::Result<bool> {
    let number = number.to_be_bytes();
    let mut datagram = [0; SIZE];
    datagram[..number.len()].copy_from_slice(&number);
    socket.send(&datagram)?;
    loop {
        match socket.recv(&mut datagram) {
            Ok(_) if datagram.starts_with(&number) => return Ok(true),
            // The answer to one that was given up.
            Ok(_) => {}
            Err(error) if is_timeout(&error) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(5), measure: Duration::from_millis(20) };

    fn connected() -> (UdpSocket, UdpSocket) {
        let (a, b) = (bind([127, 0, 0, 1].into()).unwrap(), bind([127, 0, 0, 1].into()).unwrap());
        a.connect(b.local_addr().unwrap()).unwrap();
        b.connect(a.local_addr().unwrap()).unwrap();
        (a, b)
    }

    #[test]
    fn what_is_asked_is_answered_and_counted() {
        let (asking, answering) = connected();
        // Left over from a slice before: no answer to anything.
        answering.send(&[7; SIZE]).unwrap();
        let stop = Stop::default();
        let measured = thread::scope(|scope| {
            let stopped = stop.flag();
            scope.spawn(move || answer(&answering, &stopped).unwrap());
            let measured = ask(&asking, SLICE, &AtomicBool::new(false)).unwrap();
            drop(stop);
            measured
        });
        assert!(measured.asked > 0 && measured.histogram.len() <= measured.asked, "{measured:?}");
        assert_eq!(measured.lost, 0);
    }

    #[test]
    fn nobody_answers_and_nothing_hangs() {
        let (asking, answering) = connected();
        let long = Timing { measure: Duration::from_secs(600), ..SLICE };
        let measured = ask(&asking, long, &AtomicBool::new(false)).unwrap();
        assert!(measured.has_lost_many() && measured.histogram.is_empty(), "{measured:?}");
        drop(answering);
    }
}
