//! The only layer that speaks netlink, enters namespaces, and writes sysctls and mounts.
//! One function or method per intent; every error names operation, object and errno.

mod addresses;
pub mod bpffs;
mod bridges;
mod error;
mod fdb;
mod links;
pub mod membarrier;
pub mod netns;
mod routes;
mod rtnl;
mod sockets;
pub mod sysctl;
mod traffic;
pub mod watch;

pub use error::{Error, Result};
pub use fdb::FdbEntry;
pub use links::{LinkFacts, PortAttribute, VethEnd, XdpMode};
pub use netns::Netns;
pub use rtnl::Rtnl;
pub use traffic::QdiscFacts;
