//! What vethpath reads of its own: the journal's first line, and the agent's answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethpath::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::records(bytes));
