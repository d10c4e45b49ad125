//! The kinds of work. Each has two halves, run by two threads or two processes.

mod interface;
mod round_trips;
mod socket;
mod tcp_connect;
mod tcp_rr;
mod tcp_stream;
mod udp_rate;
mod udp_rr;
mod worker;

pub use self::{round_trips::Peer, socket::CONGESTION_CONTROL, worker::Worker};
