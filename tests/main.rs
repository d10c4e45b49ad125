//! Integration tests: they run the `vethpath` binary and check the result with `ip`, `bridge`, `ping` and the kernel's
//! counters. Each test has a private [`harness::Host`] and needs root.

mod accelerate;
mod bench;
mod boot;
mod commands;
mod converge;
mod crowded;
mod discovery;
mod engines;
mod events;
mod examples;
mod fabric;
mod faults;
mod firewall;
mod formats;
mod guests;
mod harness;
mod hazards;
mod host_firewalls;
mod journals;
mod kernels;
mod namespaces;
mod oracle;
mod programs;
mod raw_frames;
mod scale;
mod security;
mod segments;
mod settings;
mod shapes;
mod shared_slots;
mod surroundings;
mod traffic;
mod units;
mod walkthrough;
mod warnings;
