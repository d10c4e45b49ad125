//! The verifier's figures for the program.

use vethpath::datapath::OBJECT;
use vethpath_common::names;

use super::bench::{Bench, program};

/// The kernel of the recorded figure.
const KERNEL: &str = "6.18.";

/// Instructions that the verifier processed on Linux 6.18. The kernel's limit is a million. This one makes every
/// increase visible as a change of this line.
const VERIFIED_INSTRUCTIONS: u32 = 9_432;

/// Other kernels' verifiers prune differently, so a quarter more is allowed.
const SLACK: u32 = VERIFIED_INSTRUCTIONS / 4;

#[test]
fn the_program_is_small_and_of_a_licence_that_may_call_all_helpers() {
    let mut bench = Bench::new();
    let info = program(&mut bench.object).info().expect("it is loaded");
    assert_eq!(info.name_as_str(), Some(names::PORT_INGRESS));
    // The names of sections, as the object's string table has them.
    for section in [&b".BTF\0"[..], b".BTF.ext\0"] {
        assert!(OBJECT.windows(section.len()).any(|bytes| bytes == section), "the object has no BTF");
    }
    assert_eq!(info.gpl_compatible(), Some(true));
    assert!(info.btf_id().is_some(), "the kernel was not given BTF");
    let count = info.verified_instruction_count().expect("Linux 5.16 and later tell");
    let size = info.size_translated().expect("every Linux tells") / 8;
    eprintln!("{count} instructions verified, {size} in the program");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("every Linux tells");
    let most =
        if release.starts_with(KERNEL) { VERIFIED_INSTRUCTIONS } else { VERIFIED_INSTRUCTIONS + SLACK };
    assert!(
        count <= most,
        "the verifier walked {count} instructions of {size}, and {VERIFIED_INSTRUCTIONS} when it was \
         recorded last: see whether that is worth it, and change the record"
    );
}
