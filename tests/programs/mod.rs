//! The port program alone, under `BPF_PROG_TEST_RUN`: the exact verdict and counters of each frame. Frames that this
//! call cannot make are sent on real ports, in `live`.

mod batches;
pub(crate) mod bench;
mod case;
mod context;
pub(crate) mod frames;
mod full;
mod live;
mod model;
mod netfilter;
mod protocols;
mod random;
mod sizes;
mod slots;
mod stations;
mod time;
mod verifier;
mod world;

use case::{Verdict, check};
pub(crate) use random::Random;
use vethpath_common::Reason;

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
