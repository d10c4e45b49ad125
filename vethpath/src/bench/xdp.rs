//! The same path on XDP, in a generated lab beside the measured one.

use super::{
    Error, Mode, Warning,
    choose::{self, Chosen},
    load::Worker,
    measured::Measured,
    schedule::{Slice, Timing},
    site::Site,
    watched::{Watched, nearly},
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
    chosen: Chosen,
    watched: Watched,
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
        let chosen = choose::choose(&record.topology, Some(between), &directory)?;
        for side in chosen.sides() {
            if let Some(state) = side.not_armed.clone() {
                return Err(Error::NotArmed { pair: side.pair.name(), state });
            }
        }
        let netns = Netns::of(&chosen.from.pair.place)?;
        let watched = Watched::open(chosen.clone(), directory)?;
        Ok(Self { _lock: lock, chosen, watched, bridges: Rtnl::open(&netns)? })
    }

    /// The two ends.
    ///
    /// # Errors
    /// A namespace is gone.
    pub fn site(&self) -> Result<Site, Error> {
        Site::of(&self.chosen)
    }

    /// Measures a slice and reports a fault if frames did not take XDP.
    ///
    /// # Errors
    /// Those of the worker, or a kernel operation fails.
    pub async fn slice(&self, worker: &Worker, timing: Timing) -> Result<Slice, Error> {
        let (before, ports) = (self.watched.counted()?, self.sent_by_ports().await?);
        let measured = worker.slice(timing, Mode::Xdp.name()).await?;
        let sent = self.watched.since(&before)?;
        let redirected = self.sent_by_ports().await?.saturating_sub(ports);
        let fault = if !sent.is_fast(worker.fewest_frames(&measured)) {
            Some(Warning::NotFast { fast: sent.fast, slow: sent.slow, pairs: self.watched.states() })
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
        for side in self.chosen.sides() {
            let port: &IfName = &side.pair.port;
            sent += self.bridges.expect_link(port).await?.sent.0;
        }
        Ok(sent)
    }
}

/// Whether XDP redirected nearly all frames that the programs took. Frames lost at a full ring are included.
fn is_by_xdp(redirected: u64, fast: u64, measured: &Measured) -> bool {
    redirected + measured.lost() >= nearly(fast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tc_programs_took_is_not_by_xdp() {
        let datagrams = Measured { sent: 1000, received: 900, ..Measured::counted() };
        assert!(is_by_xdp(900, 1000, &datagrams), "a hundred were lost at a ring");
        assert!(!is_by_xdp(800, 1000, &datagrams));
        let round_trips = Measured { sent: 500, received: 500, ..Measured::counted() };
        assert!(is_by_xdp(1000, 1000, &round_trips) && is_by_xdp(996, 1000, &round_trips));
        assert!(!is_by_xdp(2, 1000, &round_trips), "ARP alone went through the ports");
    }
}
