//! The port program alone, under `BPF_PROG_TEST_RUN`: the exact verdict and counters of each frame. Frames that this
//! call cannot make are sent on real ports, in `live`.

pub(crate) mod bench;
mod case;
mod counters;
pub(crate) mod frames;
mod live;
mod netfilter;
mod protocols;
mod random;
mod sizes;
mod slots;
mod stations;
mod time;
mod world;

use bench::{Bench, program};
use case::{Verdict, check};
pub(crate) use random::Random;
use vethpath::datapath::OBJECT;
use vethpath_common::{Reason, names};

#[test]
fn stations() {
    check(&stations::cases());
}

#[test]
fn protocols() {
    check(&protocols::cases());
}

#[test]
fn sizes() {
    check(&sizes::cases());
}

#[test]
fn netfilter_checks() {
    check(&netfilter::cases());
}

#[test]
fn every_reason_has_a_case() {
    let tables = [stations::cases(), protocols::cases(), sizes::cases(), netfilter::cases()];
    let cases: Vec<_> = tables.into_iter().flatten().collect();
    // A station that moves needs two frames: see time.rs.
    for reason in Reason::ALL.into_iter().filter(|&reason| reason != Reason::Moved) {
        let met = cases.iter().any(|case| case.verdict == Verdict::Pass(reason));
        assert!(met, "no frame is passed because of {reason:?}");
    }
}

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
