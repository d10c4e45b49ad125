//! Receivers that are suddenly elsewhere: moved to another namespace, their ifindex reused, their namespace deleted
//! under load.

use std::{thread, time::Duration};

use super::super::common::{
    A, A_SECOND, B, C, arrived, arrives, fast_lab, is_found, mac_bytes, numbered, on_all, on_both,
};
use crate::harness::{Host, OneCpu, Until, Wire, holds_for, wait_until};

#[test]
fn an_inner_end_moved_to_another_namespace_takes_its_frames_along() {
    on_both(|host, lab, fast| {
        let (a, b) = (mac_bytes(lab, "ns0"), mac_bytes(lab, "ns1"));
        let from = lab.wire("ns0:eth0");
        let _ = lab.run("ns1", "ip link set eth0 netns ns2 name moved").ok();
        let _ = host.run("ip -n ns2 link set moved up").ok();
        let moved = lab.wire("ns2:moved");
        is_found(lab, &from, &moved, [a, b], fast);
        let _ = host.run("ip -n ns2 link set moved netns ns1 name eth0").ok();
        for command in ["ip link set eth0 up", "ip addr replace 172.17.0.102/16 dev eth0"] {
            let _ = lab.run("ns1", command).ok();
        }
        lab.reaches_within(A_SECOND, "ns1", A);
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

/// The port is deleted, and another device gets its ifindex at once: no frame for ns1 arrives there.
#[test]
fn a_reused_ifindex_gets_nothing_that_was_for_another() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    let (a, b) = (mac_bytes(&lab, "ns0"), mac_bytes(&lab, "ns1"));
    let index = host.json(format!("ip -j link show dev {port}"))[0]["ifindex"].as_u64().expect("a number");
    let from = lab.wire("ns0:eth0");
    let until = Until::default();
    thread::scope(|scope| {
        let end = until.end_here();
        scope.spawn(|| {
            let mut number = 0;
            while until.goes_on() {
                from.send(&numbered(b, a, number));
                number += 1;
                thread::sleep(Duration::from_millis(1));
            }
        });
        let _ = host.run("ip netns add stranger").ok();
        let batch = format!(
            "link del {port}\nlink add name other0 index {index} type veth peer name other1 netns stranger\n\
             link set other0 up\n"
        );
        let _ = host.feed("ip -batch -", &batch).ok();
        let _ = host.run("ip -n stranger link set other1 up").ok();
        let stranger = lab.netns("stranger").run(|| Wire::on("other1")).expect("entered").expect("a socket");
        lab.says_of("ns1:eth0", "the port does not exist");
        let _ = arrived(&stranger);
        holds_for(Duration::from_secs(2), "a frame for ns1 came to a stranger", || {
            arrived(&stranger).is_empty()
        });
        drop(end);
    });
    lab.is_fast("ns0:eth0", C);
    let _ = host.run("ip netns del stranger").ok();
    let _ = host.run("ip link del other0");
    lab.down();
    host.finish();
}

#[test]
fn a_namespace_deleted_under_load_takes_nothing_with_it() {
    for _ in 0..3 {
        let host = Host::new();
        let lab = fast_lab(&host);
        let agent = lab.pid();
        let (a, b) = (mac_bytes(&lab, "ns0"), mac_bytes(&lab, "ns1"));
        let (from, bystander) = (lab.wire("ns0:eth0"), lab.wire("ns2:eth0"));
        let c = mac_bytes(&lab, "ns2");
        let until = Until::default();
        thread::scope(|scope| {
            let end = until.end_here();
            let sender = scope.spawn(|| {
                let _stay = OneCpu::stay();
                let (mut sent, mut came) = (Vec::new(), Vec::new());
                while until.goes_on() {
                    let number = sent.len() as u64 + 1;
                    from.send(&numbered(b, a, u64::MAX));
                    from.send(&numbered(c, a, number));
                    sent.push(number);
                    // Read as they arrive, or the socket's buffer would overflow.
                    came.extend(arrived(&bystander));
                    thread::sleep(Duration::from_micros(500));
                }
                (sent, came)
            });
            thread::sleep(Duration::from_millis(200));
            let _ = host.run("ip netns del ns1").ok();
            lab.says_of("ns1:eth0", "does not exist");
            drop(end);
            let (sent, mut came) = sender.join().expect("it sends");
            // Every other receiver still gets each frame, once and in order.
            wait_until(A_SECOND, || {
                came.extend(arrived(&bystander));
                // Frames to ns1 are flooded once its port is gone.
                came.retain(|number| *number != u64::MAX);
                if came == sent { Ok(()) } else { Err(format!("{} of {} came", came.len(), sent.len())) }
            });
        });
        lab.is_fast("ns0:eth0", C);
        assert_eq!(lab.pid(), agent);
        drop((from, bystander));
        lab.down();
        host.finish();
    }
}

/// With the inner end down, frames to it are lost, as on a plain bridge. Frames to others are not.
#[test]
fn an_inner_end_down_and_up_again() {
    on_all(|_, lab, fast| {
        let _ = lab.run("ns1", "ip link set eth0 down").ok();
        if fast {
            lab.says_of("ns1:eth0", "is down");
        }
        assert!(!lab.pings("ns0", B));
        lab.reaches("ns0", C);
        let _ = lab.run("ns1", "ip link set eth0 up").ok();
        lab.reaches_within(A_SECOND, "ns0", B);
        let [from, to] = ["ns0:eth0", "ns1:eth0"].map(|end| lab.wire(end));
        from.send(&numbered(mac_bytes(lab, "ns1"), mac_bytes(lab, "ns0"), 7));
        let _ = arrives(&to, 7);
    });
}
