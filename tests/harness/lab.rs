//! A lab on a host: from its file to `vethpath down`.

use std::{thread, time::Duration};

use nix::errno::Errno;
use vethpath::{kernel::Netns, topology::port_name};

use super::{
    Args, Host, Output, Process, Refusal, SLACK, Stats, TIMEOUT, Wire, assert_counters_match, wait_until,
    with_a_lease,
};

/// A topology file that is being prepared: `host.lab("three-hosts").with(..).up()`.
pub(crate) struct LabFile<'h> {
    host: &'h Host,
    name: String,
    text: String,
}

impl<'h> LabFile<'h> {
    pub(super) fn new(host: &'h Host, name: &str, text: String) -> Self {
        Self { host, name: name.to_owned(), text }
    }

    /// Replaces a text everywhere.
    #[track_caller]
    pub(crate) fn with(mut self, text: &str, other: &str) -> Self {
        assert!(self.text.contains(text), "{text:?} is not in {}", self.name);
        self.text = self.text.replace(text, other);
        self
    }

    /// Appends a text.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.text += more;
        self
    }

    /// Sets another name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Writes the file and returns its path.
    pub(crate) fn write(&self) -> String {
        self.host.topology(&self.name, &self.text)
    }

    /// Writes the file and brings the lab up.
    #[track_caller]
    pub(crate) fn up(self) -> Lab<'h> {
        self.up_with("")
    }

    /// The same with more arguments.
    #[track_caller]
    pub(crate) fn up_with(self, arguments: &str) -> Lab<'h> {
        let file = self.write();
        let _ = self.host.vethpath(format!("up {file} {arguments}")).ok();
        Lab { host: self.host, name: self.name, file, is_up: true }
    }
}

impl<'h> LabFile<'h> {
    /// Writes the file and brings the lab up. The agent is refused netlink sockets of a protocol: see [`Refusal`].
    #[track_caller]
    pub(crate) fn up_without(self, protocol: i32, errno: Errno) -> (Lab<'h>, Refusal) {
        let file = self.write();
        let (up, refusal) = self.host.spawn_vethpath_without(format!("up {file}"), protocol, errno);
        let _ = up.wait(TIMEOUT).ok();
        (Lab { host: self.host, name: self.name, file, is_up: true }, refusal)
    }
}

/// A lab that is up, and is taken down when this is dropped.
pub(crate) struct Lab<'h> {
    host: &'h Host,
    pub(crate) name: String,
    pub(crate) file: String,
    is_up: bool,
}

impl<'h> Lab<'h> {
    /// A lab that the test itself has brought up.
    pub(crate) fn existing(host: &'h Host, name: &str, file: String) -> Self {
        Self { host, name: name.to_owned(), file, is_up: true }
    }
}

impl Lab<'_> {
    /// Runs a command in a namespace with `ip netns exec`.
    #[track_caller]
    pub(crate) fn run(&self, namespace: &str, args: impl Args) -> Output {
        self.host.run(netns_exec(namespace, args))
    }

    /// Starts a command in a namespace with `ip netns exec`.
    #[track_caller]
    pub(crate) fn spawn(&self, namespace: &str, args: impl Args) -> Process {
        self.host.spawn(netns_exec(namespace, args))
    }

    /// A namespace, which lives at least as long as the returned value.
    #[track_caller]
    pub(crate) fn netns(&self, namespace: &str) -> Netns {
        let netns = Netns::open(&self.host.path(&format!("/run/netns/{namespace}")), namespace);
        netns.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The reason why a pair is not on the fast path, or `armed`.
    #[track_caller]
    pub(crate) fn state(&self, pair: &str) -> String {
        wait_until(TIMEOUT, || match self.stats().pair(pair).state.clone() {
            // On a loaded machine the reply may take a while.
            silent if silent == "the agent does not answer" => Err(silent),
            state => Ok(state),
        })
    }

    /// Waits until `stats` reports this state of a pair.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, pair: &str, state: &str) {
        // The kernel removes namespaces asynchronously, one after the other.
        wait_until(TIMEOUT, || {
            let now = self.state(pair);
            if now.contains(state) { Ok(()) } else { Err(format!("{pair} is {now:?}, not {state:?}")) }
        });
    }

    /// A packet socket on `namespace:interface`. It keeps the namespace alive.
    #[track_caller]
    pub(crate) fn wire(&self, inner_end: &str) -> Wire {
        let (namespace, interface) = inner_end.split_once(':').expect("named namespace:interface");
        let wire = self.netns(namespace).run(|| Wire::on(interface)).expect("it can be entered");
        wire.unwrap_or_else(|error| panic!("a packet socket on {inner_end}: {error}"))
    }

    /// Whether one ping gets a reply within 0.3 s; a round trip takes a tenth of a millisecond. Use [`Lab::reaches`]
    /// for what must be reachable.
    pub(crate) fn pings(&self, namespace: &str, to: &str) -> bool {
        self.run(namespace, format!("ping -n -q -c 1 -W 0.3 {to}")).succeeded()
    }

    /// Expects replies to three of three pings. All are sent before a reply is read: after one reply, `ping` would
    /// not wait for the last ones.
    #[track_caller]
    pub(crate) fn reaches(&self, namespace: &str, to: &str) {
        let output = self.run(namespace, format!("ping -n -q -c 3 -l 3 -W 5 {to}"));
        if !(output.succeeded() && output.stdout.contains(" 0% packet loss")) {
            panic!("{output}\n{}", self.surroundings(namespace));
        }
    }

    /// What a lost packet may have met, for a failed test.
    fn surroundings(&self, namespace: &str) -> String {
        let inside = ["ip -s neigh", "ip -s link"].map(|command| self.run(namespace, command.to_owned()));
        let outside = ["bridge -d link", "bridge -s fdb", "ip -s link", "nft list ruleset"];
        let outside = outside.map(|command| self.host.run(command));
        let told =
            ["events", "show", "stats"].map(|name| self.host.vethpath(format!("{name} {}", self.name)));
        inside.into_iter().chain(outside).chain(told).map(|output| format!("{output}\n")).collect()
    }

    /// Waits until a ping gets a reply.
    #[track_caller]
    pub(crate) fn reaches_within(&self, within: Duration, namespace: &str, to: &str) {
        wait_until(within, || {
            if self.pings(namespace, to) { Ok(()) } else { Err(format!("{namespace} cannot reach {to}")) }
        });
    }

    /// Waits until a ping gets no reply any more.
    #[track_caller]
    pub(crate) fn loses_within(&self, within: Duration, namespace: &str, to: &str) {
        wait_until(within, || {
            if self.pings(namespace, to) { Err(format!("{namespace} still reaches {to}")) } else { Ok(()) }
        });
    }

    /// `vethpath stats --json`.
    #[track_caller]
    pub(crate) fn stats(&self) -> Stats {
        let output = self.host.vethpath(format!("stats {} --json", self.name)).ok();
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("stats: {e}: {output}"))
    }

    /// The same from an agent that replies, which may take a while on a loaded machine.
    #[track_caller]
    pub(crate) fn live_stats(&self) -> Stats {
        wait_until(TIMEOUT, || {
            let stats = self.stats();
            if stats.agent.alive { Ok(stats) } else { Err("the agent does not answer".to_owned()) }
        })
    }

    /// The agent's pid.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        self.live_stats().agent.pid.expect("who answers has a number")
    }

    /// The port of a pair, by the name that `up` gives it.
    #[track_caller]
    pub(crate) fn port(&self, pair: &str) -> String {
        let (namespace, interface) = pair.split_once(':').expect("named namespace:interface");
        let (namespace, interface) = (namespace.parse().expect("a name"), interface.parse().expect("a name"));
        port_name(&self.name.parse().expect("a lab's name"), &namespace, &interface).to_string()
    }

    /// Waits until this pair's traffic takes the fast path. Pings are the traffic.
    #[track_caller]
    pub(crate) fn is_fast(&self, pair: &str, to: &str) {
        let namespace = pair.split(':').next().expect("a pair has a namespace");
        let mut before = self.stats().pair(pair).fast.tx.packets;
        wait_until(Duration::from_secs(20) + SLACK, || {
            self.reaches(namespace, to);
            let stats = self.stats();
            let now = stats.pair(pair).fast.tx.packets;
            let fast = now - std::mem::replace(&mut before, now);
            if fast >= 3 { Ok(()) } else { Err(format!("{fast} of 3 pings to {to} were fast: {stats:#?}")) }
        });
    }

    /// Runs a part of a test whose packets must be fast: [`with_a_lease`].
    #[track_caller]
    pub(crate) fn with_a_lease<T>(&self, part: impl FnMut() -> T) -> T {
        with_a_lease(|| self.stats(), part)
    }

    /// Checks that vethpath's counters equal the kernel's.
    #[track_caller]
    pub(crate) fn assert_counters_match(&self) -> Stats {
        assert_counters_match(self.host, false, || self.stats())
    }

    /// The same where a pair was on XDP before: see [`assert_counters_match`].
    #[track_caller]
    pub(crate) fn assert_counters_match_after_xdp(&self) -> Stats {
        assert_counters_match(self.host, true, || self.stats())
    }

    /// `vethpath down`. Dropping does the same; this reads better.
    pub(crate) fn down(self) {}

    /// Leaves it to the test to take the lab down.
    pub(crate) fn forget(mut self) {
        self.is_up = false;
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        if self.is_up && !thread::panicking() {
            let _ = self.host.vethpath(format!("down {}", self.name)).ok();
        }
    }
}

fn netns_exec(namespace: &str, args: impl Args) -> Vec<String> {
    let mut words = format!("ip netns exec {namespace}").words();
    words.extend(args.words());
    words
}
