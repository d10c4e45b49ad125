//! The pins of a lab's programs, links and maps.

use std::{
    fs,
    path::{Path, PathBuf},
};

use vethpath_common::names;

use crate::{
    kernel::bpffs,
    topology::{IfName, LabName},
};

/// Prefix of the name of a folder of former counters.
const FORMER: &str = "former-";

/// Prefix of the name of an XDP program's link.
const XDP_LINK: &str = "xdp_";

/// Prefix of the name of a guest port's link.
const GUEST_LINK: &str = "guest_";

/// A lab's folder in bpffs.
#[derive(Clone, Debug)]
pub struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// The pins of this lab.
    #[must_use]
    pub fn of(lab: &LabName) -> Self {
        Self { directory: Path::new(bpffs::DIRECTORY).join(lab.as_str()) }
    }

    /// The folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the lab's maps are pinned.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.map(names::COUNTERS).exists()
    }

    /// A map, by its name in [`vethpath_common::names`].
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Another set of programs and maps. No port uses it before it is complete.
    #[must_use]
    pub(super) fn next(&self) -> Self {
        self.below("next")
    }

    /// That set while it replaces this one.
    #[must_use]
    pub(super) fn moving(&self) -> Self {
        self.below("moving")
    }

    /// The counters of a former set, identified by the id of one of its maps.
    #[must_use]
    pub(super) fn former(&self, id: u32) -> Self {
        self.below(&format!("{FORMER}{id}"))
    }

    /// All sets in which the lab's frames are or were counted. This one is first.
    #[must_use]
    pub(super) fn all(&self) -> Vec<Self> {
        let mut sets = vec![self.clone(), self.next(), self.moving()];
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(FORMER)) {
                sets.push(self.below(name));
            }
        }
        sets
    }

    fn below(&self, name: &str) -> Self {
        Self { directory: self.directory.join(name) }
    }

    /// The copy of the port program that serves a bridge namespace.
    #[must_use]
    pub fn program(&self, domain: u32) -> PathBuf {
        self.directory.join(format!("{}_{domain}", names::PORT_INGRESS))
    }

    /// The copy of the XDP program that serves a bridge namespace. Pinned only if a port there uses it.
    #[must_use]
    pub fn xdp_program(&self, domain: u32) -> PathBuf {
        self.directory.join(format!("{}_{domain}", names::PORT_XDP))
    }

    /// The map of ports that this program redirects to.
    #[must_use]
    pub fn xdp_ports(&self, domain: u32) -> PathBuf {
        self.directory.join(format!("{}_{domain}", names::XDP_PORTS))
    }

    /// The link of a port's XDP program.
    #[must_use]
    pub fn xdp_link(&self, port: &IfName) -> PathBuf {
        self.directory.join(format!("{XDP_LINK}{}", pinned(port)))
    }

    /// The pinned XDP links of all ports.
    pub(super) fn xdp_links(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|pin| {
            pin.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(XDP_LINK))
        })
    }

    /// The link of a port's program. Only with tcx, since clsact has no links.
    #[must_use]
    pub fn link(&self, port: &IfName) -> PathBuf {
        self.directory.join(format!("link_{}", pinned(port)))
    }

    /// The pinned links of guest ports, by domain and ifindex.
    #[must_use]
    pub fn guest_links(&self) -> Vec<(u16, u32)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let port = |name: &str| {
            let (domain, ifindex) = name.strip_prefix(GUEST_LINK)?.split_once('_')?;
            Some((domain.parse().ok()?, ifindex.parse().ok()?))
        };
        entries.filter_map(|entry| port(entry.file_name().to_str()?)).collect()
    }

    /// The link of a guest port's program: see [`GuestPort`](super::GuestPort). Only with tcx.
    #[must_use]
    pub fn guest_link(&self, domain: u16, ifindex: u32) -> PathBuf {
        self.directory.join(format!("{GUEST_LINK}{domain}_{ifindex}"))
    }
}

/// A port's name in the name of a pin. bpffs takes no dots (`bpf_lookup` in kernel/bpf/inode.c), and no interface of a
/// file has a colon.
fn pinned(port: &IfName) -> String {
    port.as_str().replace('.', ":")
}
