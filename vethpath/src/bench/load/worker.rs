//! A case on one path: sockets and the threads that measure with them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    interface::Load, round_trips::RoundTrips, tcp_connect::TcpConnect, tcp_stream::TcpStreaming,
    udp_rate::UdpRate,
};
use crate::bench::{
    endpoints::{Endpoint, Endpoints, Names},
    error::Error,
    measurement::{Measurement, Timing},
    workload::{Spec, Workload},
};

/// Timeout for the first exchange: links come up, ARP, neighbour discovery.
const ACQUAINTANCE: Duration = Duration::from_secs(5);

/// A case, ready to be measured on one path.
pub struct Worker {
    client: Arc<Endpoint>,
    server: Arc<Endpoint>,
    load: Arc<dyn Load>,
    names: Names,
}

impl Worker {
    /// Opens the sockets of a case. `path` is the path's name, for errors.
    ///
    /// # Errors
    /// A thread or a socket fails, or no reply arrives.
    pub async fn open(spec: Spec, endpoints: &mut Endpoints, path: &'static str) -> Result<Self, Error> {
        let Spec { work, size, wait, cores } = spec;
        let (client, server) = endpoints.threads(cores)?;
        let addresses = endpoints.addresses();
        let names = endpoints.names();
        let failed = |source| names.failed("open sockets", source);
        let ends = (&*client, &*server);
        let load: Arc<dyn Load> = match work {
            Workload::UdpRr => Arc::new(RoundTrips::udp(ends, addresses, size, wait).await?.map_err(failed)?),
            Workload::TcpRr => Arc::new(RoundTrips::tcp(ends, addresses, size, wait).await?.map_err(failed)?),
            Workload::TcpConnect => Arc::new(TcpConnect::open(ends, addresses).await?.map_err(failed)?),
            Workload::TcpStream => {
                Arc::new(TcpStreaming::open(ends, addresses, size).await?.map_err(failed)?)
            }
            Workload::UdpRate => Arc::new(UdpRate::open(ends, addresses, size).await?.map_err(failed)?),
        };
        let worker = Self { client, server, load, names };
        worker.meet(path).await?;
        Ok(worker)
    }

    /// Repeats short slices until one succeeds. `path` is the path's name, for errors.
    async fn meet(&self, path: &'static str) -> Result<(), Error> {
        let once = Timing { warm_up: Duration::ZERO, measure: Duration::from_millis(1) };
        let deadline = Instant::now() + ACQUAINTANCE;
        let mut sent = 0;
        loop {
            let measured = self.slice(once, path).await?;
            sent += measured.sent;
            if !measured.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.names.lost(sent, sent, path));
            }
        }
    }

    /// Measures a slice. `path` is the path's name, for errors.
    ///
    /// # Errors
    /// Too many round trips are lost, or a socket fails.
    pub async fn slice(&self, timing: Timing, path: &'static str) -> Result<Measurement, Error> {
        let stop = Stop::default();
        self.load.prepare();
        let (load, stopped) = (self.load.clone(), stop.flag());
        let serving = self.server.run(move || load.run_server(&stopped));
        let (load, stopped) = (self.load.clone(), stop.flag());
        let sent = self.client.run(move || load.run_client(timing, &stopped)).await?;
        drop(stop);
        let failed = |source| self.names.failed("exchange data", source);
        let arrived = serving.await?.map_err(failed)?;
        let measured = sent.map_err(failed)?.with(arrived.all, arrived.within, arrived.late);
        if measured.has_lost_round_trips() {
            return Err(self.names.lost(measured.lost(), measured.sent, path));
        }
        Ok(measured)
    }

    /// The minimum number of frames that both ends sent for the measured work.
    #[must_use]
    pub fn fewest_frames(&self, measured: &Measurement) -> u64 {
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
    use crate::{
        bench::{
            endpoints::cpus,
            workload::{Cores, Wait},
        },
        kernel::Netns,
    };

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(5), measure: Duration::from_millis(20) };

    /// More slices than can fail in a row on any machine, however busy.
    const MOST: usize = 100;

    /// Runs until three slices have a figure. Both ends are in this namespace and use the loopback device.
    async fn slices(spec: Spec) -> Option<Vec<Measurement>> {
        let here = Netns::current().unwrap();
        let address = [127, 0, 0, 1].into();
        let mut endpoints = Endpoints::new([(here.clone(), address), (here, address)]);
        if endpoints.threads(spec.cores).is_err() {
            eprintln!("SKIPPED: setns needs root");
            return None;
        }
        let worker = Worker::open(spec, &mut endpoints, "loopback").await.unwrap();
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
        for work in Workload::ALL {
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
        if cpus().len() < 2 {
            return;
        }
        for work in [Workload::UdpRr, Workload::TcpRr] {
            let spec = Spec { work, wait: Wait::Spinning, cores: Cores::Cross, ..Spec::UDP };
            for measured in slices(spec).await.into_iter().flatten() {
                assert!(!measured.is_empty(), "{measured:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_a_stream_sends_arrives_whole() {
        let spec = Spec { work: Workload::TcpStream, size: 65_536, ..Spec::UDP };
        for measured in slices(spec).await.into_iter().flatten() {
            assert_eq!(measured.received, measured.sent);
            assert!(measured.within <= measured.received);
        }
    }
}
