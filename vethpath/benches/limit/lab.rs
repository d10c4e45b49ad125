//! The lab, and the paths that its frames can take.

use std::{collections::BTreeMap, fs, process::Command, thread, time::Duration};

use aya::programs::links::FdLink;
use vethpath::{
    datapath::{self, Counters, Hook, Maps, Pins},
    kernel::Netns,
    state::{AgentLock, Directory},
    topology::{IfName, NsName},
};
use vethpath_common::{Source, SourceKey, Station, StationKey, flags};

use super::{
    copies::{self, COPIES, Copy, DOMAIN},
    path::Path,
};

/// Addresses on the bridge and on the cable, of the namespaces `a` and `b`.
pub(crate) const BRIDGED: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
pub(crate) const CABLED: [&str; 2] = ["10.77.1.1", "10.77.1.2"];

const TOPOLOGY: &str = r#"
name = "limit"
[bridge.br0]
namespace = "fabric"
[namespace.fabric]
[namespace.a.interface]
eth0 = { link = "br0", addresses = ["10.77.0.1/24"] }
eth1 = { link = "b:eth1", addresses = ["10.77.1.1/24"] }
[namespace.b.interface]
eth0 = { link = "br0", addresses = ["10.77.0.2/24"] }
eth1 = { addresses = ["10.77.1.2/24"], link = "a:eth1" }
"#;

/// Stations besides the two that communicate.
const MANY: u32 = 10_000;

pub(crate) fn name(namespace: &str) -> NsName {
    namespace.parse().unwrap()
}

/// The lab, with this process in place of its agent.
pub(crate) struct Lab {
    fabric: Netns,
    maps: Maps,
    counters: Counters,
    /// The entries that the agent had written.
    sources: BTreeMap<SourceKey, Source>,
    stations: BTreeMap<StationKey, Station>,
    programs: BTreeMap<&'static str, Vec<Copy>>,
    links: Vec<FdLink>,
}

impl Lab {
    /// Brings the lab up, ends its agent, and holds the lease from then on. No port has a program. `netfilter` sets
    /// whether bridges call netfilter.
    pub(crate) fn up(netfilter: bool) -> Self {
        let file = "/run/limit.toml";
        fs::write(file, TOPOLOGY).unwrap();
        let up = Command::new(env!("CARGO_BIN_EXE_vethpath")).args(["up", file]).output().unwrap();
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let fabric = Netns::named(&name("fabric")).unwrap();
        fabric.run(|| ["iptables", "ip6tables", "arptables"].map(|family| call(family, netfilter))).unwrap();
        let directory = Directory::of(&"limit".parse().unwrap());
        let pins = Pins::of(directory.lab());
        let ports = fabric.run(ports).unwrap();
        let mut maps = Maps::open(&pins).unwrap();
        let is_settled = |maps: &Maps| {
            maps.sources.iter().count() == 2
                && maps.sources.iter().all(|(_, source)| (source.flags & flags::VALIDATE != 0) == netfilter)
        };
        // The agent polls the bridge-nf-call sysctls once a second.
        let settled = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(100));
            is_settled(&maps)
        });
        assert!(settled, "both hosts are stations, and are checked if netfilter is called");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(AgentLock::terminate_holder(&directory)).unwrap();
        let config = maps.config();
        maps.set_config(vethpath_common::Config { lease_until_ns: u64::MAX, ..config });
        let sources: BTreeMap<_, _> = maps.sources.iter().collect();
        let stations: BTreeMap<_, _> = maps.stations.iter().collect();
        let both: Vec<_> = ports.iter().collect();
        assert_eq!((ports.len(), stations.len()), (2, 2), "both hosts are stations");
        datapath::detach(&fabric, &pins, Hook::Tcx, &both).unwrap();
        // The kernel releases an unpinned link asynchronously.
        while !datapath::attached(&fabric, &pins, 0, &both).unwrap().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        let programs = fabric.run(|| copies::load(&pins, &ports)).unwrap();
        let counters = Counters::open(&pins).unwrap();
        Self { fabric, maps, counters, sources, stations, programs, links: Vec::new() }
    }

    /// Frames that have taken the fast path.
    pub(crate) fn fast_frames(&self) -> u64 {
        self.counters.matrix().unwrap().cells().map(|(_, count)| count.frames).sum()
    }

    /// Selects a path, with this copy of its program if it has one. Returns the addresses of the copy.
    pub(crate) fn take(&mut self, path: Path, copy: usize) -> String {
        // No program is attached, so none reads the maps meanwhile.
        match path {
            Path::Slow => self.remove_stations(),
            Path::SlowOfUnknown => self.remove_sources(),
            Path::Unchecked => self.rewrite(!flags::VALIDATE),
            Path::FastOfMany => self.add_others(),
            Path::FastAmongOthers => {
                self.remove_sources();
                self.remove_stations();
                self.add_others();
                let Self { maps, sources, stations, .. } = self;
                sources.iter().for_each(|(key, one)| maps.sources.insert_overflow(key, one).unwrap());
                stations.iter().for_each(|(key, one)| maps.stations.insert_overflow(key, one).unwrap());
            }
            _ => {}
        }
        let Some(copies) = path.program().and_then(|program| self.programs.get_mut(program)) else {
            return String::new();
        };
        let copy = &mut copies[copy % COPIES];
        self.links = self.fabric.run(|| copy.attach()).unwrap();
        copy.addresses()
    }

    /// Total run time and run count of that copy of the program.
    pub(crate) fn runs(&mut self, path: Path, copy: usize) -> (Duration, u64) {
        self.programs.get_mut(path.program().unwrap()).unwrap()[copy % COPIES].runs()
    }

    /// Undoes [`Lab::take`].
    pub(crate) fn leave(&mut self, path: Path) {
        // This waits for a grace period.
        self.links.clear();
        match path {
            Path::Slow | Path::SlowOfUnknown | Path::Unchecked => self.rewrite(u32::MAX),
            Path::FastOfMany => self.remove_others(),
            Path::FastAmongOthers => {
                self.remove_others();
                self.rewrite(u32::MAX);
            }
            _ => {}
        }
    }
}

/// The map entries of the two hosts, and of the others.
impl Lab {
    fn remove_sources(&mut self) {
        self.sources.keys().for_each(|key| self.maps.sources.remove(key).unwrap());
    }

    fn remove_stations(&mut self) {
        self.stations.keys().for_each(|key| self.maps.stations.remove(key).unwrap());
    }

    /// Rewrites the entries of the two hosts. Of their flags, those in `kept` remain.
    fn rewrite(&mut self, kept: u32) {
        self.remove_sources();
        self.remove_stations();
        for (key, &source) in &self.sources {
            let source = Source { flags: source.flags & kept, ..source };
            self.maps.sources.insert(key, &source).unwrap();
        }
        for (key, &station) in &self.stations {
            let station = Station { flags: station.flags & kept, ..station };
            self.maps.stations.insert(key, &station).unwrap();
        }
    }

    /// Adds [`MANY`] sources and stations that no frame refers to. They fill the free slots; the rest go to the hash
    /// maps.
    fn add_others(&mut self) {
        let source = *self.sources.values().next().unwrap();
        let station = *self.stations.values().next().unwrap();
        for (from, to) in self.others() {
            self.maps.sources.insert(&from, &source).unwrap();
            self.maps.stations.insert(&to, &station).unwrap();
        }
    }

    fn remove_others(&mut self) {
        for (from, to) in self.others() {
            self.maps.sources.remove(&from).unwrap();
            self.maps.stations.remove(&to).unwrap();
        }
    }

    /// Their keys, all behind one port.
    fn others(&self) -> impl Iterator<Item = (SourceKey, StationKey)> + use<> {
        let (source, station) = (self.sources.values().next(), self.stations.values().next());
        let (bridge, port) = (source.unwrap().bridge, station.unwrap().ifindex);
        (0..MANY).map(move |number| {
            let [_, a, b, c] = number.to_be_bytes();
            let mac = [2, 0x77, 0, a, b, c].into();
            (SourceKey::new(port, mac, DOMAIN), StationKey::new(bridge, mac))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = Command::new(env!("CARGO_BIN_EXE_vethpath")).args(["down", "limit"]).output();
        assert!(down.is_ok_and(|down| down.status.success()), "the lab is not down");
    }
}

/// Sets whether bridges call netfilter for a protocol family, as on a host with docker.
fn call(family: &str, netfilter: bool) {
    let written =
        fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), if netfilter { "1" } else { "0" });
    // Without the file netfilter is never called.
    assert!(written.is_ok() || !netfilter, "this kernel's bridges cannot call netfilter");
}

/// The ports of the bridge in the calling thread's namespace.
fn ports() -> Vec<IfName> {
    let output = Command::new("ip").args(["-br", "link", "show", "master", "br0"]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.split(['@', ' ']).next().unwrap().parse().unwrap()).collect()
}
