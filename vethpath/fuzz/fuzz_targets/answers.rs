//! Kernel replies that vethpath decodes itself: sock_diag, nf_tables, ethtool.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethpath::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::answers(bytes));
