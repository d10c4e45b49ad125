//! An inner end with its own XDP program: the program sees every frame, from at most a second after it is attached
//! until it is detached.

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
            // From then on not one frame bypasses it.
            for _ in 0..3 {
                assert!(!lab.pings("ns0", B), "{at:?}");
            }
            lab.reaches("ns0", C);
            drop(dropping);
            lab.reaches_within(A_SECOND, "ns0", B);
        }
        // A program that passes everything is no reason for the slow path.
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

/// A program on the sender's inner end is not on the path of the frames that it sends.
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
