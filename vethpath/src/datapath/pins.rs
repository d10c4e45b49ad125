//! Where a lab's programs, links and maps are pinned.

use std::path::{Path, PathBuf};

use vethpath_common::names;

use crate::{
    kernel::bpffs,
    topology::{IfName, LabName},
};

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

    /// Whether the lab's maps are there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.map(names::COUNTERS).exists()
    }

    /// A map, by its name in [`vethpath_common::names`].
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The copy of the port program that serves a bridge namespace.
    #[must_use]
    pub fn program(&self, domain: u32) -> PathBuf {
        self.directory.join(format!("{}_{domain}", names::PORT_INGRESS))
    }

    /// The copy of the XDP program that serves a bridge namespace, where a port there wants it.
    #[must_use]
    pub fn xdp_program(&self, domain: u32) -> PathBuf {
        self.directory.join(format!("{}_{domain}", names::PORT_XDP))
    }

    /// Where that program redirects to.
    #[must_use]
    pub fn xdp_ports(&self, domain: u32) -> PathBuf {
        self.directory.join(format!("{}_{domain}", names::XDP_PORTS))
    }

    /// The link of a port's XDP program.
    #[must_use]
    pub fn xdp_link(&self, port: &IfName) -> PathBuf {
        self.directory.join(format!("xdp_{port}"))
    }

    /// The link of a port's program (tcx only: clsact has no links).
    #[must_use]
    pub fn link(&self, port: &IfName) -> PathBuf {
        self.directory.join(format!("link_{port}"))
    }
}
