//! vethpath's own data: the first line of the journal, and the agent's reply.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethpath::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::records(bytes));
