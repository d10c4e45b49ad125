//! How an agent comes to be: it takes the lock, reads what the lab is to be, and opens what there is of it.

use log::warn;

use super::{Agent, Error, version};
use crate::{
    agent::{
        bridge_netns::BridgeNetns, event_log::EventLog, loss_detector::LossDetector, map_sync::MapSync,
        socket::Listener,
    },
    datapath::{self, Counters, Maps, Pins, Receivers},
    kernel::{clock::Clock, watch::Watch},
    state::{AgentLock, Directory, Record},
};

impl Agent {
    /// Where clients come to the agent of a lab, and the agent, which knows nothing of the lab yet.
    pub(super) fn begin(directory: &Directory) -> Result<(Listener, Self), Error> {
        if Record::read(directory)?.is_none() {
            return Err(Error::NoLab);
        }
        let lock = AgentLock::take(directory)?.ok_or(Error::Another)?;
        // Only now: whoever changes a lab makes sure that nobody has the lock after it has written what the lab is to be.
        let journal = version(directory);
        let Record { topology, hook, home, .. } = Record::read(directory)?.ok_or(Error::NoLab)?;
        if home.is_some() && Record::route(home.as_ref(), directory)?.is_some_and(|route| !route.is_here()) {
            return Err(Error::Elsewhere);
        }
        let pins = Pins::of(&topology.lab);
        let mut domains = Vec::new();
        for (number, place) in topology.domains() {
            datapath::forward_log(&pins, number.into())?;
            let receivers = Receivers::open(&pins, number.into())?;
            domains.push(BridgeNetns::open(number, &place, &topology, &pins, hook, receivers)?);
        }
        let maps = Maps::open(&pins)?;
        let found = maps.config();
        // A `down` may have removed the folder meanwhile, and an `up` made another, with an agent whose maps these are by now,
        // and whose socket is there.
        let is_current = || if lock.is_current(directory) { Ok(()) } else { Err(Error::Replaced) };
        is_current()?;
        let (counters, sync) = (Counters::open(&pins)?, MapSync::take_over(maps)?);
        is_current()?;
        let door = Listener::open(&directory.socket())?;
        let agent = Self {
            namespaces: domains,
            clock: Clock::open()?,
            counters,
            maps: sync,
            loss_detector: LossDetector::default(),
            event_log: EventLog::begin(directory, found),
            modules: Watch::modules().inspect_err(|error| warn!("{error}")).ok(),
            lock,
            directory: directory.clone(),
            pins,
            topology,
            journal,
            hook,
            settled: false,
            looks: 0,
            reconciled: None,
            has_worked: true,
            failure: None,
        };
        Ok((door, agent))
    }
}
