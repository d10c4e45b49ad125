//! The guest ports of a bridge namespace: those that come get a number and the program, and those that leave lose both.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use log::{info, warn};
use vethpath_common::{NO_PAIR, PortKey, PortRecord};

use super::BridgeNetns;
use crate::{
    agent::{
        NotArmed,
        guests::{GuestNumbers, found, guest_name},
        layout::LabPort,
    },
    datapath::{self, GuestPort},
    kernel::{Result, rcu::Expedited},
    state::{Before, Befores, Directory},
};

/// Guest ports that lack the program.
#[derive(Clone, Copy)]
pub enum Which<'a> {
    /// All of them.
    All,
    /// Those to which none was attached before, by this agent or an earlier one.
    New(&'a Befores),
}

/// How long programs are attached before events are processed again, apart from the attach that is under way: each waits
/// for an RCU grace period.
const BURST: Duration = Duration::from_millis(5);

impl BridgeNetns {
    /// Follows the ports that were plugged in, renamed, moved or removed. Returns whether there were any.
    pub(super) fn follow_guests(&mut self, numbers: &mut GuestNumbers) -> bool {
        let mut ports = found(&self.reader.layout, &self.state);
        let domain = self.reader.layout.domain;
        let mut leaving = numbers.ports_of(domain);
        // Those of an earlier agent are among them.
        leaving.retain(|key| {
            let is_there = ports.iter().any(|port| port.guest == Some(key.ifindex));
            !is_there || self.departed.contains(&key.ifindex)
        });
        self.departed.clear();
        leaving.into_iter().for_each(|key| self.let_go(key, numbers));
        for port in &mut ports {
            let ifindex = port.guest.unwrap_or_default();
            let (netns, pins, hook) = (self.reader.socket.netns(), &self.reader.pins, self.reader.hook);
            let is_same = || {
                let guest = GuestPort { domain, ifindex, name: port.port.clone() };
                let is_attached = datapath::is_guest_attached(netns, pins, hook, &guest);
                is_attached.inspect_err(|error| warn!("{error}")).is_ok_and(|is_attached| is_attached)
            };
            match numbers.of(PortKey { ifindex, domain: domain.into() }, is_same) {
                Some(number) => port.counter = number,
                None => port.barred = Some(NotArmed::TooManyGuests),
            }
            if !self.reader.layout.guests().any(|known| known.guest == port.guest) {
                info!("{} was plugged into {}", port.port, port.bridge);
            }
        }
        let is_changed = self.reader.layout.set_guests(ports);
        // Rules were read for the former ports, by name.
        self.state.dirty.ports |= is_changed;
        self.state.dirty.rules |= is_changed;
        is_changed
    }

    /// Takes the program off a port that has left, and its number. Both may be of an earlier agent.
    fn let_go(&mut self, key: PortKey, numbers: &mut GuestNumbers) {
        let (netns, pins, hook) = (self.reader.socket.netns(), &self.reader.pins, self.reader.hook);
        let detached = datapath::detach_guest(netns, pins, hook, self.reader.layout.domain, key.ifindex);
        detached.unwrap_or_else(|error| warn!("{error}"));
        info!("{} has left its bridge", self.port_label(key.ifindex));
        let number = numbers.number_of(key);
        // The number may be another port's later.
        self.state.losing.retain(|losing| Some(*losing) != number);
        self.tried.remove(&key.ifindex);
        numbers.leave(key);
    }

    /// Whether a guest port has no program yet, and its frames would be counted under its number.
    #[must_use]
    pub fn has_unattached_guests(&self, records: &BTreeMap<PortKey, PortRecord>, which: Which<'_>) -> bool {
        self.unattached(records, which).next().is_some()
    }

    /// Whether a guest port is about to get its number, or the program, or to be seen with it.
    #[must_use]
    pub fn is_adding_guests(&self, records: &BTreeMap<PortKey, PortRecord>) -> bool {
        let has_failed = |ifindex| self.tried.get(&ifindex) == Some(&false);
        self.reader.layout.guests().any(|port| {
            let ifindex = port.guest.unwrap_or_default();
            let is_counted = port.counter == NO_PAIR || self.is_counted(port, records);
            let is_attached = self.state.attached.contains(&ifindex) || has_failed(ifindex);
            !is_counted || port.barred.is_none() && !is_attached
        })
    }

    /// Whether frames of a guest port are counted under its number.
    fn is_counted(&self, port: &LabPort, records: &BTreeMap<PortKey, PortRecord>) -> bool {
        let (ifindex, domain) = (port.guest.unwrap_or_default(), self.reader.layout.domain.into());
        records.get(&PortKey { ifindex, domain }).is_some_and(|record| record.pair == port.counter)
    }

    fn unattached<'a>(
        &'a self,
        records: &'a BTreeMap<PortKey, PortRecord>,
        which: Which<'a>,
    ) -> impl Iterator<Item = &'a LabPort> + 'a {
        self.reader.layout.guests().filter(move |port| {
            let ifindex = port.guest.unwrap_or_default();
            let is_wanted = port.barred.is_none() && !self.tried.contains_key(&ifindex);
            let is_lacking =
                is_wanted && self.is_counted(port, records) && !self.state.attached.contains(&ifindex);
            is_lacking
                && match which {
                    Which::All => true,
                    Which::New(befores) => !befores.has(self.key(ifindex), port.counter),
                }
        })
    }

    fn key(&self, ifindex: u32) -> PortKey {
        PortKey { ifindex, domain: self.reader.layout.domain.into() }
    }

    fn guest_port(&self, port: &LabPort) -> GuestPort {
        GuestPort {
            domain: self.reader.layout.domain,
            ifindex: port.guest.unwrap_or_default(),
            name: port.port.clone(),
        }
    }

    /// Attaches the program to guest ports that lack it, or of these only to those that never had it: to all if they are
    /// many, else to as many as that is quick. What their inner ends have counted before is recorded first. Returns whether
    /// the kernel has yet to release the former link of a port.
    pub fn attach_guests(
        &mut self,
        records: &BTreeMap<PortKey, PortRecord>,
        befores: &mut Befores,
        directory: &Directory,
        only_new: bool,
    ) -> bool {
        let which = if only_new { Which::New(befores) } else { Which::All };
        let ports: Vec<LabPort> = self.unattached(records, which).cloned().collect();
        if ports.is_empty() {
            return false;
        }
        let (began, mut is_waiting) = (Instant::now(), false);
        // The program is seen there together with programs of others.
        self.state.dirty.links = true;
        if let Err(error) = self.record_before(&ports, befores, directory) {
            warn!("{error}");
            self.tried.extend(ports.iter().filter_map(|port| Some((port.guest?, false))));
            return false;
        }
        let expedited = Expedited::for_ports(ports.len());
        for port in ports.iter().map(|port| self.guest_port(port)).collect::<Vec<_>>() {
            let (netns, pins, hook) = (self.reader.socket.netns(), &self.reader.pins, self.reader.hook);
            match datapath::attach_guest(netns, pins, hook, &port) {
                Ok(false) => is_waiting = true,
                Ok(true) => drop(self.tried.insert(port.ifindex, true)),
                Err(error) => {
                    warn!("{error}");
                    self.tried.insert(port.ifindex, false);
                }
            }
            // Those that are left would not be new the next time.
            if !only_new && expedited.is_none() && began.elapsed() >= BURST {
                break;
            }
        }
        is_waiting
    }

    /// Records what the inner ends of ports have counted, unless it is known from before an earlier attach.
    fn record_before(&self, ports: &[LabPort], befores: &mut Befores, directory: &Directory) -> Result<()> {
        let mut is_changed = false;
        let ports: Vec<_> =
            ports.iter().filter_map(|port| Some((self.state.link_of(port)?, port.counter))).collect();
        let inner = self.reader.socket.peers(ports.iter().map(|(link, _)| *link), true)?;
        for ((link, number), inner) in ports.into_iter().zip(inner) {
            let key = self.key(link.ifindex);
            if let Some(inner) = inner
                && !befores.has(key, number)
            {
                befores.0.insert(key, Before::of(number, &inner.counters()?));
                is_changed = true;
            }
        }
        if is_changed { befores.write(directory) } else { Ok(()) }
    }

    /// The state of each guest port, by its name in events, with its device name.
    pub fn guest_states(&self) -> impl Iterator<Item = (String, (String, Option<NotArmed>))> {
        self.reader.layout.guests().filter_map(|port| {
            let state = self.segments.guests.get(&port.guest?)?.clone();
            Some((guest_name(self.place(), &port.bridge, &port.port), (port.port.to_string(), state)))
        })
    }

    /// Whether a guest port waits for a number.
    #[must_use]
    pub fn has_unnumbered_guests(&self) -> bool {
        self.reader.layout.guests().any(|port| port.barred == Some(NotArmed::TooManyGuests))
    }

    /// Has ports tried again that could not be attached. Called once a second.
    pub fn retry_guests(&mut self) {
        self.tried.clear();
    }

    /// Releases all guest ports: the namespace is gone, or no longer the lab's.
    pub fn leave_guests(&mut self, numbers: &mut GuestNumbers) {
        for key in numbers.ports_of(self.reader.layout.domain) {
            self.let_go(key, numbers);
        }
    }
}
