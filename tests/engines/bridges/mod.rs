//! Bridges of real container engines, as they are and accelerated. The same containers do the same each time, and the
//! network must do the same.

mod docker;
mod killed;
mod many;
mod podman;

use std::{collections::BTreeMap, sync::Mutex};

use serde_json::Value;

use super::packages;
use crate::harness::{Host, Output, SLACK, TIMEOUT, in_parallel, wait_for, wait_until};

/// An engine's containers.
struct Containers<'h> {
    host: &'h Host,
    /// What begins a command of the engine.
    client: String,
    /// Options of each container.
    options: &'static str,
    /// The process of each, by its name.
    pids: Mutex<BTreeMap<&'static str, String>>,
}

impl<'h> Containers<'h> {
    fn new(host: &'h Host, client: String, options: &'static str) -> Self {
        Self { host, client, options, pids: Mutex::default() }
    }

    #[track_caller]
    fn engine(&self, arguments: &str) -> String {
        self.host.run(format!("{} {arguments}", self.client)).ok().stdout.trim().to_owned()
    }

    /// Starts a container that sleeps, or serves a page at port 80.
    #[track_caller]
    fn start(&self, name: &'static str, options: &str, serves: bool) {
        let command = if serves { "/bin/busybox httpd -f -p 80 -h /www" } else { "sleep 600" };
        let own = self.options;
        let _ = self.engine(&format!("run --detach --name {name} {own} {options} image {command}"));
        let _ = self.find(name);
    }

    /// Asks the engine for the process of a container.
    #[track_caller]
    fn find(&self, name: &'static str) -> String {
        let pid = self.engine(&format!("inspect {name} --format {{{{.State.Pid}}}}"));
        let _ = self.pids.lock().expect("no test goes on after a panic").insert(name, pid.clone());
        pid
    }

    fn pid(&self, name: &str) -> String {
        self.pids.lock().expect("no test goes on after a panic")[name].clone()
    }

    /// Runs a command in the network of a container, or on the machine.
    fn inside(&self, name: &str, command: &str) -> Output {
        match name {
            "machine" => self.host.run(command),
            "internet" => self.host.run(format!("ip netns exec internet {command}")),
            name => self.host.run(format!("nsenter --net=/proc/{}/ns/net {command}", self.pid(name))),
        }
    }

    /// The IPv4 address of a container on its first network.
    #[track_caller]
    fn address(&self, name: &str) -> String {
        self.interface(name, "0.0.0.0/0").1
    }

    /// The interface of a container that has an address in a subnet, and that address. Docker numbers interfaces in another
    /// order each time.
    #[track_caller]
    fn interface(&self, name: &str, subnet: &str) -> (String, String) {
        let shown = self.inside(name, &format!("ip -4 -br addr show to {subnet} scope global")).ok().stdout;
        let mut words = shown.split_whitespace();
        let (device, address) = (words.next(), words.nth(1));
        let found = device.zip(address).and_then(|(device, address)| {
            Some((device.split('@').next()?.to_owned(), address.split('/').next()?.to_owned()))
        });
        found.unwrap_or_else(|| panic!("{name} has no address in {subnet}: {shown}"))
    }

    fn pings(&self, from: &str, to: &str) -> bool {
        self.inside(from, &format!("ping -n -q -c 1 -W 1 {to}")).succeeded()
    }

    fn gets(&self, from: &str, address: &str) -> bool {
        let busybox = format!("{}/bin/busybox", packages().display());
        let get = format!("{busybox} timeout 1 {busybox} wget -q -O - http://{address}/");
        self.inside(from, &get).stdout.contains("Linux")
    }

    #[track_caller]
    fn is_reached(&self, from: &str, to: &str) {
        wait_for(SLACK, &format!("{from} cannot ping {to}"), || self.pings(from, to));
    }

    #[track_caller]
    fn is_served(&self, from: &str, address: &str) {
        wait_for(SLACK, &format!("{from} gets nothing from {address}"), || self.gets(from, address));
    }

    /// Expects that none of these pings, and no request for a page, gets a reply. All are sent at the same time.
    #[track_caller]
    fn are_refused(&self, pings: &[(&str, &str)], pages: &[(&str, &str)]) {
        let all = pings.iter().map(|ping| (ping, false)).chain(pages.iter().map(|page| (page, true)));
        let answered = in_parallel(all, |((from, to), is_page)| match is_page {
            true => self.gets(from, to).then(|| format!("{from} gets something from {to}")),
            false => self.pings(from, to).then(|| format!("{from} pings {to}")),
        });
        let answered: Vec<_> = answered.into_iter().flatten().collect();
        assert!(answered.is_empty(), "{answered:?}");
    }

    /// The packets that the interfaces of containers have sent, by the kernel's counters.
    #[track_caller]
    fn sent(&self, name: &str, interface: &str) -> u64 {
        let shown = self.inside(name, &format!("ip -s -j link show {interface}")).ok().json();
        shown[0]["stats64"]["tx"]["packets"].as_u64().expect("a number")
    }

    /// Pauses a container that serves a page: the kernel answers for it, and its processes do not.
    #[track_caller]
    fn is_silent_while_paused(&self, name: &str, address: &str) {
        let _ = self.engine(&format!("pause {name}"));
        self.is_reached("client", address);
        self.are_refused(&[], &[("client", address)]);
        let _ = self.engine(&format!("unpause {name}"));
        self.is_served("client", address);
    }
}

/// A bridge that is accelerated.
struct Bridge<'h> {
    host: &'h Host,
    name: &'static str,
}

impl Bridge<'_> {
    #[track_caller]
    fn accelerate(&self) -> Output {
        self.host.vethpath(format!("accelerate {}", self.name)).ok()
    }

    fn stats(&self) -> Value {
        self.host.vethpath(format!("stats accelerate-{} --json", self.name)).ok().json()
    }

    /// Its ports.
    fn ports(&self) -> Vec<Value> {
        self.stats()["pairs"].as_array().cloned().expect("a list")
    }

    /// Waits until all of so many ports have a state.
    #[track_caller]
    fn has_ports(&self, count: usize, state: &str) {
        wait_until(TIMEOUT, || match self.ports() {
            ports if ports.len() == count && ports.iter().all(|port| is_in(port, state)) => Ok(()),
            ports => Err(format!("{}: not {count} ports with {state:?}: {ports:#?}", self.name)),
        });
    }

    /// What is behind its ports, sorted.
    fn behind(&self) -> Vec<String> {
        let behind = |port: Value| port["behind"].as_str().unwrap_or_default().to_owned();
        let mut all: Vec<_> = self.ports().into_iter().map(behind).collect();
        all.sort();
        all
    }

    /// Measures between two containers, which are called by their names.
    #[track_caller]
    fn is_measured(&self, from: &str, to: &str) {
        let bench = format!("bench --bridge {} --cores same --seconds 2 --json", self.name);
        let report = self.host.vethpath(format!("{bench} --from {from} --to {to}")).ok().json();
        assert_eq!((&report["from"], &report["to"]), (&from.into(), &to.into()), "{report:#}");
        for mode in ["cable", "bridge", "fast"] {
            assert!(report["udp_rr"][mode]["n"].as_u64().is_some_and(|n| n > 0), "{mode}: {report:#}");
        }
        let refused = self.host.vethpath(format!("{bench} --from {from} --to shares")).fails(1);
        let _ = refused.stderr_has("`shares`").stderr_has("it is in that of container").stderr_has("hint: ");
        let unknown = self.host.vethpath(format!("{bench} --from {from} --to nothing")).fails(1);
        let _ = unknown.stderr_has("no container of that name");
    }

    /// What it has sent in all, and what of that was fast.
    fn sent(&self) -> (u64, u64) {
        let sum = |of: fn(&Value) -> &Value| {
            self.ports().iter().map(|port| of(port)["packets"].as_u64().expect("a number")).sum::<u64>()
        };
        (sum(|port| &port["tx"]), sum(|port| &port["fast"]["tx"]))
    }

    /// Waits until pings between two containers are fast, and counted as the kernel counts them.
    #[track_caller]
    fn is_fast(&self, containers: &Containers<'_>, from: &str, to: &str, interfaces: &[(&str, &str)]) {
        let kernel = || interfaces.iter().map(|(name, interface)| containers.sent(name, interface)).sum();
        wait_until(SLACK, || {
            let (sent, fast): (u64, u64) = self.sent();
            let before: u64 = kernel();
            if self.sent().0 != sent {
                return Err("other frames pass".to_owned());
            }
            let pings = containers.inside(from, &format!("ping -n -q -c 10 -i 0.01 -W 5 {to}")).ok();
            let after = wait_until(SLACK, || match (self.sent(), kernel()) {
                (now, all) if now.0 - sent == all - before => Ok(now),
                other => Err(format!("counted {other:?}, from {sent} and {before}: {pings}")),
            });
            match after.1 - fast {
                20.. => Ok(()),
                some => Err(format!("{some} of 20 packets were fast: {:#}", self.stats())),
            }
        });
    }

    #[track_caller]
    fn stop(&self) {
        let _ = self.host.vethpath(format!("accelerate {} --stop", self.name)).ok();
    }
}

fn is_in(port: &Value, state: &str) -> bool {
    port["state"].as_str().is_some_and(|now| now.contains(state))
}

fn set_bridge_netfilter(host: &Host, on: bool) {
    for family in ["iptables", "ip6tables", "arptables"] {
        let _ = host.run(format!("sysctl -q -w net.bridge.bridge-nf-call-{family}={}", u8::from(on))).ok();
    }
}

/// The published port, at the machine's own address.
const PUBLISHED: &str = "192.0.2.1:8080";
const OUTSIDE: &str = "192.0.2.2";
