//! The compiled eBPF programs, embedded in the binary.

/// The ELF object that `build.rs` builds from the `vethpath-ebpf` crate.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vethpath-ebpf"));
