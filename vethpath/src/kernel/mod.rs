//! The only layer that uses netlink, enters namespaces, and writes sysctls and mounts. One function or method per
//! purpose. Every error has operation, object and errno.
//!
//! A netlink socket stays in the network namespace where it was opened, whichever thread uses it later.

mod addresses;
pub mod announce;
pub mod bpffs;
mod bridges;
pub mod channels;
pub mod clock;
mod direct;
pub mod driver;
mod error;
mod exchange;
mod fdb;
pub mod features;
pub mod files;
mod frames;
pub mod generic;
pub mod home;
mod link_batch;
mod links;
mod namespace_id;
mod neighbours;
pub mod netfilter;
pub mod netns;
pub mod offloads;
pub mod packet_sockets;
mod pipeline;
pub mod pool;
pub mod probe;
pub mod process;
pub mod rcu;
mod routes;
mod rtnl;
pub mod signals;
mod sockets;
pub mod sysctl;
pub mod traffic;
pub mod watch;
pub mod xdp;

#[cfg(test)]
pub(crate) mod sandbox;

pub use direct::{Direct, RawLink};
pub(crate) use error::Context;
pub use error::{Error, Result};
pub use exchange::ExchangeError;
pub use fdb::FdbEntry;
pub use link_batch::{LinkChange, NewVeth};
pub use links::{GsoLimits, LinkFacts, PortAttribute, VethEnd, XdpMode};
pub use neighbours::{NeighbourTable, neighbour_tables};
pub use netns::{Netns, NetnsId};
pub use routes::RouteFacts;
pub use rtnl::Rtnl;
pub use sockets::{Source, blocking};
pub use traffic::{FilterFacts, QdiscFacts};
