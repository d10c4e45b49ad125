//! One of the two labs: everything that the test changes or reads there.

use std::{
    io::{self, ErrorKind, Write as _},
    path::PathBuf,
    process::{self, Stdio},
};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use serde_json::Value;
use vethpath::kernel::Netns;

use super::{Datapath, agent::Agent, names::Names, operation::Command};
use crate::harness::{
    Arrival, At, Host, Link, Netlink, Offload, SLACK, VerdictProgram, Wire, XDP_PASS, wait_for,
};

/// The name of both labs.
const LAB: &str = "oracle";
/// Settings that stop the frames that a bridge sends on its own timers: IPv6 discovery, and the reports of a snooping
/// bridge (`br_multicast_join_snoopers`).
const SILENT: [&str; 3] = [
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
    "net.ipv4.igmp_link_local_mcast_reports=0",
];
/// The mark of a link whose state the kernel has not updated yet.
pub(crate) const UNSETTLED: &str = " for the moment";
/// The offloads that are switched off, so that the sender's stack does the work.
const NO_OFFLOADS: &str = "tx off tso off txvlan off tx-vlan-stag-hw-insert off";
/// The state of a port that forwards, as the harness writes it.
const FORWARDING: &str = "Forwarding";
/// `RTNLGRP_NEIGH` of `linux/rtnetlink.h`.
const NEIGHBOUR: u32 = 3;

/// A lab on a [`Host`] of its own.
pub(crate) struct World {
    ends: Vec<(Netns, Wire)>,
    here: Netns,
    /// Dumps FDBs and links at each step.
    netlink: Netlink,
    /// Receives events of the FDB.
    changes: Socket,
    agent: Option<Agent>,
    /// User programs at the inner ends.
    programs: Vec<VerdictProgram>,
    file: String,
    host: Host,
}

impl World {
    /// Brings up the lab of this file, with bridges that call netfilter or do not.
    pub(crate) fn new(
        text: &str,
        datapath: Datapath,
        accelerated: bool,
        netfilter: bool,
        names: &Names,
    ) -> Self {
        let host = Host::new();
        let calls = u8::from(netfilter);
        for silent in SILENT {
            let _ = host.run(format!("sysctl -q -w {silent}")).ok();
        }
        for table in ["iptables", "ip6tables", "arptables"] {
            // A kernel without br_netfilter has none of these.
            let _ = host.run(format!("sysctl -q -w net.bridge.bridge-nf-call-{table}={calls}"));
        }
        let setting = match datapath {
            _ if !accelerated => "bridge",
            Datapath::Tc => "tc",
            Datapath::Xdp | Datapath::XdpToPrograms => "xdp",
        };
        let file =
            host.topology(LAB, &text.replace("datapath = \"tc\"", &format!("datapath = \"{setting}\"")));
        let _ = host.vethpath(format!("up {file}")).ok();
        let here = Netns::open(&host.path("/proc/1/ns/net"), "host").expect("it is there");
        let end = |end: &super::names::End| {
            let path = host.path(&format!("/run/netns/{}", end.namespace));
            let netns = Netns::open(&path, &end.namespace).expect("it is there");
            let wire = netns.run(|| Wire::on(&end.interface).and_then(Wire::with_metadata));
            (netns, wire.expect("it can be entered").expect("a packet socket"))
        };
        let mut programs = Vec::new();
        for end in &names.ends {
            let _ = match (datapath, accelerated) {
                // These senders leave nothing to their device, as in the other world.
                (Datapath::Xdp | Datapath::XdpToPrograms, false) => {
                    host.run(format!("{} {NO_OFFLOADS}", ethtool(end))).ok()
                }
                (Datapath::XdpToPrograms, true) => {
                    let path = host.path(&format!("/run/netns/{}", end.namespace));
                    let netns = Netns::open(&path, &end.namespace).expect("it is there");
                    programs.push(VerdictProgram::attach(&netns, &end.interface, At::NativeXdp, XDP_PASS));
                    host.run(format!("{} gro off", ethtool(end))).ok()
                }
                _ => continue,
            };
        }
        let (changes, number) = here.run(changes).expect("it can be entered");
        let netlink = Netlink::route(&here);
        // The kernel processes a carrier later, and a port learns no address before that, on request neither
        // (`br_port_carrier_check`, `fdb_add_entry` with `NTF_USE`).
        wait_for(SLACK, "a port does not forward", || {
            let forwards =
                |link: &Link| link.master.is_none() || link.port_state.as_deref() == Some(FORWARDING);
            netlink.links().iter().all(forwards)
        });
        Self {
            ends: names.ends.iter().map(end).collect(),
            netlink,
            changes,
            agent: accelerated.then(|| Agent::of(&host, LAB, number)),
            here,
            programs,
            file,
            host,
        }
    }

    /// The bridges' network namespace.
    pub(crate) fn here(&self) -> &Netns {
        &self.here
    }

    /// Sends a frame, and returns the kernel's result. A host that has just lost its carrier may drop the frame in its own
    /// queue, which it reports, or send it to an end that is down (`linkwatch_do_dev` in net/core/link_watch.c): nothing
    /// arrives in either case, which is compared.
    pub(crate) fn send(&self, by: usize, frame: &[u8], offload: Offload) -> nix::Result<()> {
        match self.ends[by].1.try_send(frame, offload) {
            Err(Errno::ENOBUFS) => Ok(()),
            sent => sent,
        }
    }

    /// The frames that have arrived, by host.
    pub(crate) fn arrivals(&self) -> Vec<(usize, Arrival)> {
        let of = |(end, (_, wire)): (usize, &(Netns, Wire))| {
            std::iter::from_fn(|| wire.arrival()).map(|arrival| (end, arrival)).collect::<Vec<_>>()
        };
        self.ends.iter().enumerate().flat_map(of).collect()
    }

    /// Runs a command, and returns its stderr if it fails.
    pub(crate) fn run(&self, command: &Command) -> Result<(), String> {
        let output = self.output(command);
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Runs a batch of `ip` or `bridge` in the bridges' namespace.
    pub(crate) fn batch(&self, program: &str, lines: &str) -> Result<(), String> {
        let run = || -> io::Result<process::Output> {
            let mut command = process::Command::new(program);
            command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            child.stdin.take().expect("it is piped").write_all(lines.as_bytes())?;
            child.wait_with_output()
        };
        let output =
            self.here.run(run).expect("it can be entered").map_err(|error| format!("{program}: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn output(&self, command: &Command) -> process::Output {
        let netns = command.inside.map_or(&self.here, |end| &self.ends[end].0);
        let mut words = command.words.split_whitespace();
        let program = words.next().expect("a command");
        let run = || process::Command::new(program).args(words).output();
        netns.run(run).expect("it can be entered").unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// Whether the FDB has changed since the last call.
    pub(crate) fn has_learned(&self) -> bool {
        let mut learned = false;
        // Any other error means a change too: an overrun (ENOBUFS).
        let more =
            || self.changes.recv_from_full().err().map(|error| error.kind()) != Some(ErrorKind::WouldBlock);
        while more() {
            learned = true;
        }
        learned
    }

    /// Waits until the agent, if there is one, has processed all changes.
    #[track_caller]
    pub(crate) fn settle(&self) {
        let _ = self.has_learned();
        if let Some(agent) = &self.agent {
            agent.settle();
        }
    }

    /// The FDBs: address, port, and the attributes that do not depend on time.
    pub(crate) fn fdb(&self) -> Vec<String> {
        self.netlink.fdb().iter().map(|entry| format!("{entry:02x?}")).collect()
    }

    /// The same as `bridge` shows it.
    pub(crate) fn fdb_by_bridge(&self) -> Vec<String> {
        let entry = |entry: &Value| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            // Whether an entry that still exists is older than the ageing time depends on time.
            let state = text("state").replace("stale", "");
            let (vlan, flags) = (&entry["vlan"], &entry["flags"]);
            format!(
                "{} {} master {} {state} vlan {vlan} {flags}",
                text("mac"),
                text("ifname"),
                text("master")
            )
        };
        let mut entries: Vec<_> =
            self.json("bridge -j fdb show").as_array().expect("a list").iter().map(entry).collect();
        entries.sort();
        entries
    }

    /// The links and their state.
    pub(crate) fn links(&self) -> Vec<String> {
        let line = |link: &Link| {
            let unsettled = is_unsettled(&link.operstate, link.has_carrier);
            format!("{link:02x?}{}", if unsettled { UNSETTLED } else { "" })
        };
        self.netlink.links().iter().map(line).collect()
    }

    /// The same as `ip` shows it.
    pub(crate) fn links_by_ip(&self) -> Vec<String> {
        let link = |link: &Value| {
            let text = |key: &str| link[key].as_str().unwrap_or_default().to_owned();
            let state = &link["linkinfo"]["info_slave_data"]["state"];
            let up = |flag: &str| link["flags"].as_array().is_some_and(|f| f.iter().any(|f| f == flag));
            let unsettled = is_unsettled(&text("operstate"), up("LOWER_UP"));
            let line = format!(
                "{} {} {} mtu {} master {} {state} {} {}{}",
                text("ifname"),
                text("operstate"),
                text("address"),
                link["mtu"],
                text("master"),
                up("UP"),
                up("LOWER_UP"),
                if unsettled { UNSETTLED } else { "" }
            );
            line
        };
        self.json("ip -j -d link show").as_array().expect("a list").iter().map(link).collect()
    }

    fn json(&self, words: &str) -> Value {
        let output = self.output(&Command { inside: None, words: words.to_owned() });
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Runs `vethpath up` again.
    pub(crate) fn up(&self) -> Result<(), String> {
        let output = self.host.vethpath(format!("up {}", self.file));
        if output.succeeded() { Ok(()) } else { Err(output.to_string()) }
    }

    /// Calls `what` with the agent, if this world has one.
    pub(crate) fn with_agent(&self, what: impl FnOnce(&Agent)) {
        if let Some(agent) = &self.agent {
            what(agent);
        }
    }

    /// Runs `work` while the agent is stopped and writes no maps.
    pub(crate) fn while_agent_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.agent {
            Some(agent) => agent.while_stopped(work),
            None => work(),
        }
    }

    /// The path of a pinned map, as seen from outside the lab's host.
    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.host.path(&format!("/sys/fs/bpf/vethpath/{LAB}/{name}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.ends.clear();
        self.programs.clear();
        if !std::thread::panicking() {
            let _ = self.host.vethpath(format!("down {LAB}")).ok();
        }
    }
}

/// Whether the operational state does not match the carrier yet: the kernel sets the carrier at once, and the state
/// later (`linkwatch_event`).
fn is_unsettled(operstate: &str, has_carrier: bool) -> bool {
    match operstate.to_ascii_uppercase().as_str() {
        "UP" => !has_carrier,
        "DOWN" | "LOWERLAYERDOWN" => has_carrier,
        _ => false,
    }
}

fn ethtool(end: &super::names::End) -> String {
    format!("ip netns exec {} ethtool -K {}", end.namespace, end.interface)
}

/// A socket that receives FDB events in the calling thread's namespace, and its port ID.
fn changes() -> (Socket, u32) {
    let mut socket = Socket::new(NETLINK_ROUTE).expect("a socket");
    let address = socket.bind_auto().expect("any address");
    socket.add_membership(NEIGHBOUR).expect("a group that there is");
    socket.set_non_blocking(true).expect("it can");
    (socket, address.port_number())
}
