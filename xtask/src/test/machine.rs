//! The machine that integration tests run on: settings that all network namespaces share, and what tests leave behind
//! (namespaces, pins, state and devices of labs).

use std::{collections::BTreeSet, fs, path::Path};

use super::stage::Suite;

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

/// The folders with resources of labs: `ip netns`, pins and state.
const FOLDERS: [&str; 3] = ["/run/netns", "/sys/fs/bpf/vethpath", "/run/vethpath"];
/// The devices of the host.
const DEVICES: &str = "/sys/class/net";
/// The prefix of a device's alias if it belongs to a lab.
const MARK: &str = "vethpath:";

/// The resources at one time.
#[derive(Debug)]
pub(super) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Reads the resources. A missing or unreadable folder counts as empty.
    pub(super) fn take() -> Self {
        let mut found = BTreeSet::new();
        for folder in FOLDERS {
            found.extend(entries(Path::new(folder)));
        }
        found.extend(entries(Path::new(DEVICES)).into_iter().filter(|device| is_ours(Path::new(device))));
        Self(found)
    }

    /// The resources that were not there before, sorted.
    pub(super) fn added_since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// The paths of a folder's entries.
fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().display().to_string()).collect()
}

/// Whether a device's alias has the labs' prefix.
fn is_ours(device: &Path) -> bool {
    fs::read_to_string(device.join("ifalias")).is_ok_and(|alias| alias.starts_with(MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(paths: &[&str]) -> Snapshot {
        Snapshot(paths.iter().map(|&path| path.to_owned()).collect())
    }

    #[test]
    fn only_what_is_new_counts() {
        let before = snapshot(&["/run/netns/mine", "/run/vethpath/gone"]);
        let after = snapshot(&["/run/netns/mine", "/run/netns/t1", "/run/vethpath/t1"]);
        assert_eq!(after.added_since(&before), ["/run/netns/t1", "/run/vethpath/t1"]);
        assert!(before.added_since(&before).is_empty());
    }

    #[test]
    fn a_folder_that_is_not_there_is_empty() {
        assert!(entries(Path::new("/no/such/folder")).is_empty());
    }

    #[test]
    fn a_device_is_ours_by_its_mark() {
        let dir = std::env::temp_dir().join(format!("xtask-leftovers-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        fs::write(dir.join("ifalias"), "vethpath:lab ns0:eth0\n").expect("a file in it");
        assert!(is_ours(&dir));
        fs::write(dir.join("ifalias"), "uplink\n").expect("a file in it");
        assert!(!is_ours(&dir));
        fs::remove_dir_all(&dir).expect("our own folder");
        assert!(!is_ours(&dir));
    }
}
