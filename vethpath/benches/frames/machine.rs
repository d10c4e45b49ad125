//! Labs in private namespaces.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use serde_json::Value;
use vethpath::kernel::Netns;

/// The datapaths to compare; the first is the reference.
pub(crate) const DATAPATHS: [&str; 3] = ["bridge", "tc", "xdp"];

const PATIENCE: Duration = Duration::from_secs(60);

/// The private namespaces. This process and its agents are pinned to one CPU.
pub(crate) struct Machine;

/// A lab of two hosts, one or more bridges apart.
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) datapath: &'static str,
    pub(crate) a: Netns,
    pub(crate) b: Netns,
    pub(crate) macs: [[u8; 6]; 2],
    /// The addresses of both hosts.
    pub(crate) addresses: [String; 2],
    /// The ports of both hosts.
    pub(crate) ports: [String; 2],
    /// The namespace of the bridges.
    pub(crate) here: Netns,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let mut cpu = CpuSet::new();
        cpu.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
        Self
    }

    /// Sets whether bridges call netfilter for IP packets, which is the default with br_netfilter.
    pub(crate) fn netfilter(&self, calls: bool) {
        for table in ["iptables", "ip6tables", "arptables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
            let _ = fs::write(path, u8::from(calls).to_string());
        }
    }

    /// Brings a lab up.
    pub(crate) fn up(&self, datapath: &'static str, bridges: usize) -> Lab {
        let name = format!("{datapath}{bridges}");
        let number = DATAPATHS.iter().position(|other| *other == datapath).unwrap();
        let mut text = String::new();
        for bridge in 0..bridges {
            let next = bridge + 1;
            let trunk =
                if next < bridges { format!("trunks = [\"{datapath}-{next}\"]\n") } else { String::new() };
            text += &format!("[bridge.{datapath}-{bridge}]\ndatapath = \"{datapath}\"\n{trunk}");
        }
        let addresses = [1, 2].map(|host| format!("10.{number}.{bridges}.{host}"));
        for (end, bridge, address) in [("a", 0, &addresses[0]), ("b", bridges - 1, &addresses[1])] {
            // BBR, the default of some hosts, would pace TCP. Any namespace may use reno.
            text += &format!(
                "[namespace.{datapath}-{end}]\nsysctls = {{ \"net.ipv4.tcp_congestion_control\" = \"reno\" }}\n\
                 [namespace.{datapath}-{end}.interface.eth0]\nlink = \"{datapath}-{bridge}\"\n\
                 addresses = [\"{address}/24\"]\n"
            );
        }
        let file = format!("/run/{name}.toml");
        fs::write(&file, text).unwrap();
        let _ = vethpath(&["up", &file]);
        Lab {
            a: netns(&format!("{datapath}-a")),
            b: netns(&format!("{datapath}-b")),
            macs: ["a", "b"].map(|end| mac(&format!("{datapath}-{end}"))),
            ports: [0, 1].map(|pair| stats(&name)["pairs"][pair]["port"].as_str().unwrap().to_owned()),
            here: Netns::current().unwrap(),
            name,
            datapath,
            addresses,
        }
    }

    pub(crate) fn down(&self, lab: &Lab) {
        let _ = vethpath(&["down", &lab.name]);
    }
}

/// Waits until all expected pairs are armed and the agents have detected all changes.
pub(crate) fn settle(labs: &[Lab]) {
    // The agents poll for programs once a second.
    thread::sleep(Duration::from_millis(1500));
    let started = Instant::now();
    for lab in labs.iter().filter(|lab| lab.datapath != "bridge") {
        let armed =
            || stats(&lab.name)["pairs"].as_array().unwrap().iter().all(|pair| pair["state"] == "armed");
        while !armed() {
            assert!(started.elapsed() < PATIENCE, "{:#}", stats(&lab.name));
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Lab {
    /// Frames from the first host that took the fast path.
    pub(crate) fn fast(&self) -> u64 {
        stats(&self.name)["pairs"][0]["fast"]["tx"]["frames"].as_u64().unwrap()
    }

    /// The shortest UDP frame from the first host to the second: 64 bytes on the wire, including the FCS.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = [&self.macs[1][..], &self.macs[0][..], &[0x08, 0]].concat();
        let ip = [0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0];
        let hosts =
            self.addresses.each_ref().map(|text| text.parse::<std::net::Ipv4Addr>().unwrap().octets());
        frame.extend(ip.into_iter().chain(hosts.concat()));
        let sum: u32 = frame[14..].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend([0x30, 0x39, 0, 9, 0, 26, 0, 0]);
        frame.resize(60, 0);
        frame
    }
}

fn vethpath(arguments: &[&str]) -> Vec<u8> {
    let done = Command::new(env!("CARGO_BIN_EXE_vethpath")).args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

fn stats(lab: &str) -> Value {
    serde_json::from_slice(&vethpath(&["stats", lab, "--json"])).unwrap()
}

fn netns(name: &str) -> Netns {
    Netns::open(&Path::new("/run/netns").join(name), name).unwrap()
}

fn mac(namespace: &str) -> [u8; 6] {
    let done =
        Command::new("ip").args(["-n", namespace, "-j", "link", "show", "dev", "eth0"]).output().unwrap();
    let link: Value = serde_json::from_slice(&done.stdout).unwrap();
    let bytes: Vec<u8> =
        link[0]["address"].as_str().unwrap().split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
