//! The only layer that uses netlink, enters namespaces, and writes sysctls and mounts. One function or method per
//! purpose. Every error has operation, object and errno.
//!
//! A netlink socket stays in the network namespace where it was opened, whichever thread uses it later.

mod adoptions;
pub mod announce;
pub mod backlog;
mod bpf_program;
pub mod bpffs;
mod bridge;
pub mod clock;
pub mod devconf;
pub mod driver;
pub mod echo;
pub mod engine;
mod error;
pub mod ethtool;
mod fdb;
pub mod files;
mod frames;
pub mod home;
pub mod host_view;
mod ip;
mod link_batch;
mod links;
mod namespace_id;
mod neighbours;
pub mod netfilter;
mod netlink;
pub mod netns;
pub mod occupants;
pub mod packet_sockets;
pub mod pool;
pub mod privileges;
pub mod probe;
pub mod process;
pub mod rcu;
pub mod residents;
mod route_socket;
mod routes;
mod rtnl;
mod rules;
pub mod sysctl;
pub mod tcp;
pub mod traffic;
pub mod watch;
pub mod xdp;

#[cfg(test)]
pub(crate) mod sandbox;

pub use adoptions::Adoptions;
pub use bridge::UnknownDefaults;
pub(crate) use error::Context;
pub use error::{Error, Result};
pub use fdb::FdbEntry;
pub use ip::{NeighbourTable, neighbour_tables};
pub use link_batch::{LinkChange, NewVeth, VethEnd};
pub use links::{GsoLimits, LinkCounters, LinkFacts, PortAttribute, RawLink, XdpMode};
pub use neighbours::Neighbour;
pub use netlink::{
    NetlinkError, generic,
    sockets::{Source, blocking},
};
pub use netns::{Netns, NetnsId};
pub use route_socket::{LinkAt, RouteSocket};
pub use routes::{FormerRoute, HopFacts, RouteFacts};
pub use rtnl::Rtnl;
pub use traffic::{FilterFacts, QdiscFacts};
