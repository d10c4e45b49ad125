//! The guest ports of a bridge namespace: those that come get a number and the program, and those that leave lose both.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use log::{info, warn};
use vethpath_common::{PortKey, PortRecord};

use super::BridgeNetns;
use crate::{
    agent::{
        NotArmed,
        desired::Ports,
        guests::{Found, GuestNumbers, found, guest_name},
    },
    datapath::{self, GuestPort},
    kernel::{Result, rcu::Expedited},
    state::{Before, Befores, Directory},
};

/// How long programs are attached before events are processed again, apart from the attach that is under way: each waits
/// for an RCU grace period.
const BURST: Duration = Duration::from_millis(5);

/// A guest port.
pub(super) struct Guest {
    found: Found,
    /// Its number in the maps; `None` while all are in use.
    number: Option<u32>,
    /// Why the program could not be attached. It is tried again each second.
    failure: Option<String>,
}

impl BridgeNetns {
    /// Follows the ports that were plugged in, renamed, moved or removed.
    pub(super) fn follow_guests(&mut self, numbers: &mut GuestNumbers) {
        let ports: BTreeMap<u32, Found> =
            found(&self.reader.layout, &self.state).into_iter().map(|port| (port.ifindex, port)).collect();
        let domain = self.reader.layout.domain;
        // Those of an earlier agent are among them.
        for key in numbers.ports_of(domain) {
            if !ports.contains_key(&key.ifindex) {
                self.let_go(key, numbers);
            }
        }
        for ifindex in std::mem::take(&mut self.departed) {
            self.let_go(PortKey { ifindex, domain: domain.into() }, numbers);
        }
        self.guests.retain(|ifindex, _| ports.contains_key(ifindex));
        for (ifindex, found) in ports {
            let (netns, pins, hook) = (self.reader.socket.netns(), &self.reader.pins, self.reader.hook);
            let port = GuestPort { domain, ifindex, name: found.name.clone() };
            let is_same = || {
                let is_attached = datapath::is_guest_attached(netns, pins, hook, &port);
                is_attached.inspect_err(|error| warn!("{error}")).is_ok_and(|is_attached| is_attached)
            };
            let number = numbers.of(PortKey { ifindex, domain: domain.into() }, is_same);
            let guest = self.guests.entry(ifindex).or_insert_with(|| {
                info!("{} was plugged into {}", found.name, found.bridge);
                Guest { found: found.clone(), number, failure: None }
            });
            (guest.found, guest.number) = (found, number);
        }
        let ports = self.guests.values().map(|guest| guest.found.lab_port(guest.number)).collect();
        self.dirty.ports |= self.reader.layout.set_guests(ports);
    }

    /// Takes the program off a port that has left, and its number. Both may be of an earlier agent.
    fn let_go(&mut self, key: PortKey, numbers: &mut GuestNumbers) {
        let name = match (self.guests.remove(&key.ifindex), self.state.links.get(&key.ifindex)) {
            (_, Some(link)) => link.name.parse().ok(),
            (Some(guest), None) => Some(guest.found.name),
            (None, None) => None,
        };
        let name = name.or_else(|| format!("if{}", key.ifindex).parse().ok());
        if let Some(name) = name {
            let (netns, pins, hook) = (self.reader.socket.netns(), &self.reader.pins, self.reader.hook);
            let port = GuestPort { domain: self.reader.layout.domain, ifindex: key.ifindex, name };
            if let Err(error) = datapath::detach_guest(netns, pins, hook, &port) {
                warn!("{error}");
            }
            info!("{} has left its bridge", port.name);
        }
        let number = numbers.number_of(key);
        // The number may be another port's later.
        self.state.losing.retain(|losing| Some(*losing) != number);
        numbers.leave(key);
    }

    /// Whether a guest port has no program yet, and its frames would be counted under its number.
    #[must_use]
    pub fn has_unattached_guests(&self, records: &BTreeMap<PortKey, PortRecord>) -> bool {
        self.unattached(records).next().is_some()
    }

    /// Whether a guest port is about to get its number, and then the program.
    #[must_use]
    pub fn is_adding_guests(&self, records: &BTreeMap<PortKey, PortRecord>) -> bool {
        let domain = u32::from(self.reader.layout.domain);
        let is_due = |(ifindex, guest): (&u32, &Guest)| {
            let record = records.get(&PortKey { ifindex: *ifindex, domain });
            guest.number.is_some() && record.map(|record| record.pair) != guest.number
        };
        self.guests.iter().any(is_due) || self.has_unattached_guests(records)
    }

    fn unattached<'a>(
        &'a self,
        records: &'a BTreeMap<PortKey, PortRecord>,
    ) -> impl Iterator<Item = GuestPort> + 'a {
        let domain = self.reader.layout.domain;
        let is_due = move |(ifindex, guest): &(&u32, &Guest)| {
            let key = PortKey { ifindex: **ifindex, domain: domain.into() };
            let is_counted = records.get(&key).is_some_and(|record| Some(record.pair) == guest.number);
            let is_wanted = guest.found.barred.is_none() && guest.failure.is_none();
            is_wanted && is_counted && !self.state.attached.contains(*ifindex)
        };
        let port = move |(ifindex, guest): (&u32, &Guest)| GuestPort {
            domain,
            ifindex: *ifindex,
            name: guest.found.name.clone(),
        };
        self.guests.iter().filter(is_due).map(port)
    }

    /// Attaches the program to guest ports that lack it: to all if they are many, else to as many as that is quick. What
    /// their inner ends have counted before is recorded first. Returns whether the kernel has yet to release the former
    /// link of a port.
    ///
    /// # Errors
    /// The kernel refuses to report the inner ends, or the record cannot be written.
    pub fn attach_guests(
        &mut self,
        records: &BTreeMap<PortKey, PortRecord>,
        befores: &mut Befores,
        directory: &Directory,
    ) -> Result<bool> {
        let ports: Vec<GuestPort> = self.unattached(records).collect();
        if ports.is_empty() {
            return Ok(false);
        }
        let (began, mut is_waiting) = (Instant::now(), false);
        // The program is seen there together with programs of others.
        self.dirty.links = true;
        self.record_before(&ports, befores, directory)?;
        let expedited = Expedited::for_ports(ports.len());
        for port in &ports {
            let (netns, pins, hook) = (self.reader.socket.netns(), &self.reader.pins, self.reader.hook);
            let attached = datapath::attach_guest(netns, pins, hook, port);
            match (attached, self.guests.get_mut(&port.ifindex)) {
                (Ok(is_attached), _) => is_waiting |= !is_attached,
                (Err(error), Some(guest)) => {
                    warn!("{error}");
                    guest.failure = Some(error.to_string());
                }
                (Err(_), None) => {}
            }
            if expedited.is_none() && began.elapsed() >= BURST {
                break;
            }
        }
        Ok(is_waiting)
    }

    /// Records what the inner ends of ports have counted, unless it is known from before an earlier attach.
    fn record_before(&self, ports: &[GuestPort], befores: &mut Befores, directory: &Directory) -> Result<()> {
        let mut is_changed = false;
        let links: Vec<_> = ports.iter().filter_map(|port| self.state.links.get(&port.ifindex)).collect();
        let inner = self.reader.socket.peers(links.iter().copied(), true)?;
        for (link, inner) in links.into_iter().zip(inner) {
            let number = self.guests.get(&link.ifindex).and_then(|guest| guest.number).unwrap_or_default();
            let key = PortKey { ifindex: link.ifindex, domain: self.reader.layout.domain.into() };
            if let Some(inner) = inner
                && befores.0.get(&key).is_none_or(|before| before.number != number)
            {
                befores.0.insert(key, Before::of(number, &inner.counters()?));
                is_changed = true;
            }
        }
        if is_changed { befores.write(directory) } else { Ok(()) }
    }

    /// The state of each guest port in the maps, by its name in events, with its device name.
    pub fn guest_states<'a>(
        &'a self,
        ports: &'a Ports,
    ) -> impl Iterator<Item = (String, (String, Option<NotArmed>))> + 'a {
        let domain = self.reader.layout.domain;
        self.guests.iter().filter_map(move |(ifindex, guest)| {
            let state = ports.guests.get(&(domain, *ifindex))?.clone();
            let Found { name, bridge, .. } = &guest.found;
            Some((guest_name(&self.place, bridge, name), (name.to_string(), state)))
        })
    }

    /// Has ports tried again that could not be attached. Called once a second.
    pub fn retry_guests(&mut self) {
        self.guests.values_mut().for_each(|guest| guest.failure = None);
    }

    /// Releases all guest ports: the namespace is gone, or no longer the lab's.
    pub fn leave_guests(&mut self, numbers: &mut GuestNumbers) {
        for key in numbers.ports_of(self.reader.layout.domain) {
            self.let_go(key, numbers);
        }
    }
}
