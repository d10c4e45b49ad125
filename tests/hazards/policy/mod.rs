//! Hazards of policy that is attached to the devices.

mod netfilter;
mod packet_sockets;
mod programs;
mod sources;
