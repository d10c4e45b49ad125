//! The only layer that speaks netlink, enters namespaces and writes sysctls.
//!
//! Functions here work on a socket that is handed in: a socket stays in the network namespace where
//! it was made, whichever thread uses it later.

mod exchange;
pub mod netfilter;
pub mod packet_sockets;
pub mod probe;

#[cfg(test)]
mod sandbox;

pub use exchange::ExchangeError;
