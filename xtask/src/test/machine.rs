//! Settings of the machine while integration tests run: what all network namespaces share.

use std::fs;

use super::suite::Suite;

/// The most frames that wait for a CPU. Frames that cross a veth wait in a queue of the CPU (`netif_rx` in
/// net/core/dev.c): a test that sends as fast as it can has the kernel drop another's, and that other one counts its
/// losses. Several tests that flood have room in this many.
const BACKLOG: (&str, &str) = ("/proc/sys/net/core/netdev_max_backlog", "100000");

/// Grace periods of RCU come at once. The kernel waits for one while it attaches a program to a port, or removes a
/// device, and holds the lock of all networking meanwhile (`tcx_entry_sync` in kernel/bpf/tcx.c): tests would wait for
/// each other more than for anything else. The long suite is without it.
const EXPEDITED: (&str, &str) = ("/sys/kernel/rcu_expedited", "1");

/// Settings that are changed while this lives, and then put back.
pub(super) struct Settings(Vec<Setting>);

struct Setting {
    path: &'static str,
    before: String,
}

impl Settings {
    /// Changes what `suite` needs. What cannot be changed stays as it is.
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
                eprintln!("warning: {path} was {before}, and cannot be made that again: {error}");
            }
        }
    }
}
