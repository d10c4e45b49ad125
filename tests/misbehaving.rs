//! Hosts behind another program's bridge that misbehave: floods of addresses, addresses that move, bridges inside. Each
//! frame reaches the same hosts with acceleration and without.

use std::{collections::BTreeMap, thread};

use serde_json::Value;

use crate::{
    accelerate::{engine, plug, remove_engine},
    harness::{Host, SLACK, TIMEOUT, Wire, parse_mac, wait_for, wait_until},
    hazards::{BROADCAST, numbered, receives},
};
use vethpath::kernel::Netns;

/// The hosts that talk. `inner` is behind a bridge inside `c4`.
const HOSTS: [&str; 4] = ["c1", "c2", "c3", "inner"];

/// More than the fast path keeps of a port.
const FLOOD: u32 = 10_000;

/// What another program makes, and a bridge inside one of its hosts.
const INSIDE: [&str; 9] = [
    "ip netns add inner",
    "ip -n c4 link add inside type bridge",
    "ip -n c4 addr flush dev eth0",
    "ip -n c4 link set eth0 master inside",
    "ip -n c4 link add v0 type veth peer name eth0 netns inner",
    "ip -n c4 link set v0 master inside",
    "ip -n c4 link set v0 up",
    "ip -n c4 link set inside up",
    "ip -n inner link set eth0 up",
];

struct Hosts<'h> {
    host: &'h Host,
    wires: BTreeMap<&'static str, Wire>,
    macs: BTreeMap<&'static str, [u8; 6]>,
    next: u64,
    /// Who got each frame.
    seen: Vec<String>,
}

impl<'h> Hosts<'h> {
    fn new(host: &'h Host) -> Self {
        engine(host);
        plug(host, 3);
        plug(host, 4);
        INSIDE.into_iter().for_each(|command| drop(host.run(command).ok()));
        for number in [2, 3] {
            let ping = format!("ip netns exec c1 ping -n -q -c 1 -W 1 172.17.0.{}", number + 1);
            wait_for(SLACK, "the hosts are not up", || host.run(ping.as_str()).succeeded());
        }
        for (inside, port) in [("c4", "v0"), ("c4", "eth0"), ("inner", "eth0")] {
            wait_for(SLACK, "the bridge inside is not up", || {
                host.run(format!("ip -n {inside} -o link show {port}")).ok().stdout.contains("state UP")
            });
        }
        let wire = |inside: &'static str| {
            let path = host.path(&format!("/run/netns/{inside}"));
            let netns = Netns::open(&path, inside).expect("it is there");
            let wire = netns.run(|| Wire::on("eth0")).expect("it can be entered");
            (inside, wire.expect("it has an eth0"))
        };
        let mac = |inside: &'static str| {
            let shown = host.json(format!("ip -n {inside} -j link show eth0"));
            (inside, parse_mac(shown[0]["address"].as_str().expect("it has one")))
        };
        let (wires, macs) = (HOSTS.map(wire).into(), HOSTS.map(mac).into());
        Self { host, wires, macs, next: 1, seen: Vec::new() }
    }

    /// A host sends a frame from the address of one and to that of another, or to all. Notes who gets it.
    #[track_caller]
    fn send(&mut self, who: &str, from: &str, to: Option<&str>) {
        let target = to.map_or(BROADCAST, |to| self.macs[to]);
        let others: Vec<_> = self.wires.iter().filter(|(name, _)| **name != who).collect();
        let wires: Vec<&Wire> = others.iter().map(|(_, wire)| *wire).collect();
        let frame = numbered(target, self.macs[from], self.next);
        let got = receives(&self.wires[who], &frame, self.next, &wires);
        let got: Vec<_> =
            others.iter().zip(got).filter(|(_, got)| *got).map(|((name, _), _)| **name).collect();
        self.next += 2;
        self.seen.push(format!("{who} as {from} to {}: {got:?}", to.unwrap_or("all")));
    }

    #[track_caller]
    fn all_to_all(&mut self) {
        for from in HOSTS {
            for to in HOSTS.into_iter().filter(|to| *to != from) {
                self.send(from, from, Some(to));
            }
        }
    }

    fn stats(&self) -> Value {
        self.host.vethpath("stats accelerate-docker0 --json").ok().json()
    }

    fn port(&self, port: &str) -> Value {
        let pairs = self.stats()["pairs"].as_array().cloned().expect("a list");
        let name = format!("docker0/{port}");
        pairs.into_iter().find(|pair| pair["name"] == name.as_str()).expect("it is there")
    }

    /// Waits until frames of a host are fast.
    #[track_caller]
    fn is_fast(&mut self, from: &str, port: &str, to: &str) {
        let fast = |this: &Self| this.port(port)["fast"]["tx"]["packets"].as_u64().expect("a number");
        wait_until(SLACK, || {
            let before = fast(self);
            self.send(from, from, Some(to));
            let _ = self.seen.pop();
            if fast(self) > before { Ok(()) } else { Err(format!("{:#}", self.port(port))) }
        });
    }

    /// A host sends frames to itself, each from another address: nobody gets them, and its bridge learns the addresses.
    fn flood(&self, who: &str) {
        for number in 0..FLOOD {
            let [_, high, middle, low] = number.to_be_bytes();
            self.wires[who].send(&numbered(self.macs[who], [2, 0xf1, 0, high, middle, low], 0));
        }
    }
}

/// Who gets which frame.
fn outcome(is_accelerated: bool) -> Vec<String> {
    let mut host = Host::new();
    let mut hosts = Hosts::new(&host);
    if is_accelerated {
        let _ = host.vethpath("accelerate docker0").ok().stdout_has("4 of 4 ports armed");
    }
    HOSTS.into_iter().for_each(|from| hosts.send(from, from, None));
    hosts.all_to_all();
    if is_accelerated {
        hosts.is_fast("c1", "veth1", "c2");
        hosts.is_fast("c1", "veth1", "inner");
        hosts.is_fast("inner", "veth4", "c1");
    }
    // An address moves away, by a broadcast or by a frame to one host, and comes back.
    for thief in ["c3", "inner"] {
        for to in [None, Some("c2")] {
            hosts.send(thief, "c1", to);
            hosts.send("c2", "c2", Some("c1"));
            hosts.send("c1", "c1", Some("c2"));
            hosts.send("c2", "c2", Some("c1"));
        }
    }
    // One that two hosts use at the same time.
    for _ in 0..10 {
        hosts.send("c3", "c1", Some("c2"));
        hosts.send("c1", "c1", Some("c2"));
        hosts.send("c2", "c2", Some("c1"));
    }
    hosts.all_to_all();
    hosts.flood("c3");
    if is_accelerated {
        wait_until(TIMEOUT, || match hosts.port("veth3") {
            port if port["state"].as_str().is_some_and(|state| state.contains("were learned behind")) => {
                Ok(())
            }
            port => Err(format!("{port:#}")),
        });
        hosts.is_fast("c1", "veth1", "c2");
    }
    hosts.all_to_all();
    // Behind the port that floods, and away from there for good.
    hosts.send("c3", "c1", None);
    hosts.send("c2", "c2", Some("c1"));
    hosts.send("inner", "c1", None);
    hosts.send("c2", "c2", Some("c1"));
    hosts.send("inner", "inner", Some("c2"));
    hosts.send("c2", "c2", Some("inner"));
    if is_accelerated {
        hosts.is_fast("inner", "veth4", "c2");
        let _ = host.vethpath("accelerate docker0 --stop").ok();
    }
    hosts.all_to_all();
    let seen = std::mem::take(&mut hosts.seen);
    drop(hosts);
    remove_engine(&host);
    for command in ["ip netns del inner", "ip netns del c3", "ip netns del c4"] {
        let _ = host.run(command).ok();
    }
    host.set_baseline_when_stable();
    host.finish();
    seen
}

#[test]
fn hosts_that_misbehave_reach_and_hear_the_same_as_on_a_plain_bridge() {
    let (plain, accelerated) = thread::scope(|scope| {
        let plain = scope.spawn(|| outcome(false));
        let accelerated = outcome(true);
        (plain.join().expect("the plain bridge has an outcome"), accelerated)
    });
    let differences: Vec<_> = plain.iter().zip(&accelerated).filter(|(plain, fast)| plain != fast).collect();
    assert!(differences.is_empty() && plain.len() == accelerated.len(), "{differences:#?}");
}
