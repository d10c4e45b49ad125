//! Integration tests: the `vethpath` binary from outside, judged by `ip`, `bridge`, `ping` and the
//! kernel's own counters. Each test has a machine of its own ([`harness::Host`]) and needs root.

mod advertisements;
mod announce;
mod bench;
mod bonds;
mod clocks;
mod commands;
mod converge;
mod errors;
mod events;
mod examples;
mod faults;
mod harness;
mod harness_itself;
mod hazards;
mod heals;
mod journals;
mod large;
mod neighbours;
mod oracle;
mod places;
mod programs;
mod raw_frames;
mod reasons;
mod replaced;
mod scale;
mod security;
mod segments;
mod settings;
mod shapes;
mod shared_slots;
mod shorthand;
mod surroundings;
mod traffic;
mod walkthrough;
mod warnings;
