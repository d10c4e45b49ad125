//! The packets of a lab that the rules of a namespace certainly drop, worked out again as rules and routes change. Rules
//! that the lab needs in Docker's chain are written again where they are missing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use log::{info, warn};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use crate::{
    firewall::{self, Firewall},
    kernel::{Netns, Result, blocking, netfilter, process},
    plan::Accepted,
    state::{Directory, LabLock, events::Kind},
    topology::{Place, Topology, lab_mark},
};

/// After this time, they are worked out again where they depend on routes.
const HOLD: Duration = Duration::from_secs(30);

/// After this time, they are worked out again where there are rules of x_tables: their changes cause no events.
const LEGACY_HOLD: Duration = Duration::from_secs(5);

/// They are worked out in one of so many parts of the time at most.
const REST: u32 = 20;

/// The packets that are dropped in one namespace.
pub struct Drops {
    place: Place,
    netns: Netns,
    /// The packets, each with a sentence that says what drops them.
    found: BTreeMap<String, String>,
    is_due: bool,
    has_legacy: bool,
    rest_until: Instant,
    hold_until: Instant,
}

impl Drops {
    /// Nothing is worked out yet.
    pub fn new(place: &Place, netns: &Netns) -> Self {
        Self {
            place: place.clone(),
            netns: netns.clone(),
            found: BTreeMap::new(),
            is_due: true,
            has_legacy: false,
            rest_until: Instant::now(),
            hold_until: Instant::now(),
        }
    }

    /// Rules or the lab have changed.
    pub fn mark_due(&mut self) {
        self.is_due = true;
    }

    /// Works them out again, if they have changed or routes may have, and puts rules back. This reads all rules, so it is
    /// followed by a rest. Called once a second. `has_rules`: whether frames between hosts may pass rules. Returns events.
    pub fn follow(&mut self, topology: &Topology, directory: &Directory, has_rules: bool) -> Vec<Kind> {
        let mut events = Vec::new();
        let began = Instant::now();
        let has_nat = firewall::masquerades(topology, &self.place);
        self.is_due |= (has_nat || self.has_legacy) && began >= self.hold_until;
        if began < self.rest_until || !std::mem::take(&mut self.is_due) {
            return events;
        }
        self.hold_until = began + HOLD;
        if !has_nat && !has_rules {
            self.found.clear();
            return events;
        }
        let (place, cpu_time) = (self.place.clone(), process::cpu_time());
        // Once: the main loop waits for it.
        match Firewall::read(topology, &place, &self.netns, 1) {
            Ok(mut firewall) => {
                let mut drops = firewall.drops();
                self.has_legacy = firewall.has_legacy();
                if self.has_legacy {
                    self.hold_until = began + LEGACY_HOLD;
                }
                if has_nat {
                    let accepted = firewall.accept();
                    if self.put_rules_back(&accepted, topology, directory, &mut events) {
                        drops = firewall.drops();
                    }
                }
                let certain = drops.iter().filter(|drop| drop.is_certain);
                self.found = certain.map(|drop| (drop.packets(), drop.to_string())).collect();
            }
            Err(error) => {
                warn!("whether rules drop packets is unknown: {error}");
                self.is_due = true;
            }
        }
        // By CPU time: on a busy machine, the agent may have waited for most of the time.
        self.rest_until = Instant::now() + process::cpu_time().saturating_sub(cpu_time) * REST;
        events
    }

    /// Writes rules in Docker's chain again that are missing, or name a device that no default route leads to any more.
    /// Returns whether there were any, and all were written. If another command holds the lab's lock, they are written later,
    /// unless that command does.
    fn put_rules_back(
        &mut self,
        all: &[Accepted],
        topology: &Topology,
        directory: &Directory,
        events: &mut Vec<Kind>,
    ) -> bool {
        let lasting = all.iter().map(|accepted| (accepted, accepted.lasting(topology)));
        let due: Vec<_> = lasting.filter(|(accepted, rules)| !accepted.is_as(rules)).collect();
        if due.is_empty() {
            return false;
        }
        let Ok(_lock) = LabLock::acquire(directory) else {
            self.is_due = true;
            return false;
        };
        let mark = lab_mark(&topology.lab);
        let mut is_done = true;
        for (accepted, rules) in due {
            let written = blocking(&self.netns, NETLINK_NETFILTER)
                .and_then(|socket| netfilter::accept(&socket, accepted.family.into(), &mark, &rules));
            let chain = accepted.chain();
            match written {
                Ok(()) => {
                    let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
                    info!("rules written again to {chain}: {}", rules.join("; "));
                    events.push(Kind::RulesPutBack { chain, rules });
                }
                // It is tried again when rules change, or after a while.
                Err(error) => {
                    warn!("{error}");
                    is_done = false;
                }
            }
        }
        is_done
    }

    /// The packets, each with a sentence that says what drops them.
    #[must_use]
    pub fn found(&self) -> &BTreeMap<String, String> {
        &self.found
    }
}

/// The packets that are dropped on the machine, where it masquerades for the fabric and has no bridge of the lab.
pub struct MachineDrops {
    drops: Drops,
    socket: Socket,
    /// That of the rules that were read last.
    generation: Option<u32>,
}

impl MachineDrops {
    /// `None` if the packets of the lab do not concern the machine's rules, or a bridge namespace follows them.
    ///
    /// # Errors
    /// No socket can be opened.
    pub fn of(topology: &Topology) -> Result<Option<Self>> {
        let has_bridges = topology.domains().iter().any(|(_, place)| *place == Place::Host);
        if has_bridges || !firewall::masquerades(topology, &Place::Host) {
            return Ok(None);
        }
        let netns = Netns::current()?;
        let socket = blocking(&netns, NETLINK_NETFILTER)?;
        Ok(Some(Self { drops: Drops::new(&Place::Host, &netns), socket, generation: None }))
    }

    /// Works them out again, if rules have changed or routes may have. Called once a second.
    pub fn follow(&mut self, topology: &Topology, directory: &Directory) -> Vec<Kind> {
        let generation = netfilter::generation(&self.socket).unwrap_or_default();
        if generation != self.generation {
            self.generation = generation;
            self.drops.mark_due();
        }
        self.drops.follow(topology, directory, true)
    }

    /// As [`Drops::found`].
    #[must_use]
    pub fn found(&self) -> &BTreeMap<String, String> {
        self.drops.found()
    }
}
