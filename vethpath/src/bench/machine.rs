//! Properties of the machine that affect the figures.

use std::{collections::BTreeMap, path::Path};

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

use super::{endpoints, selection::Selection};
use crate::{
    datapath::Hook,
    kernel::{
        Netns, files,
        netfilter::{BRIDGE_SYSCTLS, BridgeCalls, bridge_nf_call},
        sysctl,
    },
    topology::SysctlKey,
};

/// The machine, and the command line of the run. Unreadable properties are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The model of the CPU.
    pub cpu: Option<String>,
    /// CPUs in the process's affinity mask.
    pub cpus: usize,
    /// The cpufreq governor of the measured CPU; `None` if there is none, as in virtual machines.
    pub governor: Option<String>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// How the programs are attached: `tcx` or `clsact`.
    pub hook: Option<Hook>,
    /// `bridge-nf-call-iptables`, `-ip6tables` and `-arptables` in the namespace of the bridge.
    pub bridge_nf_call: BTreeMap<String, bool>,
    /// The TCP congestion control of the namespaces. Streams are measured with cubic regardless.
    pub congestion_control: Option<String>,
    /// The version of vethpath.
    pub vethpath: String,
    /// When measuring began, in UTC (RFC 3339).
    pub date: String,
    /// The command line.
    pub command: String,
}

impl Machine {
    /// Reads the properties. `cpu` is the measured CPU.
    #[must_use]
    pub fn read(selection: &Selection, hook: Hook, cpu: usize) -> Self {
        let now = Timestamp::now();
        Self {
            cpu: file("/proc/cpuinfo").and_then(|text| cpu_model(&text)),
            cpus: endpoints::cpus().len(),
            governor: governor(cpu),
            kernel: file("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            hook: Some(hook),
            bridge_nf_call: bridge_calls(selection).map(named).unwrap_or_default(),
            congestion_control: congestion_control(selection),
            vethpath: env!("CARGO_PKG_VERSION").to_owned(),
            date: now.round(Unit::Second).unwrap_or(now).to_string(),
            command: command(),
        }
    }
}

/// The cpufreq governor of a CPU.
fn governor(cpu: usize) -> Option<String> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    file(&path).map(|text| text.trim().to_owned())
}

/// Which netfilter hooks bridges call in the bridge's namespace.
fn bridge_calls(selection: &Selection) -> Option<BridgeCalls> {
    let netns = Netns::of(&selection.from.place);
    netns.ok()?.run(|| bridge_nf_call(Path::new(BRIDGE_SYSCTLS))).ok()?.ok()
}

/// The default TCP congestion control in the client's namespace.
fn congestion_control(selection: &Selection) -> Option<String> {
    let netns = selection.from.inside.netns().ok()?;
    sysctl::read(&netns, &SysctlKey::net(&["ipv4", "tcp_congestion_control"])).ok()
}

fn named(calls: BridgeCalls) -> BTreeMap<String, bool> {
    let of = [("iptables", calls.iptables), ("ip6tables", calls.ip6tables), ("arptables", calls.arptables)];
    of.map(|(name, on)| (name.to_owned(), on)).into()
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn command() -> String {
    let words = std::env::args().enumerate().map(|(index, word)| {
        // The path of the binary is private.
        if index == 0 { "vethpath".to_owned() } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn file(path: &str) -> Option<String> {
    files::read_bounded(Path::new(path), files::LIST).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_the_cpu() {
        let text = "processor\t: 0\nmodel\t\t: 167\nmodel name\t: Some CPU @ 2 GHz\nstepping\t: 8\n";
        assert_eq!(cpu_model(text).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(cpu_model("processor : 0\n"), None, "as on ARM");
    }
}
