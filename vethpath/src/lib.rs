//! vethpath: network labs on one Linux host whose switches are as fast as a cable.
//!
//! Data flows one way: file -> [`topology`] -> plan -> steps -> kernel, and kernel events ->
//! agent -> maps. See `docs/architecture.md`.

// `println!` and `eprintln!` panic when the reader has closed the pipe.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod agent;
pub mod apply;
pub mod bench;
pub mod cli;
pub mod commands;
pub mod datapath;
pub mod firewall;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod graph;
pub mod kernel;
pub mod metrics;
pub mod output;
pub mod peer;
pub mod plan;
pub mod reach;
pub mod show;
pub mod state;
pub mod stats;
pub mod topology;
pub mod watch;
