//! Measures which hosts of a lab reach which.
//!
//! One thread sends all echo requests, by sockets that were opened in the hosts. Two hosts ask each other in turn, so that
//! the second finds the neighbour entry that the first has caused.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    hosts::{self, Host, target},
    model::{Cell, Matrix, Outcome},
};
use crate::{
    kernel::{self, Context, Netns, echo::Token, neighbour_tables, process},
    topology::{Family, LabName, NsName},
};

/// The most pairs of hosts, each family by itself, that are measured at once.
pub const MOST_PROBES: usize = 1 << BITS;

/// The bits of the number of a probe.
const BITS: u32 = 20;

/// How many requests are on their way at a time.
const WINDOW: usize = 128;

/// The time after which a request is repeated.
const REPEAT: Duration = Duration::from_millis(250);

/// Why nothing was measured.
#[derive(Debug)]
pub enum NotMeasured {
    /// There are this many pairs, more than [`MOST_PROBES`].
    TooMany(usize),
    /// The kernel refuses.
    Kernel(kernel::Error),
}

impl From<kernel::Error> for NotMeasured {
    fn from(error: kernel::Error) -> Self {
        Self::Kernel(error)
    }
}

/// Has each host in `from` ask each other one in `to` for an echo, for at most `within`. `hosts` are all of them.
///
/// # Errors
/// There are too many, a host is gone, or the kernel refuses a request that root may make.
pub fn matrix(
    lab: &LabName,
    hosts: &[NsName],
    (from, to): (&[NsName], &[NsName]),
    within: Duration,
) -> Result<Matrix, NotMeasured> {
    let most = from.len().saturating_mul(to.len()).saturating_mul(Family::ALL.len());
    if most > MOST_PROBES {
        return Err(NotMeasured::TooMany(most));
    }
    process::raise_descriptor_limit();
    let opened = hosts::open(hosts)?;
    let mut probes = Vec::new();
    for family in Family::ALL {
        for (a, sender) in opened.iter().enumerate().filter(|(a, _)| from.contains(&hosts[*a])) {
            for (b, receiver) in opened.iter().enumerate().filter(|(b, _)| *b != a && to.contains(&hosts[*b]))
            {
                if let Some(address) = target(&sender.addresses, &receiver.addresses, family) {
                    probes.push(Probe { family, from: a, to: b, address, outcome: None });
                }
            }
        }
    }
    let mut run = Run::new(&opened, probes, within)?;
    run.complete()?;
    let cell = |probe: Probe| Cell {
        from: hosts[probe.from].clone(),
        to: hosts[probe.to].clone(),
        family: probe.family,
        address: probe.address,
        outcome: probe.outcome.unwrap_or(Outcome::Unreached(NO_REPLY)),
    };
    let pairs: Vec<Cell> = run.probes.into_iter().map(cell).collect();
    let reached = pairs.iter().filter(|cell| cell.outcome.is_reached()).count();
    Ok(Matrix { lab: lab.clone(), hosts: hosts.to_vec(), tried: pairs.len(), reached, pairs })
}

/// Reasons of [`Outcome::Unreached`].
pub(super) const NO_REPLY: &str = "no reply";
pub(super) const NO_ROUTE: &str = "no route";

/// What a host asks of another.
struct Probe {
    family: Family,
    /// Positions of the hosts.
    from: usize,
    to: usize,
    address: std::net::IpAddr,
    outcome: Option<Outcome>,
}

/// A probe whose reply has not come.
struct InFlight {
    /// When each of its requests was sent.
    sent: Vec<Instant>,
    /// The two hosts that ask each other, as a position in `turns`.
    turn: usize,
}

/// Two hosts that ask each other by one family: positions of their probes.
type Turn = [Option<usize>; 2];

struct Run<'h> {
    hosts: &'h [Host],
    probes: Vec<Probe>,
    turns: Vec<Turn>,
    /// Probes that wait for a reply.
    in_flight: HashMap<usize, InFlight>,
    within: Duration,
    nonce: u64,
    /// How many turns may be in flight.
    window: usize,
    /// Whether the neighbour entries that a turn has made are removed after it, by family.
    removes: [bool; 2],
}

impl<'h> Run<'h> {
    fn new(hosts: &'h [Host], probes: Vec<Probe>, within: Duration) -> kernel::Result<Self> {
        let mut by_hosts: HashMap<(Family, usize, usize), Turn> = HashMap::new();
        let mut order = Vec::new();
        for (number, probe) in probes.iter().enumerate() {
            let is_first = probe.from < probe.to;
            let key = (probe.family, probe.from.min(probe.to), probe.from.max(probe.to));
            let turn = by_hosts.entry(key).or_insert_with(|| {
                order.push(key);
                Turn::default()
            });
            turn[usize::from(!is_first)] = Some(number);
        }
        let turns = order.iter().filter_map(|key| by_hosts.get(key).copied()).collect();
        let nonce = fastrand::u64(..);
        let (in_flight, removes) = (HashMap::new(), [false; 2]);
        let mut run = Self { hosts, probes, turns, in_flight, within, nonce, window: WINDOW, removes };
        run.make_room()?;
        Ok(run)
    }

    /// All namespaces of the machine share a neighbour table, whose entries the kernel keeps for five seconds at least
    /// (`neigh_forced_gc` in net/core/neighbour.c). Where it is too small for the lab, the entries that are made here are
    /// removed again, and fewer hosts ask at a time.
    fn make_room(&mut self) -> kernel::Result<()> {
        for table in neighbour_tables(&Netns::current()?)? {
            let of_table = |probe: &&Probe| probe.family == table.family;
            let makes = |probe: &&Probe| self.hosts[probe.from].neighbour(probe.address).is_some();
            let needed = self.probes.iter().filter(of_table).filter(makes).count();
            // A quarter is left to others.
            let limit = usize::try_from(table.limit / 4 * 3).unwrap_or(usize::MAX);
            let room = limit.saturating_sub(usize::try_from(table.entries).unwrap_or(usize::MAX));
            if needed > room {
                self.removes[usize::from(table.family == Family::Ipv6)] = true;
                self.window = self.window.min(room / 2).max(8);
            }
        }
        Ok(())
    }

    fn complete(&mut self) -> kernel::Result<()> {
        let mut waiting = (0..self.turns.len()).rev().collect::<Vec<_>>();
        let mut busy = 0;
        loop {
            while busy < self.window
                && let Some(turn) = waiting.pop()
            {
                busy += usize::from(self.advance(turn)?);
            }
            if self.in_flight.is_empty() {
                return self.sweep();
            }
            for probe in self.answered()? {
                if let Some(done) = self.in_flight.remove(&probe) {
                    busy -= usize::from(!self.advance(done.turn)?);
                }
            }
            for probe in self.expired() {
                if let Some(late) = self.in_flight.remove(&probe) {
                    let _ = self.probes[probe].outcome.get_or_insert(Outcome::Unreached(NO_REPLY));
                    busy -= usize::from(!self.advance(late.turn)?);
                }
            }
        }
    }

    /// Sends the first request of the next probe of a turn. Returns false if the turn is over.
    fn advance(&mut self, turn: usize) -> kernel::Result<bool> {
        for number in self.turns[turn].into_iter().flatten() {
            if self.probes[number].outcome.is_none() {
                self.in_flight.insert(number, InFlight { sent: Vec::new(), turn });
                if self.send(number)? {
                    return Ok(true);
                }
                self.in_flight.remove(&number);
            }
        }
        self.tidy(turn)?;
        Ok(false)
    }

    /// Sends a request of a probe. Returns false if there is no route, which is its outcome.
    fn send(&mut self, number: usize) -> kernel::Result<bool> {
        let probe = &mut self.probes[number];
        let Some(flight) = self.in_flight.get_mut(&number) else { return Ok(true) };
        let Some(socket) = self.hosts[probe.from].socket(probe.family) else { return Ok(true) };
        let token = Token { nonce: self.nonce, number: numbered(number, flight.sent.len()) };
        flight.sent.push(Instant::now());
        match socket.send(probe.address, token) {
            Ok(()) => Ok(true),
            Err(error) if is_no_route(&error) => {
                probe.outcome = Some(Outcome::Unreached(NO_ROUTE));
                Ok(false)
            }
            // No room: in the socket, or in the neighbour table. It is sent again later.
            Err(error) if is_full(&error) => Ok(true),
            Err(error) => Err(error).doing("send an echo request to", probe.address),
        }
    }

    /// Waits for replies until the next request is due. Returns the probes that were answered.
    fn answered(&mut self) -> kernel::Result<Vec<usize>> {
        let mut sockets: Vec<(usize, Family)> = self
            .in_flight
            .keys()
            .map(|&number| (self.probes[number].from, self.probes[number].family))
            .collect();
        sockets.sort_unstable();
        sockets.dedup();
        let hosts = self.hosts;
        let sockets: Vec<_> =
            sockets.into_iter().filter_map(|(host, family)| hosts[host].socket(family)).collect();
        let mut ready: Vec<_> =
            sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        let wait = self.until_due();
        // Rounded up, so that the time is over after it.
        let wait = u16::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        match poll(&mut ready, PollTimeout::from(wait)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::from(errno)).doing("wait for", "echo replies"),
        }
        let ready: Vec<bool> = ready.iter().map(|socket| socket.any().unwrap_or_default()).collect();
        let mut answered = Vec::new();
        for (socket, _) in sockets.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            while let Some(token) = socket.receive().doing("receive", "echo replies")? {
                answered.extend(self.note(token));
            }
        }
        Ok(answered)
    }

    /// Notes a reply. Returns its probe if that was waiting for it.
    fn note(&mut self, token: Token) -> Option<usize> {
        let (number, request) = probe_of(token.number);
        let flight = self.in_flight.get(&number).filter(|_| token.nonce == self.nonce)?;
        let probe = self.probes.get_mut(number).filter(|probe| probe.outcome.is_none())?;
        probe.outcome = Some(Outcome::Reached(flight.sent.get(request)?.elapsed()));
        Some(number)
    }

    /// The time until a request is to be repeated, or a probe is over.
    fn until_due(&self) -> Duration {
        let now = Instant::now();
        let due = |flight: &InFlight| {
            let (first, last) = (flight.sent.first()?, flight.sent.last()?);
            Some((*first + self.within).min(*last + REPEAT).saturating_duration_since(now))
        };
        self.in_flight.values().filter_map(due).min().unwrap_or_default()
    }

    /// Repeats requests that are due. Returns the probes whose time is over.
    fn expired(&mut self) -> Vec<usize> {
        let now = Instant::now();
        let mut over = Vec::new();
        let mut due = Vec::new();
        for (&number, flight) in &self.in_flight {
            let since = |time: Option<&Instant>| {
                time.map_or(Duration::ZERO, |time| now.saturating_duration_since(*time))
            };
            if since(flight.sent.first()) >= self.within {
                over.push(number);
            } else if since(flight.sent.last()) >= REPEAT {
                due.push(number);
            }
        }
        for number in due {
            // A route may have gone meanwhile.
            if !matches!(self.send(number), Ok(true)) {
                over.push(number);
            }
        }
        over
    }

    /// Removes the neighbour entries that late replies have made after the turn, where room is short.
    fn sweep(&self) -> kernel::Result<()> {
        if self.removes == [false; 2] {
            return Ok(());
        }
        let asked = |probe: &Probe| Some((probe.from, self.hosts[probe.from].neighbour(probe.address)?));
        let removed = |probe: &&Probe| self.removes[usize::from(probe.family == Family::Ipv6)];
        let made: HashSet<_> = self.probes.iter().filter(removed).filter_map(asked).collect();
        for (at, host) in self.hosts.iter().enumerate() {
            let mut late = host.route.neighbours()?;
            late.retain(|one| made.contains(&(at, *one)) && !host.neighbours.contains(one));
            host.route.delete_neighbours(&late)?;
        }
        Ok(())
    }

    /// Removes the neighbour entries that a turn has made, where room is short.
    fn tidy(&self, turn: usize) -> kernel::Result<()> {
        for number in self.turns[turn].into_iter().flatten() {
            let probe = &self.probes[number];
            let host = &self.hosts[probe.from];
            if !self.removes[usize::from(probe.family == Family::Ipv6)] {
                continue;
            }
            if let Some(made) = host.neighbour(probe.address).filter(|it| !host.neighbours.contains(it)) {
                host.route.delete_neighbours(&[made])?;
            }
        }
        Ok(())
    }
}

/// The number of a request in its [`Token`]: in the lower bits that of the probe, which is less than [`MOST_PROBES`].
fn numbered(probe: usize, request: usize) -> u32 {
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (word(request).min(u32::MAX >> BITS) << BITS) | (word(probe) & !(u32::MAX << BITS))
}

/// The probe and the request of a number.
fn probe_of(number: u32) -> (usize, usize) {
    let index = |word: u32| usize::try_from(word).unwrap_or(usize::MAX);
    (index(number & !(u32::MAX << BITS)), index(number >> BITS))
}

/// Whether the host has no route to the address, or one that refuses packets.
pub(super) fn is_no_route(error: &io::Error) -> bool {
    const NONE: [i32; 4] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL];
    error.raw_os_error().is_some_and(|errno| NONE.contains(&errno))
}

/// Whether the request may be sent later.
pub(super) fn is_full(error: &io::Error) -> bool {
    // Without a usable source address there is one once duplicate address detection is over.
    const LATER: [i32; 6] =
        [libc::ENOBUFS, libc::EAGAIN, libc::ENOMEM, libc::EPERM, libc::ENETDOWN, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|errno| LATER.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_probe_and_the_request() {
        for (probe, request) in [(0, 0), (7, 3), (MOST_PROBES - 1, 4095)] {
            assert_eq!(probe_of(numbered(probe, request)), (probe, request));
        }
        assert_eq!(probe_of(numbered(1, 1_000_000)), (1, 4095), "a request too many is as the last");
    }
}
