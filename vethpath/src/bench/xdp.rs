//! The same path on XDP, in a generated lab beside the measured one.

use super::{
    endpoints::Endpoints,
    error::Error,
    load::Worker,
    measurement::{Measurement, Timing},
    mode::Mode,
    monitor::{PathMonitor, nearly},
    schedule::Slice,
    selection::{self, Selection},
    warning::Warning,
};
use crate::{
    kernel::{Netns, Rtnl},
    state::{Directory, LabLock, Record},
    topology::{IfName, NsName},
};

/// A lab on XDP, and the two hosts to measure.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// The lab, which is up.
    pub record: &'a Record,
    /// The client and the server.
    pub between: &'a (NsName, NsName),
}

/// The locked lab.
pub struct OnXdp {
    _lock: LabLock,
    selection: Selection,
    monitor: PathMonitor,
    /// Reads links in the bridges' namespace.
    bridges: Rtnl,
}

impl OnXdp {
    /// Locks and opens it.
    ///
    /// # Errors
    /// A namespace is gone, a kernel operation fails, or the two pairs are not armed.
    pub fn open(beside: Beside<'_>) -> Result<Self, Error> {
        let Beside { record, between } = beside;
        let directory = Directory::of(&record.topology.lab);
        let lock = LabLock::acquire(&directory)?;
        let selection = selection::select(&record.topology, Some(between), &directory)?;
        for side in selection.sides() {
            if let Some(state) = side.not_armed.clone() {
                return Err(Error::NotArmed { pair: side.name.clone(), state });
            }
        }
        let netns = Netns::of(&selection.from.place)?;
        let monitor = PathMonitor::open(selection.clone(), directory)?;
        Ok(Self { _lock: lock, selection, monitor, bridges: Rtnl::open(&netns)? })
    }

    /// The two ends.
    ///
    /// # Errors
    /// A namespace is gone.
    pub fn endpoints(&self) -> Result<Endpoints, Error> {
        Endpoints::of(&self.selection)
    }

    /// Measures a slice and reports a fault if frames did not take XDP.
    ///
    /// # Errors
    /// Those of the worker, or a kernel operation fails.
    pub async fn slice(&self, worker: &Worker, timing: Timing) -> Result<Slice, Error> {
        let (before, ports) = (self.monitor.counted()?, self.sent_by_ports().await?);
        let measured = worker.slice(timing, Mode::Xdp.name()).await?;
        let sent = self.monitor.since(&before)?;
        let redirected = self.sent_by_ports().await?.saturating_sub(ports);
        let fault = if !sent.is_fast(worker.fewest_frames(&measured)) {
            Some(Warning::NotFast { fast: sent.fast, slow: sent.slow, pairs: self.monitor.states() })
        } else if is_by_xdp(redirected, sent.fast, &measured) {
            None
        } else {
            Some(Warning::NotXdp { fast: sent.fast, redirected })
        };
        Ok(Slice { measured, fault })
    }

    /// Frames that the two ports have sent to their inner ends. `veth_get_stats64` counts frames that XDP redirected to
    /// a port. `bpf_redirect_peer`, which the tc programs use here, bypasses the port.
    async fn sent_by_ports(&self) -> Result<u64, Error> {
        let mut sent = 0;
        for side in self.selection.sides() {
            let port: &IfName = &side.port;
            sent += self.bridges.expect_link(port)?.sent.0;
        }
        Ok(sent)
    }
}

/// Whether XDP redirected nearly all frames that the programs took. Frames lost at a full ring are included.
fn is_by_xdp(redirected: u64, fast: u64, measured: &Measurement) -> bool {
    redirected + measured.lost() >= nearly(fast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tc_programs_took_is_not_by_xdp() {
        let datagrams = Measurement { sent: 1000, received: 900, ..Measurement::counted() };
        assert!(is_by_xdp(900, 1000, &datagrams), "a hundred were lost at a ring");
        assert!(!is_by_xdp(800, 1000, &datagrams));
        let round_trips = Measurement { sent: 500, received: 500, ..Measurement::counted() };
        assert!(is_by_xdp(1000, 1000, &round_trips) && is_by_xdp(996, 1000, &round_trips));
        assert!(!is_by_xdp(2, 1000, &round_trips), "ARP alone went through the ports");
    }
}
