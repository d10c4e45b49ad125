//! One file per command: from arguments to output.

pub mod doctor;
