//! Whether br_netfilter passes bridged frames to the IP and ARP hooks.
//!
//! Mirrors `brnf_table` and `br_nf_pre_routing` (net/bridge/br_netfilter_hooks.c).

use std::{io, path::Path};

use crate::kernel::{Context, Result, files};

/// The settings of the calling *thread's* network namespace. They exist only while br_netfilter is loaded.
pub const BRIDGE_SYSCTLS: &str = "/proc/sys/net/bridge";

/// Which hooks a bridged frame passes besides those of the bridge family.
///
/// The settings are per namespace (per machine before Linux 5.3). A bridge can also enable the calls by its own
/// attributes (IFLA_BR_NF_CALL_IPTABLES and so on), which the caller must add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeCalls {
    /// IPv4 packets pass the IPv4 hooks.
    pub iptables: bool,
    /// IPv6 packets pass the IPv6 hooks.
    pub ip6tables: bool,
    /// ARP packets pass the ARP hooks.
    pub arptables: bool,
}

impl BridgeCalls {
    /// Whether IP packets of either version pass the hooks.
    #[must_use]
    pub fn any_ip(self) -> bool {
        self.iptables || self.ip6tables
    }
}

/// Reads the three `bridge-nf-call-*` settings in `folder`, which is [`BRIDGE_SYSCTLS`] except in tests. Must be
/// called on a thread that is in the bridge's namespace.
///
/// # Errors
/// A file exists and cannot be read or is not a number, or neither the folder nor its parent exists. Otherwise a
/// missing file means that the module is not loaded, so the setting is off.
pub fn bridge_nf_call(folder: &Path) -> Result<BridgeCalls> {
    let around = if folder.is_dir() { folder } else { folder.parent().unwrap_or(folder) };
    let is_on = |name: &str| -> Result<bool> {
        let path = folder.join(name);
        let content = files::read_optional(&path, around, files::VALUE).doing("read", path.display())?;
        let value = content.map_or(Ok(0), |content| content.trim().parse::<i32>());
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        Ok(value.map_err(invalid).doing("read", path.display())? != 0)
    };
    Ok(BridgeCalls {
        iptables: is_on("bridge-nf-call-iptables")?,
        ip6tables: is_on("bridge-nf-call-ip6tables")?,
        arptables: is_on("bridge-nf-call-arptables")?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::sandbox::in_new_namespace;

    #[test]
    fn absent_is_off_and_nonsense_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bridge_nf_call(&folder.path().join("bridge")).unwrap(), BridgeCalls::default());
        assert!(bridge_nf_call(&folder.path().join("net/bridge")).is_err(), "net is always there");
        fs::write(folder.path().join("bridge-nf-call-iptables"), "1\n").unwrap();
        let calls = bridge_nf_call(folder.path()).unwrap();
        assert_eq!(calls, BridgeCalls { iptables: true, ..BridgeCalls::default() });
        fs::write(folder.path().join("bridge-nf-call-ip6tables"), "x").unwrap();
        let error = bridge_nf_call(folder.path()).unwrap_err().to_string();
        assert!(error.contains("bridge-nf-call-ip6tables"), "{error}");
    }

    #[test]
    fn the_settings_are_those_of_the_threads_namespace() {
        in_new_namespace(|| {
            let folder = Path::new(BRIDGE_SYSCTLS);
            if !folder.exists() {
                eprintln!("SKIPPED: br_netfilter is not loaded");
                return;
            }
            for value in [true, false] {
                fs::write(folder.join("bridge-nf-call-iptables"), if value { "1" } else { "0" }).unwrap();
                assert_eq!(bridge_nf_call(folder).unwrap().iptables, value);
            }
        });
    }
}
