//! The `vethpath` command.

fn main() {}
