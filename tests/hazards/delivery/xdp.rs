//! An inner end with an XDP program of its own: it sees every frame, from within a second of being there
//! until it is gone.

use super::super::common::{A_SECOND, B, C, on_all};
use crate::harness::{Answer, At, XDP_DROP, XDP_PASS};

#[test]
fn a_native_xdp_program_on_an_inner_end_sees_the_frames() {
    sees_the_frames(At::NativeXdp);
}

#[test]
fn a_generic_xdp_program_on_an_inner_end_sees_the_frames() {
    sees_the_frames(At::GenericXdp);
}

fn sees_the_frames(at: At) {
    on_all(|_, lab, fast| {
        let netns = lab.netns("ns1");
        for _ in 0..2 {
            let dropping = Answer::attach(&netns, "eth0", at, XDP_DROP);
            lab.loses_within(A_SECOND, "ns0", B);
            // Not one frame goes past it from then on.
            for _ in 0..3 {
                assert!(!lab.pings("ns0", B), "{at:?}");
            }
            lab.reaches("ns0", C);
            drop(dropping);
            lab.reaches_within(A_SECOND, "ns0", B);
        }
        // One that lets everything through is no reason for the slow path.
        let passing = Answer::attach(&netns, "eth0", at, XDP_PASS);
        lab.reaches_within(A_SECOND, "ns0", B);
        if fast {
            lab.is_fast("ns0:eth0", B);
            let _ = lab.accounts_balance();
        }
        let _ = lab.run("ns0", format!("ping -n -q -c 3 -l 3 -W 5 -s 9000 {B}")).ok();
        drop(passing);
        lab.reaches("ns0", B);
    });
}

/// A program on the sender's inner end is not on the way of what it sends.
#[test]
fn an_xdp_program_on_a_sender_changes_nothing_for_what_it_sends() {
    on_all(|_, lab, fast| {
        let netns = lab.netns("ns0");
        let program = Answer::attach(&netns, "eth0", At::NativeXdp, XDP_PASS);
        lab.reaches_within(A_SECOND, "ns0", B);
        if fast {
            lab.is_fast("ns0:eth0", B);
        }
        drop(program);
    });
}
