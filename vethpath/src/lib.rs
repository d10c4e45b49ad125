//! vethpath: network labs on one Linux host whose switches are as fast as a cable.
//!
//! Data flows one way: file -> [`topology`] -> plan -> steps -> kernel, and kernel events ->
//! agent -> maps. See `docs/architecture.md`.

pub mod commands;
pub mod kernel;
pub mod topology;
