//! The lab, and the ways that its frames can be made to take.

use std::{collections::BTreeMap, env, fs, process::Command, thread, time::Duration};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use vethpath::{
    datapath::{self, Counters, Hook, Maps, Pins},
    kernel::Netns,
    state::{AgentLock, Directory},
    topology::{IfName, NsName},
};
use vethpath_common::{Station, StationKey};

static CONSTANT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vethpath-constant"));

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

/// Set where the benchmark has a machine of its own.
const MOVED: &str = "VETHPATH_LIMIT_MOVED";

/// Stations beside the two that talk.
const MANY: u32 = 10_000;

/// A way of frames from `a` to `b` and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Cable,
    Bridge,
    Slow,
    Constant,
    Fast,
    FastOfMany,
}

impl Way {
    pub(crate) const ALL: [Self; 6] =
        [Self::Cable, Self::Bridge, Self::Slow, Self::Constant, Self::Fast, Self::FastOfMany];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Bridge => "plain bridge, no program attached",
            Self::Slow => "bridge, after a program that knows the sender and not the receiver",
            Self::Constant => "redirect to a constant",
            Self::Fast => "fast path",
            Self::FastOfMany => "fast path with 10,000 stations",
        }
    }

    pub(crate) fn is_fast(self) -> bool {
        matches!(self, Self::Fast | Self::FastOfMany)
    }
}

/// Runs this benchmark once more on a machine of its own (network, mounts, processes), which ends with
/// it. Returns false where that has been done.
pub(crate) fn must_move() -> bool {
    if env::var_os(MOVED).is_some() {
        return false;
    }
    let prepare =
        "mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys && ip link set lo up && exec \"$@\"";
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            prepare,
            "sh",
        ])
        .arg(env::current_exe().unwrap())
        .args(env::args_os().skip(1))
        .env(MOVED, "1")
        .status();
    assert!(status.unwrap().success(), "the benchmark failed");
    true
}

pub(crate) fn name(namespace: &str) -> NsName {
    namespace.parse().unwrap()
}

/// The lab, with this process in place of its agent.
pub(crate) struct Lab {
    fabric: Netns,
    pins: Pins,
    ports: Vec<IfName>,
    maps: Maps,
    counters: Counters,
    /// What the agent had written.
    stations: BTreeMap<StationKey, Station>,
    constant: BTreeMap<IfName, Ebpf>,
    links: Vec<FdLink>,
    is_attached: bool,
}

impl Lab {
    /// Brings it up, ends its agent, and holds the lease from then on.
    pub(crate) fn up() -> Self {
        let file = "/run/limit.toml";
        fs::write(file, TOPOLOGY).unwrap();
        let up = Command::new(env!("CARGO_BIN_EXE_vethpath")).args(["up", file]).output().unwrap();
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let fabric = Netns::named(&name("fabric")).unwrap();
        // As on a host without docker. Other kernels do not have it.
        fabric.run(|| ["iptables", "ip6tables", "arptables"].map(plain)).unwrap();
        let directory = Directory::of(&"limit".parse().unwrap());
        let pins = Pins::of(directory.lab());
        let ports = fabric.run(ports).unwrap();
        AgentLock::end_holder(&directory).unwrap();
        let mut maps = Maps::open(&pins).unwrap();
        let config = maps.config().unwrap();
        maps.set_config(vethpath_common::Config { lease_until_ns: u64::MAX, ..config }).unwrap();
        let stations: BTreeMap<_, _> = maps.stations.iter().collect();
        assert_eq!((ports.len(), stations.len()), (2, 2), "both hosts are stations");
        let constant = constants(&fabric, &ports);
        let counters = Counters::open(&pins).unwrap();
        Self { fabric, pins, ports, maps, counters, stations, constant, links: Vec::new(), is_attached: true }
    }

    /// Frames that took the fast path so far.
    pub(crate) fn fast_frames(&self) -> u64 {
        self.counters.matrix().unwrap().cells().map(|(_, count)| count.frames).sum()
    }

    /// Has frames take this way.
    pub(crate) fn take(&mut self, way: Way) {
        self.attach(way != Way::Bridge);
        match way {
            Way::Slow => self.stations.keys().for_each(|key| self.maps.stations.remove(key).unwrap()),
            Way::Constant => self.redirect(),
            Way::FastOfMany => {
                let station = *self.stations.values().next().unwrap();
                others().for_each(|key| self.maps.stations.insert(&key, &station).unwrap());
            }
            Way::Cable | Way::Bridge | Way::Fast => {}
        }
    }

    /// Undoes [`Lab::take`], as far as other ways would notice.
    pub(crate) fn leave(&mut self, way: Way) {
        match way {
            Way::Slow => {
                self.stations
                    .iter()
                    .for_each(|(key, station)| self.maps.stations.insert(key, station).unwrap());
            }
            Way::Constant => self.links.clear(),
            Way::FastOfMany => others().for_each(|key| self.maps.stations.remove(&key).unwrap()),
            Way::Cable | Way::Bridge | Way::Fast => {}
        }
    }

    fn attach(&mut self, wanted: bool) {
        let ports: Vec<_> = self.ports.iter().collect();
        match (self.is_attached, wanted) {
            (true, false) => {
                datapath::detach(&self.fabric, &self.pins, Hook::Tcx, &ports).unwrap();
                // The kernel lets go of an unpinned link in its own time.
                while !datapath::attached(&self.fabric, &self.pins, 0, &ports).unwrap().ours.is_empty() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            (false, true) => {
                datapath::attach(&self.fabric, &self.pins, 0, Hook::Tcx, &ports).unwrap();
            }
            _ => {}
        }
        self.is_attached = wanted;
    }

    /// Puts the constant programs before the others.
    fn redirect(&mut self) {
        let constant = &mut self.constant;
        self.links = self
            .fabric
            .run(|| constant.iter_mut().map(|(port, object)| first(object, port)).collect())
            .unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = Command::new(env!("CARGO_BIN_EXE_vethpath")).args(["down", "limit"]).status();
        assert!(down.is_ok_and(|status| status.success()), "the lab is not down");
    }
}

fn plain(family: &str) {
    let _ = fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), "0");
}

/// The ports of the bridge of the namespace that the thread is in.
fn ports() -> Vec<IfName> {
    let output = Command::new("ip").args(["-br", "link", "show", "master", "br0"]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.split(['@', ' ']).next().unwrap().parse().unwrap()).collect()
}

/// For each of the two ports a program that redirects to the other one's inner end.
fn constants(fabric: &Netns, ports: &[IfName]) -> BTreeMap<IfName, Ebpf> {
    let load = |(port, other): (&IfName, &IfName)| {
        let target = nix::net::if_::if_nametoindex(other.as_str()).unwrap();
        let mut object = EbpfLoader::new().override_global("TARGET", &target, true).load(CONSTANT).unwrap();
        datapath::load_program(program(&mut object)).unwrap();
        (port.clone(), object)
    };
    fabric.run(|| ports.iter().zip(ports.iter().rev()).map(load).collect()).unwrap()
}

fn program(object: &mut Ebpf) -> &mut SchedClassifier {
    object.program_mut("redirect_constant").unwrap().try_into().unwrap()
}

/// Attaches a program before all others; it is off when the link is dropped.
fn first(object: &mut Ebpf, port: &IfName) -> FdLink {
    let program = program(object);
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let link = program.attach_with_options(port.as_str(), TcAttachType::Ingress, options).unwrap();
    let link: SchedClassifierLink = program.take_link(link).unwrap();
    link.try_into().unwrap()
}

/// Stations of which no frame ever tells.
fn others() -> impl Iterator<Item = StationKey> {
    (0..MANY).map(|number| {
        let [_, a, b, c] = number.to_be_bytes();
        StationKey::new(0, [2, 0x77, 0, a, b, c].into())
    })
}
