//! What is there before anything is done, and what stands in the way.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use thiserror::Error;

use crate::topology::{LabName, NsName, Place, Route, lab_mark};

/// What a name in `/run/netns` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A namespace of this lab.
    Ours,
    /// A namespace of somebody else.
    Foreign,
    /// A file on which no namespace is mounted.
    LeftOver,
}

/// A link that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedLink {
    /// Whether it carries this lab's mark, or is one of ours that was not marked yet.
    pub ours: bool,
    /// Administratively up.
    pub up: bool,
    /// Name of the bridge that it is a port of.
    pub bridge: Option<String>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// What is there, as far as a lab's names are concerned.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Names in `/run/netns` that the lab wants.
    pub namespaces: BTreeMap<NsName, Found>,
    /// Links of the host and of the lab's namespaces, by place and name.
    pub links: BTreeMap<(Place, String), ObservedLink>,
    /// Places whose masquerade table is as it should be.
    pub masquerading: BTreeSet<Place>,
    /// Routes by way of gateways, of the lab's namespaces.
    pub routes: BTreeMap<NsName, Vec<Route>>,
}

impl Observed {
    /// The link of this name in this place.
    #[must_use]
    pub fn link(&self, place: &Place, name: &str) -> Option<&ObservedLink> {
        self.links.get(&(place.clone(), name.to_owned()))
    }
}

/// Whether an alias says that a link, or the namespace it is the loopback of, is this lab's.
#[must_use]
pub fn is_ours(alias: Option<&str>, lab: &LabName) -> bool {
    let mark = lab_mark(lab);
    alias
        .and_then(|alias| alias.strip_prefix(&mark))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Something that is not ours has a name that the lab wants.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Collision {
    /// A namespace.
    #[error("namespace `{0}` exists already and is not this lab's")]
    Namespace(NsName),
    /// A link.
    #[error("interface `{name}` exists already in {place} and is not this lab's")]
    Link {
        /// Where.
        place: Place,
        /// Its name.
        name: String,
    },
    /// A link with a name that no file has: that of a port.
    #[error(
        "interface `{name}` exists already in {place} and is not this lab's; the port of {of} needs that name"
    )]
    Port {
        /// Where.
        place: Place,
        /// Its name.
        name: String,
        /// The pair or trunk, such as `pair ns0:eth0`.
        of: String,
    },
}

impl Collision {
    /// Whether the file has the name, and can have another.
    #[must_use]
    pub fn is_in_the_file(&self) -> bool {
        !matches!(self, Self::Port { .. })
    }
}
