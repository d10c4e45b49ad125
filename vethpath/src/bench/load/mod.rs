//! The kinds of work. Each has two halves, run by two threads or two processes.

mod peer;
mod round_trips;
mod socket;
mod tcp_connect;
mod tcp_rr;
mod tcp_stream;
mod udp_rate;
mod udp_rr;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

pub use self::{peer::Peer, socket::CONGESTION_CONTROL};
use super::{
    Error,
    end::End,
    measured::Measured,
    schedule::Timing,
    site::{Names, Site},
    work::{Spec, Wait, Work},
};

/// The longest payload of a UDP datagram over IPv4 (RFC 768, RFC 791).
pub const LONGEST_DATAGRAM: usize = 65_507;

/// The shortest datagram that holds a sequence number.
pub const SHORTEST_NUMBERED: usize = 8;

/// Timeout for the first exchange: links come up, ARP, neighbour discovery.
const ACQUAINTANCE: Duration = Duration::from_secs(5);

/// The time window of a slice.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// The end of the warm-up.
    warm: Instant,
    end: Instant,
}

impl Window {
    /// The window starts on the measuring thread: on a busy CPU a thread may be scheduled later than a slice takes.
    fn begin(timing: Timing) -> Self {
        let warm = Instant::now() + timing.warm_up;
        Self { warm, end: warm + timing.measure }
    }
}

/// Two halves that share sockets. In a slice both run at once, each on its thread.
trait Load: Send + Sync {
    /// Called before each slice, while both halves are idle.
    fn begin(&self) {}

    /// The client or sender half. It runs for the time of `timing` or until `stop` is set, and then signals the other
    /// half.
    fn ask(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measured>;

    /// The other half. It runs until it is signalled, or until nothing arrives and `stop` is set. Returns how much
    /// arrived, if only this half knows. It does nothing if another process answers.
    fn answer(&self, stop: &AtomicBool) -> io::Result<Arrived>;

    /// The minimum number of frames that both ends sent for the measured work.
    fn fewest_frames(&self, measured: &Measured) -> u64;
}

/// A receiver's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Arrived {
    /// Total.
    all: u64,
    /// Within the window.
    within: u64,
    /// How long after the end of the window the last one arrived, if known.
    late: Duration,
}

/// A case, ready to be measured on one path.
pub struct Worker {
    asker: Arc<End>,
    answerer: Arc<End>,
    load: Arc<dyn Load>,
    names: Names,
}

impl Worker {
    /// Opens the sockets of a case. `path` is the path's name, for errors.
    ///
    /// # Errors
    /// A thread or a socket fails, or no answer arrives.
    pub async fn open(spec: Spec, site: &mut Site, path: &'static str) -> Result<Self, Error> {
        let Spec { work, size, wait, cores } = spec;
        let (asker, answerer) = site.ends(cores)?;
        let addresses = site.addresses();
        let names = site.names();
        let failed = |source| names.failed("open sockets", source);
        let both = (&*asker, &*answerer);
        let load: Arc<dyn Load> = match work {
            Work::UdpRr => Arc::new(udp_rr::open(both, addresses, size, wait).await?.map_err(failed)?),
            Work::TcpRr => Arc::new(tcp_rr::open(both, addresses, size, wait).await?.map_err(failed)?),
            Work::TcpConnect => {
                Arc::new(tcp_connect::TcpConnect::open(both, addresses).await?.map_err(failed)?)
            }
            Work::TcpStream => {
                Arc::new(tcp_stream::TcpStreaming::open(both, addresses, size).await?.map_err(failed)?)
            }
            Work::UdpRate => Arc::new(udp_rate::UdpRate::open(both, addresses, size).await?.map_err(failed)?),
        };
        let worker = Self { asker, answerer, load, names };
        worker.meet(path).await?;
        Ok(worker)
    }

    /// Repeats short slices until one succeeds. `path` is the path's name, for errors.
    async fn meet(&self, path: &'static str) -> Result<(), Error> {
        let once = Timing { warm_up: Duration::ZERO, measure: Duration::from_millis(1) };
        let deadline = Instant::now() + ACQUAINTANCE;
        let mut asked = 0;
        loop {
            let measured = self.slice(once, path).await?;
            asked += measured.sent;
            if !measured.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.names.lost(asked, asked, path));
            }
        }
    }

    /// Measures a slice. `path` is the path's name, for errors.
    ///
    /// # Errors
    /// Too many round trips are lost, or a socket fails.
    pub async fn slice(&self, timing: Timing, path: &'static str) -> Result<Measured, Error> {
        let stop = Stop::default();
        self.load.begin();
        let (load, stopped) = (self.load.clone(), stop.flag());
        let answered = self.answerer.run(move || load.answer(&stopped));
        let (load, stopped) = (self.load.clone(), stop.flag());
        let asked = self.asker.run(move || load.ask(timing, &stopped)).await?;
        drop(stop);
        let failed = |source| self.names.failed("exchange data", source);
        let arrived = answered.await?.map_err(failed)?;
        let measured = asked.map_err(failed)?.with(arrived.all, arrived.within, arrived.late);
        if measured.has_lost_round_trips() {
            return Err(self.names.lost(measured.lost(), measured.sent, path));
        }
        Ok(measured)
    }

    /// The minimum number of frames that both ends sent for the measured work.
    #[must_use]
    pub fn fewest_frames(&self, measured: &Measured) -> u64 {
        self.load.fewest_frames(measured)
    }
}

/// Stops the threads' work when dropped, also when the future of a slice is dropped.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::work::Cores, kernel::Netns};

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(5), measure: Duration::from_millis(20) };

    /// More slices than can fail in a row on any machine, however busy.
    const MOST: usize = 100;

    /// Runs until three slices have a figure. Both ends are in this namespace and use the loopback device.
    async fn slices(spec: Spec) -> Option<Vec<Measured>> {
        let here = Netns::current().unwrap();
        let address = [127, 0, 0, 1].into();
        let mut site = Site::new([(here.clone(), address), (here, address)]);
        if site.ends(spec.cores).is_err() {
            eprintln!("SKIPPED: setns needs root");
            return None;
        }
        let worker = Worker::open(spec, &mut site, "loopback").await.unwrap();
        let mut slices = Vec::new();
        for _ in 0..MOST {
            let measured = worker.slice(SLICE, "loopback").await.unwrap();
            slices.extend((!measured.is_empty()).then_some(measured));
            if slices.len() == 3 {
                break;
            }
        }
        assert_eq!(slices.len(), 3, "{slices:?}");
        Some(slices)
    }

    #[tokio::test]
    async fn every_kind_of_work_measures_something_slice_after_slice() {
        for work in Work::ALL {
            for size in [1, 64, 65_536] {
                let spec = Spec { work, size, ..Spec::UDP }.possible();
                for measured in slices(spec).await.into_iter().flatten() {
                    assert!(!measured.is_empty(), "{spec:?} {measured:?}");
                    assert!(measured.received <= measured.sent, "{spec:?} {measured:?}");
                    assert!(measured.figure(spec.work).is_some_and(|figure| figure > 0.0), "{spec:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn across_cpus_one_may_spin() {
        if crate::bench::end::cpus().len() < 2 {
            return;
        }
        for work in [Work::UdpRr, Work::TcpRr] {
            let spec = Spec { work, wait: Wait::Spinning, cores: Cores::Cross, ..Spec::UDP };
            for measured in slices(spec).await.into_iter().flatten() {
                assert!(!measured.is_empty(), "{measured:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_a_stream_sends_arrives_whole() {
        let spec = Spec { work: Work::TcpStream, size: 65_536, ..Spec::UDP };
        for measured in slices(spec).await.into_iter().flatten() {
            assert_eq!(measured.received, measured.sent);
            assert!(measured.within <= measured.received);
        }
    }
}
