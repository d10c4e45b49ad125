//! What there is on a host, so that a test can show that nothing is left and nothing was touched.

use std::{collections::BTreeMap, fs, path::Path};

use super::Host;

/// What there is on a host: subject -> text, comparable.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Inventory(BTreeMap<&'static str, String>);

impl Inventory {
    /// Takes stock.
    pub(crate) fn of(host: &Host) -> Self {
        let say = |command: &str| host.run(command).ok().stdout;
        Self(BTreeMap::from([
            ("links", say("ip -o link")),
            ("addresses", say("ip -o -4 addr")),
            ("routes", say("ip route")),
            ("nftables", say("nft list ruleset")),
            ("forwarding", say("sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding")),
            ("mounts", mounts(&say("cat /proc/self/mountinfo"))),
            ("files in /run", files(&host.path("/run"))),
            ("files in /sys/fs/bpf", files(&host.path("/sys/fs/bpf"))),
            ("processes", processes(host)),
        ]))
    }

    /// What differs from an earlier one, for people.
    pub(crate) fn since(&self, earlier: &Self) -> Option<String> {
        let changed = |(subject, now): (&&str, &String)| {
            let then = &earlier.0[subject];
            (now != then).then(|| format!("=== {subject}, then:\n{then}\n=== {subject}, now:\n{now}"))
        };
        let changes: Vec<_> = self.0.iter().filter_map(changed).collect();
        (!changes.is_empty()).then(|| changes.join("\n"))
    }
}

/// Mount points and what is on them, but for `/run/netns` on itself, which iproute2 leaves too.
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

/// Names of all processes inside but the first.
fn processes(host: &Host) -> String {
    let name = |pid: String| {
        let number: u32 = pid.parse().ok()?;
        let name = fs::read_to_string(host.path(&format!("/proc/{pid}/comm"))).ok()?;
        (number != 1).then(|| format!("{number} {name}"))
    };
    let pids = fs::read_dir(host.path("/proc")).into_iter().flatten().flatten();
    pids.filter_map(|entry| name(entry.file_name().into_string().ok()?)).collect()
}
