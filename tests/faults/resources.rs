//! The agent's memory and descriptors: they do not grow with events, and it goes on after it got no descriptors.

use std::{fmt::Write, fs, path::Path};

use crate::{
    harness::{Host, Lab, SLACK, TIMEOUT, sized, wait_until},
    hazards::{B, fast_lab, tcx_programs},
};

const EVENTS: (usize, usize) = (20_000, 100_000);
const REARMS: (usize, usize) = (150, 1000);
/// Addresses that are added and deleted.
const ADDRESSES: usize = 1000;
/// What an allocator may hold in addition after the second half, in KiB: fragments, not leaks. A leak of 16 bytes an
/// event would exceed it in the long suite, and one of 40 bytes in the short one.
const GROWTH: u64 = 768;

#[test]
fn memory_and_descriptors_of_the_agent_do_not_grow() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", "172.17.0.102");
    exercise(&host, &lab);
    let before = Resources::at_rest(&host, &lab);
    exercise(&host, &lab);
    let after = wait_until(SLACK, || {
        // Memory may not be freed yet, and the connection of the last client may still be open.
        let now = Resources::of(&host, &lab);
        let is_flat = now.has_same_objects(&before) && now.memory <= before.memory + GROWTH;
        if is_flat { Ok(now) } else { Err(format!("{before:#?}\nlater {now:#?}")) }
    });
    println!("before {before:?}\nafter  {after:?}");
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

/// What the agent holds, and what the kernel holds for the lab. Only a descriptor, a pin or an attachment keeps a BPF
/// object alive.
#[derive(Clone, Debug)]
struct Resources {
    /// Resident set, in KiB.
    memory: u64,
    /// Kinds of open descriptors, sorted.
    descriptors: Vec<String>,
    /// Pins, and the programs at the ports.
    objects: (Vec<String>, Vec<u32>),
}

impl Resources {
    /// What two reads in a row agree on: a single one may catch the agent at work.
    fn at_rest(host: &Host, lab: &Lab<'_>) -> Self {
        let mut last = Self::of(host, lab);
        wait_until(SLACK, || {
            let now = Self::of(host, lab);
            let before = std::mem::replace(&mut last, now.clone());
            if now.has_same_objects(&before) { Ok(now) } else { Err(format!("{before:#?}\nlater {now:#?}")) }
        })
    }

    fn has_same_objects(&self, other: &Self) -> bool {
        (&self.descriptors, &self.objects) == (&other.descriptors, &other.objects)
    }

    fn of(host: &Host, lab: &Lab<'_>) -> Self {
        let agent = lab.pid();
        let proc = host.path(&format!("/proc/{agent}"));
        let status = fs::read_to_string(proc.join("status")).expect("it runs");
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("it has memory");
        let memory = resident.trim().trim_end_matches(" kB").trim().parse().expect("a number");
        let entries = fs::read_dir(proc.join("fd")).expect("it runs").flatten();
        let kind = |path: &Path| fs::read_link(path).unwrap_or_default().display().to_string();
        // `socket:[123]` and the like: another socket has another number, and the agent's sockets keep theirs.
        let mut descriptors: Vec<_> = entries.map(|entry| kind(&entry.path())).collect();
        descriptors.sort();
        let found = host.run("find /sys/fs/bpf/vethpath -type f").ok().stdout;
        let mut pins: Vec<_> = found.lines().map(str::to_owned).collect();
        pins.sort();
        let programs = lab.stats().pairs.iter().flat_map(|pair| tcx_programs(host, &pair.port)).collect();
        Self { memory, descriptors, objects: (pins, programs) }
    }
}

fn exercise(host: &Host, lab: &Lab<'_>) {
    let ports: Vec<_> = lab.stats().pairs.into_iter().map(|pair| (pair.name, pair.port)).collect();
    let port = &ports[2].1;
    let mut batch = String::new();
    for event in 0..sized(EVENTS.0, EVENTS.1) {
        let (verb, address) = (["add", "del"][event / ADDRESSES % 2], event % ADDRESSES);
        let mac = format!("02:11:22:33:{:02x}:{:02x}", address >> 8, address & 0xff);
        writeln!(batch, "fdb {verb} {mac} dev {port} master static").expect("a string takes anything");
    }
    let _ = host.run_with_input("bridge -batch -", &batch).ok();
    lab.is_fast("ns0:eth0", "172.17.0.103");

    // Each round re-arms every port once.
    for _ in 0..sized(REARMS.0, REARMS.1).div_ceil(ports.len()) {
        for (switch, kind) in [("off", "pair-not-armed"), ("on", "pair-armed")] {
            let batch: String =
                ports.iter().map(|(_, port)| format!("link set dev {port} learning {switch}\n")).collect();
            let _ = host.run_with_input("bridge -batch -", &batch).ok();
            wait_until(TIMEOUT, || {
                let events = events(host, lab);
                let last = |pair: &str| events.lines().rfind(|line| line.contains(pair));
                let is_reported =
                    |(pair, _): &(String, String)| last(pair).is_some_and(|line| line.contains(kind));
                if ports.iter().all(is_reported) {
                    Ok(())
                } else {
                    Err(format!("not told of all ports: {kind}"))
                }
            });
        }
    }
}

/// The lab's events, read from the files: thousands of requests to the agent would be another test.
fn events(host: &Host, lab: &Lab<'_>) -> String {
    let file = |name: &str| host.path(&format!("/run/vethpath/{}/{name}", lab.name));
    let old = fs::read_to_string(file("events.old.jsonl")).unwrap_or_default();
    old + &fs::read_to_string(file("events.jsonl")).unwrap_or_default()
}

#[test]
fn an_agent_without_descriptors_resumes_when_it_gets_some() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let agent = lab.pid();
    let limit = |soft: &str| drop(host.run(format!("prlimit --pid {agent} --nofile={soft}:")).ok());
    limit("0");
    let slow = || {
        let stats = lab.stats();
        let of = |reason| stats.pair("ns0:eth0").slow(reason);
        of("stale") + of("lease")
    };
    let before = slow();
    wait_until(SLACK, || {
        lab.reaches("ns0", B);
        if slow() >= before + 3 { Ok(()) } else { Err("frames are fast".to_owned()) }
    });
    assert!(host.is_alive(agent), "the agent has ended");
    limit("4096");
    lab.is_fast("ns0:eth0", B);
    assert_eq!(lab.pid(), agent, "it is the same agent");
    wait_until(SLACK, || {
        let events = host.vethpath("events three-hosts --json").ok().stdout;
        let is_reported =
            events.lines().any(|line| line.contains("\"agent-retries\"") && line.contains("os error 24"));
        if is_reported { Ok(()) } else { Err(events) }
    });
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}
