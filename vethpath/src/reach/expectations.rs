//! Finds out whether the expectations of a lab hold.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    hosts::{addresses, target},
    matrix::{NO_REPLY, NO_ROUTE, is_full, is_no_route},
    model::Verdict,
};
use crate::{
    kernel::{
        Context, Netns, Result, RouteSocket,
        echo::{EchoSocket, Token},
        netns, pool,
    },
    stats::{AgentView, collect},
    topology::{Expectation, Family, NsName, Place, Target, Topology},
};

/// The time after which a host that has not answered is taken for unreachable.
const SILENCE: Duration = Duration::from_secs(1);

/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// How many packets are sent to see which path they take.
const BURST: u64 = 3;

/// Tries each expectation of a lab until it holds, or until its time is over. They are tried on 16 threads at a time,
/// except those about paths: these count packets, and are tried one after the other.
///
/// # Errors
/// The kernel refuses a request that root may make. A host that is gone is a reason why an expectation does not hold.
pub fn evaluate(lab: &Topology, expectations: &[Expectation]) -> Result<Vec<Verdict>> {
    let about_paths = |expectation: &&Expectation| expectation.path.is_some();
    let plain: Vec<&Expectation> = expectations.iter().filter(|it| !about_paths(it)).collect();
    let mut plain = pool::io_bound(&plain, |expectation| verdict(lab, expectation)).into_iter();
    let mut verdicts = Vec::with_capacity(expectations.len());
    for expectation in expectations {
        let of_path = || pool::cpu_bound(&[expectation], |expectation| verdict(lab, expectation)).pop();
        let next = if about_paths(&expectation) { of_path() } else { plain.next() };
        verdicts.extend(next.transpose()?);
    }
    Ok(verdicts)
}

/// Tries an expectation until it holds or its time is over. Moves the calling thread into the host that asks.
fn verdict(lab: &Topology, expectation: &Expectation) -> Result<Verdict> {
    let began = Instant::now();
    let asking = Asking::entering(expectation)?;
    let reason = loop {
        let found = match &asking {
            Some(asking) => asking.attempt(lab)?,
            None => Some(format!("there is no namespace `{}`", expectation.from)),
        };
        if found.is_none() || began.elapsed() >= expectation.within() {
            break found;
        }
        thread::sleep(PAUSE);
    };
    Ok(Verdict {
        name: expectation.to_string(),
        expectation: expectation.clone(),
        holds: reason.is_none(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        reason,
    })
}

/// Opens a namespace; `None` if there is none.
fn open(name: &NsName) -> Result<Option<Netns>> {
    if !netns::place_exists(&Place::Namespace(name.clone())) {
        return Ok(None);
    }
    match Netns::named(name) {
        Err(error) if error.is_missing() => Ok(None),
        netns => netns.map(Some),
    }
}

/// The host that asks. The thread is in its namespace.
struct Asking<'e> {
    expectation: &'e Expectation,
    route: RouteSocket,
}

impl<'e> Asking<'e> {
    fn entering(expectation: &'e Expectation) -> Result<Option<Self>> {
        let Some(netns) = open(&expectation.from)? else { return Ok(None) };
        Ok(Some(Self { expectation, route: RouteSocket::entering(&netns)? }))
    }

    /// Why the expectation does not hold now; `None` if it does.
    fn attempt(&self, lab: &Topology) -> Result<Option<String>> {
        let Expectation { from, to, reaches, path, .. } = self.expectation;
        let targets = match self.targets()? {
            Ok(targets) => targets,
            // Who has no address cannot be reached.
            Err(reason) => return Ok(Some(reason).filter(|_| *reaches)),
        };
        if let (Some(_), Target::Namespace(to)) = (path, to) {
            return self.attempt_fast(lab, from, to, &targets);
        }
        let outcomes = self.ask(&targets, 1)?;
        let silent = || outcomes.iter().find_map(|(address, failure)| Some((address, failure.as_deref()?)));
        let answers = || outcomes.iter().find(|(_, failure)| failure.is_none());
        // A service may listen at one of the addresses alone.
        let is_reached =
            if self.expectation.port.is_some() { answers().is_some() } else { silent().is_none() };
        Ok(match (reaches, is_reached) {
            (true, false) => silent().map(|(address, failure)| format!("{failure} from {address}")),
            (false, _) => answers().map(|(address, _)| format!("{address} answers")),
            (true, true) => None,
        })
    }

    /// The addresses that are asked, as they are now, or why there are none.
    fn targets(&self) -> Result<std::result::Result<Vec<IpAddr>, String>> {
        let to = match &self.expectation.to {
            Target::Address(address) => return Ok(Ok(vec![*address])),
            Target::Namespace(to) => to,
        };
        let Some(netns) = open(to)? else { return Ok(Err(format!("there is no namespace `{to}`"))) };
        let theirs = addresses(&RouteSocket::open(&netns)?)?;
        let own = addresses(&self.route)?;
        let found: Vec<IpAddr> =
            Family::ALL.into_iter().filter_map(|family| target(&own, &theirs, family)).collect();
        if !found.is_empty() {
            return Ok(Ok(found));
        }
        let lacking = if own.is_empty() { &self.expectation.from } else { to };
        Ok(Err(match (own.is_empty(), theirs.is_empty()) {
            (false, false) => {
                format!("`{}` and `{to}` have no addresses of one family", self.expectation.from)
            }
            _ => format!("`{lacking}` has no address"),
        }))
    }

    /// Asks each address `times` times. Returns for each why it has not answered, if it has not.
    fn ask(&self, targets: &[IpAddr], times: u64) -> Result<Vec<(IpAddr, Option<String>)>> {
        let one = |&address: &IpAddr| -> Result<(IpAddr, Option<String>)> {
            let mut failure = None;
            for _ in 0..times {
                failure = match self.expectation.port {
                    Some(port) => connect(SocketAddr::new(address, port))?,
                    None => echo(address)?.map(str::to_owned),
                };
                if failure.is_some() {
                    break;
                }
            }
            Ok((address, failure))
        };
        targets.iter().map(one).collect()
    }

    /// As [`Self::attempt`], where packets must take the fast path: those that both hosts send and receive meanwhile.
    fn attempt_fast(
        &self,
        lab: &Topology,
        from: &NsName,
        to: &NsName,
        targets: &[IpAddr],
    ) -> Result<Option<String>> {
        // The first packets make neighbours known.
        let failed = |outcomes: Vec<(IpAddr, Option<String>)>| {
            outcomes.into_iter().find_map(|(address, failure)| Some(format!("{} from {address}", failure?)))
        };
        if let Some(failure) = failed(self.ask(targets, 1)?) {
            return Ok(Some(failure));
        }
        let before = fast(lab, [from, to])?;
        if let Some(failure) = failed(self.ask(targets, BURST)?) {
            return Ok(Some(failure));
        }
        let after = fast(lab, [from, to])?;
        let sent = BURST * u64::try_from(targets.len()).unwrap_or(u64::MAX);
        for (n, what) in [(0, "sent by"), (1, "received by"), (2, "sent by"), (3, "received by")] {
            let grown = after[n].saturating_sub(before[n]);
            if grown < sent {
                let host = if n < 2 { from } else { to };
                return Ok(Some(format!(
                    "{grown} of at least {sent} packets {what} `{host}` took the fast path"
                )));
            }
        }
        Ok(None)
    }
}

/// The packets that two hosts have sent and received by the fast path.
fn fast(lab: &Topology, hosts: [&NsName; 2]) -> Result<[u64; 4]> {
    let stats = collect(lab, AgentView::of(&lab.lab), None)?;
    let mut counts = [0; 4];
    for (n, host) in hosts.into_iter().enumerate() {
        for pair in lab.pairs.iter().filter(|pair| &pair.namespace == host) {
            let name = pair.name();
            for counted in stats.pairs.iter().filter(|counted| counted.name == name) {
                counts[2 * n] += counted.traffic.fast.tx.packets;
                counts[2 * n + 1] += counted.traffic.fast.rx.packets;
            }
        }
    }
    Ok(counts)
}

/// Connects to a port, for a second at most. Returns why that failed, or `None`.
fn connect(to: SocketAddr) -> Result<Option<String>> {
    let failure = match TcpStream::connect_timeout(&to, SILENCE) {
        Ok(_) => return Ok(None),
        Err(error) => match error.kind() {
            io::ErrorKind::TimedOut => NO_REPLY,
            io::ErrorKind::ConnectionRefused => "connection refused",
            io::ErrorKind::ConnectionReset => "connection reset",
            _ if is_no_route(&error) => NO_ROUTE,
            _ if is_full(&error) => NO_REPLY,
            _ => return Err(error).doing("connect to", to),
        },
    };
    Ok(Some(failure.to_owned()))
}

/// Waits a second for the reply to an echo request. Returns why there is none, or `None`.
fn echo(to: IpAddr) -> Result<Option<&'static str>> {
    let family = if to.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let socket = EchoSocket::here(family)?;
    let token = Token { nonce: fastrand::u64(..), number: 0 };
    let deadline = Instant::now() + SILENCE;
    match socket.send(to, token) {
        Ok(()) => {}
        Err(error) if is_no_route(&error) => return Ok(Some(NO_ROUTE)),
        Err(error) if is_full(&error) => return Ok(Some(NO_REPLY)),
        Err(error) => return Err(error).doing("send an echo request to", to),
    }
    loop {
        while let Some(received) = socket.receive().doing("receive an echo reply from", to)? {
            if received == token {
                return Ok(None);
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Some(NO_REPLY));
        }
        let wait = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(wait)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::from(errno)).doing("wait for", "an echo reply"),
        }
    }
}
