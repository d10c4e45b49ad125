//! Integration tests: the `vethpath` binary from outside, judged by `ip`, `bridge`, `ping` and the
//! kernel's own counters. Each test has a machine of its own ([`harness::Host`]) and needs root.

mod agent;
mod bench;
mod commands;
mod errors;
mod harness;
mod harness_itself;
mod heals;
mod interrupted;
mod moves;
mod netfilter;
mod oracle;
mod policy;
mod ports;
mod programs;
mod shapes;
mod traffic;
mod walkthrough;
