//! Spanning tree decides which ports forward; a topology change flushes.

use std::time::Duration;

use super::super::common::{A, A_SECOND, B, C, on_all, set};
use crate::harness::{Host, wait_until};

#[test]
fn not_forwarding() {
    on_all(|host, lab, _| {
        let port = lab.port("ns1:eth0");
        // A port that was made forwarding has a timer. When it expires, a learning port is made forwarding again
        // (`br_make_forwarding`, `br_forward_delay_timer_expired` in net/bridge). Here it expires at once.
        for (delay, state) in [("0", Some("state blocking")), ("1500", None)] {
            let _ = host.run(format!("ip link set docker0 type bridge forward_delay {delay}")).ok();
            state.into_iter().for_each(|state| set(host, &port, state));
        }
        lab.reaches_within(A_SECOND, "ns0", B);
        // Without spanning tree, a bridge makes a blocking port forwarding at once.
        for state in ["disabled", "listening", "learning"] {
            set(host, &port, &format!("state {state}"));
            lab.loses_within(A_SECOND, "ns0", B);
            lab.loses_within(A_SECOND, "ns1", A);
            lab.reaches("ns0", C);
            set(host, &port, "state forwarding");
            lab.reaches_within(A_SECOND, "ns0", B);
        }
    });
}

#[test]
fn spanning_tree_decides_when_a_port_forwards() {
    let host = Host::new();
    let lab = host.lab("three-hosts").with("datapath = \"tc\"", "stp = true").up();
    // After a topology change, entries live for twice this: 8 s, which is long enough to be fast.
    let _ = host.run("ip link set docker0 type bridge forward_delay 400").ok();
    let port = lab.port("ns0:eth0");
    let forwards = || host.json(format!("bridge -j link show dev {port}"))[0]["state"] == "forwarding";
    wait_until(Duration::from_secs(90), || {
        let (stats, forwards) = (lab.stats(), forwards());
        assert!(forwards || stats.pair("ns0:eth0").state != "armed", "armed, and not forwarding: {stats:#?}");
        if forwards { Ok(()) } else { Err("spanning tree does not come to an end".to_owned()) }
    });
    lab.reaches_within(Duration::from_secs(30), "ns0", B);
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}
