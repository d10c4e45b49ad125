//! Tables of x_tables: iptables-legacy, arptables-legacy and ebtables-legacy.
//!
//! Mirrors `xt_proto_init` (net/netfilter/x_tables.c). There are no events for changes to these tables, so they must
//! be polled.

use std::{fmt, path::Path};

use super::{BridgeCalls, Family};
use crate::kernel::{Context, Result, files};

/// The network files of the calling *thread's* namespace (`/proc/net` is that of the process).
pub const THREAD_NET: &str = "/proc/thread-self/net";
/// Where the kernel lists its modules.
pub const PROC: &str = "/proc";

/// A table of x_tables that is registered in a namespace, with or without rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegacyTable {
    /// [`Family::Ip`], [`Family::Ip6`], [`Family::Arp`] or [`Family::Bridge`].
    pub family: Family,
    /// Its name, such as `filter` or `nat`.
    pub name: String,
}

impl LegacyTable {
    /// Whether a bridged frame that the fast path may forward passes the table. The fast path never forwards ARP.
    #[must_use]
    pub const fn sees(&self, calls: BridgeCalls) -> bool {
        match self.family {
            Family::Ip => calls.iptables,
            Family::Ip6 => calls.ip6tables,
            Family::Arp => false,
            _ => true,
        }
    }
}

impl fmt::Display for LegacyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tool = match self.family {
            Family::Ip => "iptables",
            Family::Ip6 => "ip6tables",
            Family::Arp => "arptables",
            _ => "ebtables",
        };
        write!(f, "{tool} table {}", self.name.escape_debug())
    }
}

/// The tables of iptables, ip6tables and arptables listed in `net`, which is [`THREAD_NET`] except in tests. A tool
/// that lists a table creates it, so that the result may contain unused tables.
///
/// # Errors
/// A file exists and cannot be read, or `net` does not exist. A missing file means no x_tables.
pub fn legacy_tables(net: &Path) -> Result<Vec<LegacyTable>> {
    let files = [
        (Family::Ip, "ip_tables_names"),
        (Family::Ip6, "ip6_tables_names"),
        (Family::Arp, "arp_tables_names"),
    ];
    let mut tables = Vec::new();
    for (family, file) in files {
        let content = read(&net.join(file), net)?;
        tables.extend(content.split_whitespace().map(|name| LegacyTable { family, name: name.to_owned() }));
    }
    Ok(tables)
}

/// The tables of ebtables-legacy whose modules are loaded, read from `proc`, which is [`PROC`] except in tests.
///
/// ebtables does not list its tables, and a request for one (EBT_SO_GET_INFO) creates it. A loaded module therefore
/// counts as a table in every namespace. Current `ebtables` uses nftables and needs none of these modules.
///
/// # Errors
/// The list of modules exists and cannot be read. A missing list means a kernel without modules, but only if
/// `sys/kernel` is in `proc`, which may be mounted with `subset=pid`.
pub fn ebtables(proc: &Path) -> Result<Vec<LegacyTable>> {
    let content = read(&proc.join("modules"), &proc.join("sys/kernel"))?;
    let loaded = content.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("ebtable_"));
    let tables = loaded.filter(|name| ["broute", "filter", "nat"].contains(name));
    Ok(tables.map(|name| LegacyTable { family: Family::Bridge, name: name.to_owned() }).collect())
}

fn read(path: &Path, folder: &Path) -> Result<String> {
    let content = files::read_optional(path, folder, files::LIST).doing("read", path.display())?;
    Ok(content.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::sandbox::in_new_namespace;

    #[test]
    fn tables_are_listed_by_family() {
        let net = tempfile::tempdir().unwrap();
        assert!(legacy_tables(net.path()).unwrap().is_empty());
        fs::write(net.path().join("ip_tables_names"), "nat\nfilter\n").unwrap();
        fs::write(net.path().join("arp_tables_names"), "filter\n").unwrap();
        let tables = legacy_tables(net.path()).unwrap();
        let names: Vec<_> = tables.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["iptables table nat", "iptables table filter", "arptables table filter"]);
        let calls = BridgeCalls { iptables: true, ip6tables: false, arptables: true };
        assert_eq!(tables.iter().filter(|t| t.sees(calls)).count(), 2);
        assert_eq!(tables.iter().filter(|t| t.sees(BridgeCalls::default())).count(), 0);
    }

    #[test]
    fn without_the_folders_of_the_lists_nothing_is_known() {
        let proc = tempfile::tempdir().unwrap();
        let missing = legacy_tables(&proc.path().join("net")).unwrap_err().to_string();
        assert!(missing.contains("ip_tables_names"), "{missing}");
        let missing = ebtables(proc.path()).unwrap_err().to_string();
        assert!(missing.contains("modules"), "{missing}");
        fs::create_dir_all(proc.path().join("sys/kernel")).unwrap();
        assert_eq!(ebtables(proc.path()).unwrap(), [], "a kernel without modules");
    }

    #[test]
    fn a_new_namespace_has_none() {
        in_new_namespace(|| assert_eq!(legacy_tables(Path::new(THREAD_NET)).unwrap(), []));
    }

    #[test]
    fn ebtables_is_known_by_its_modules() {
        let folder = tempfile::tempdir().unwrap();
        let modules = "ebtables 45056 1 ebtable_filter, Live 0x0\nebtable_filter 16384 0 - Live 0x0\n";
        fs::write(folder.path().join("modules"), modules).unwrap();
        let tables = ebtables(folder.path()).unwrap();
        assert_eq!(tables.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ebtables table filter"]);
        assert!(tables[0].sees(BridgeCalls::default()));
    }
}
