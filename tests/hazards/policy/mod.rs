//! Hazards of policy that is attached to the devices.

mod counters;
mod mtu;
mod netfilter;
mod packet_sockets;
mod programs;
mod rules_of_docker;
mod sources;
mod tcx;
