//! The kinds of work, each as two halves that two threads do, or two processes.

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

/// The shortest datagram that can carry a number.
pub const SHORTEST_NUMBERED: usize = 8;

/// How long the two may take to find each other: links coming up, ARP, neighbour discovery.
const ACQUAINTANCE: Duration = Duration::from_secs(5);

/// When a slice is measured.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// What comes before is warm-up.
    warm: Instant,
    end: Instant,
}

impl Window {
    /// Begins now: where it is measured, for on a busy CPU a thread may take longer than a slice to run.
    fn begin(timing: Timing) -> Self {
        let warm = Instant::now() + timing.warm_up;
        Self { warm, end: warm + timing.measure }
    }
}

/// Two halves that share sockets. A slice does both at once, each on its thread.
trait Load: Send + Sync {
    /// Before each slice, while neither half is at work.
    fn begin(&self) {}

    /// The half that asks or sends: from now on, for as long as `timing` says or until `stop` is set. It tells the
    /// other half when it is done.
    fn ask(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measured>;

    /// The other half: until it is told, or hears nothing for a while and `stop` is set. Returns how much
    /// arrived, where only this half knows. Where another process answers there is nothing to do.
    fn answer(&self, stop: &AtomicBool) -> io::Result<Arrived>;

    /// The least frames that both ends sent for what was measured.
    fn fewest_frames(&self, measured: &Measured) -> u64;
}

/// What a receiver has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Arrived {
    /// In all.
    all: u64,
    /// In the window.
    within: u64,
    /// How long after the window's end the last of them came, where that is known.
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
    /// Opens its sockets. `path` is the path's name, for the error.
    ///
    /// # Errors
    /// A thread or a socket is refused, or nobody answers.
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

    /// Returns as soon as something has got through. `path` is what it takes, for the error.
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

    /// Measures for a while. `path` is what the frames take, for the error.
    ///
    /// # Errors
    /// Many round trips fail, or a socket does.
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

    /// The least frames that both ends sent for what was measured.
    #[must_use]
    pub fn fewest_frames(&self, measured: &Measured) -> u64 {
        self.load.fewest_frames(measured)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::work::Cores, kernel::Netns};

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(5), measure: Duration::from_millis(20) };

    /// More slices than pass without a figure on any machine, however busy.
    const MOST: usize = 100;

    /// Three slices that have a figure, on the loopback device, both ends in this namespace.
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
