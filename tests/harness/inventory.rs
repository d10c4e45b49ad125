//! The state of a host, so that a test can check that nothing is left and nothing was touched.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    Host,
    netlink::{Netlink, nf_tables},
};

/// The state of a host as comparable text, by subject.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Inventory(BTreeMap<&'static str, String>);

impl Inventory {
    /// The complete state. Rules are listed by `nft`.
    pub(crate) fn of(host: &Host) -> Self {
        let mut inventory = Self::in_short(host);
        inventory.0.insert("nftables", host.run("nft list ruleset").ok().stdout);
        inventory
    }

    /// The state without starting a process: of nf_tables, only the names of tables.
    pub(crate) fn in_short(host: &Host) -> Self {
        let netns = host.netns();
        let netlink = Netlink::route(&netns);
        let links: Vec<_> = netlink.links().iter().map(|link| format!("{link:?}")).collect();
        let table = fs::read_to_string(host.path("/proc/1/mountinfo"));
        Self(BTreeMap::from([
            ("links", links.join("\n")),
            ("addresses", netlink.addresses().join("\n")),
            ("routes", netlink.routes().join("\n")),
            ("tables of nf_tables", nf_tables(&netns).join("\n")),
            ("forwarding", netns.run(forwarding).expect("it can be entered")),
            ("mounts", mounts(&table.expect("its first process lives"))),
            ("files in /run", files(&host.path("/run"))),
            ("files in /sys/fs/bpf", files(&host.path("/sys/fs/bpf"))),
            ("processes", processes(host)),
        ]))
    }

    /// The differences to an earlier one, for people. What only one of them has is left out.
    pub(crate) fn since(&self, earlier: &Self) -> Option<String> {
        let changed = |(subject, now): (&&str, &String)| {
            let then = earlier.0.get(subject)?;
            (now != then).then(|| format!("=== {subject}, then:\n{then}\n=== {subject}, now:\n{now}"))
        };
        let changes: Vec<_> = self.0.iter().filter_map(changed).collect();
        (!changes.is_empty()).then(|| changes.join("\n"))
    }
}

/// Whether the calling thread's namespace forwards.
fn forwarding() -> String {
    let switch = |path: &str| {
        let value = fs::read_to_string(format!("/proc/sys/net/{path}")).expect("every kernel has it");
        format!("{path} = {}\n", value.trim())
    };
    switch("ipv4/ip_forward") + &switch("ipv6/conf/all/forwarding")
}

/// Mount points and their filesystems, but for `/run/netns` on itself, which iproute2 leaves too.
fn mounts(table: &str) -> String {
    let line = |l: &str| {
        let (left, right) = l.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        (point != "/run/netns").then(|| format!("{point} {}\n", right.split(' ').next().unwrap_or_default()))
    };
    table.lines().filter_map(line).collect()
}

/// All paths below a folder; the folder of named namespaces itself may stay, as iproute2 leaves it.
fn files(folder: &Path) -> String {
    let mut found: Vec<String> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let name = entry.path().strip_prefix(folder).expect("it is below").display().to_string();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(entry.path());
            }
            if name != "netns" {
                found.push(name);
            }
        }
    }
    found.sort();
    found.join("\n")
}

/// Pids and names of all processes inside but the first.
fn processes(host: &Host) -> String {
    let name = |pid: String| {
        let number: u32 = pid.parse().ok()?;
        let name = fs::read_to_string(host.path(&format!("/proc/{pid}/comm"))).ok()?;
        (number != 1).then(|| format!("{number} {name}"))
    };
    let pids = fs::read_dir(host.path("/proc")).into_iter().flatten().flatten();
    pids.filter_map(|entry| name(entry.file_name().into_string().ok()?)).collect()
}
