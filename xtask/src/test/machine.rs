//! Machine-wide settings for integration tests, which all network namespaces share.

use std::fs;

use super::suite::Suite;

/// The limit of each CPU's backlog. Frames over a veth wait in it (`netif_rx` in net/core/dev.c). A test that floods it
/// would make the kernel drop frames of other tests, some of which count losses. This limit suffices for several
/// floods.
const BACKLOG: (&str, &str) = ("/proc/sys/net/core/netdev_max_backlog", "100000");

/// Expedites RCU grace periods. The kernel waits for one while it attaches a program to a port or removes a device, and
/// holds RTNL meanwhile (`tcx_entry_sync` in kernel/bpf/tcx.c). Otherwise tests would mostly wait for each other. The
/// long suite runs without it.
const EXPEDITED: (&str, &str) = ("/sys/kernel/rcu_expedited", "1");

/// Changed settings. Dropping this restores them.
pub(super) struct Settings(Vec<Setting>);

struct Setting {
    path: &'static str,
    before: String,
}

impl Settings {
    /// Changes the settings for `suite`. A setting that cannot be changed is left as it is.
    pub(super) fn for_suite(suite: Suite) -> Self {
        let expedited = (suite != Suite::Long).then_some(EXPEDITED);
        Self([BACKLOG].into_iter().chain(expedited).filter_map(Setting::change).collect())
    }
}

impl Setting {
    fn change((path, value): (&'static str, &str)) -> Option<Self> {
        let before = fs::read_to_string(path).ok()?.trim().to_owned();
        fs::write(path, value).ok()?;
        Some(Self { path, before })
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for Setting { path, before } in &self.0 {
            if let Err(error) = fs::write(path, before) {
                eprintln!("warning: {path} was {before}, and cannot be restored to it: {error}");
            }
        }
    }
}
