//! Receivers that go down, disappear or move: to another namespace, or to the namespace of their port.

use std::{thread, time::Duration};

use crate::{
    harness::{CpuPin, Host, StopFlag, TIMEOUT, Wire, holds_for, wait_until},
    hazards::{
        A, A_SECOND, B, C, fast_lab, mac_bytes, numbered, on_all, on_both, received_numbers,
        wait_for_delivery, wait_for_frame,
    },
};

#[test]
fn down_and_up_again() {
    on_all(|host, lab, _| {
        let port = lab.port("ns1:eth0");
        let _ = host.run(format!("ip link set {port} down")).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("ip link set {port} up")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

#[test]
fn no_longer_a_port() {
    on_all(|host, lab, _| {
        let port = lab.port("ns1:eth0");
        let _ = host.run(format!("ip link set {port} nomaster")).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("ip link set {port} master docker0")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

/// A receiver that disappears affects no other.
#[test]
fn a_namespace_is_deleted_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let _ = host.run("ip netns del ns1").ok();
    // The kernel removes namespaces asynchronously, one after the other.
    lab.loses_within(TIMEOUT, "ns0", B);
    lab.is_fast("ns0:eth0", "172.17.0.103");
    let _ = host.vethpath("show three-hosts").ok();
    lab.down();
    host.finish();
}

#[test]
fn an_inner_end_is_deleted_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.run("ns1", "ip link del eth0").ok();
    lab.loses_within(A_SECOND, "ns0", B);
    lab.is_fast("ns0:eth0", "172.17.0.103");
    lab.down();
    host.finish();
}

#[test]
fn the_bridge_is_deleted_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let _ = host.run("ip link del docker0").ok();
    lab.loses_within(A_SECOND, "ns0", B);
    lab.down();
    host.finish();
}

#[test]
fn an_inner_end_moved_to_another_namespace_gets_its_frames_there() {
    on_both(|host, lab, fast| {
        let (a, b) = (mac_bytes(lab, "ns0"), mac_bytes(lab, "ns1"));
        let from = lab.wire("ns0:eth0");
        let _ = lab.run("ns1", "ip link set eth0 netns ns2 name moved").ok();
        let _ = host.run("ip -n ns2 link set moved up").ok();
        let moved = lab.wire("ns2:moved");
        wait_for_delivery(lab, &from, &moved, [a, b], fast);
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
    let stop = StopFlag::default();
    thread::scope(|scope| {
        let end = stop.stop_on_drop();
        scope.spawn(|| {
            let mut number = 0;
            while stop.is_running() {
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
        let _ = host.run_with_input("ip -batch -", &batch).ok();
        let _ = host.run("ip -n stranger link set other1 up").ok();
        let stranger = lab.netns("stranger").run(|| Wire::on("other1")).expect("entered").expect("a socket");
        lab.wait_for_state("ns1:eth0", "the port does not exist");
        let _ = received_numbers(&stranger);
        holds_for(Duration::from_secs(2), "a frame for ns1 came to a stranger", || {
            received_numbers(&stranger).is_empty()
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
fn a_namespace_deleted_under_load_affects_no_other_receiver() {
    for _ in 0..3 {
        let host = Host::new();
        let lab = fast_lab(&host);
        let agent = lab.pid();
        let (a, b) = (mac_bytes(&lab, "ns0"), mac_bytes(&lab, "ns1"));
        let (from, bystander) = (lab.wire("ns0:eth0"), lab.wire("ns2:eth0"));
        let c = mac_bytes(&lab, "ns2");
        let stop = StopFlag::default();
        thread::scope(|scope| {
            let end = stop.stop_on_drop();
            let sender = scope.spawn(|| {
                let _pin = CpuPin::new();
                let (mut sent, mut arrived) = (Vec::new(), Vec::new());
                while stop.is_running() {
                    let number = sent.len() as u64 + 1;
                    from.send(&numbered(b, a, u64::MAX));
                    from.send(&numbered(c, a, number));
                    sent.push(number);
                    // Read as they arrive, or the socket's buffer would overflow.
                    arrived.extend(received_numbers(&bystander));
                    thread::sleep(Duration::from_micros(500));
                }
                (sent, arrived)
            });
            thread::sleep(Duration::from_millis(200));
            let _ = host.run("ip netns del ns1").ok();
            lab.wait_for_state("ns1:eth0", "does not exist");
            drop(end);
            let (sent, mut arrived) = sender.join().expect("it sends");
            // Every other receiver still gets each frame, once and in order.
            wait_until(A_SECOND, || {
                arrived.extend(received_numbers(&bystander));
                // Frames to ns1 are flooded once its port is gone.
                arrived.retain(|number| *number != u64::MAX);
                if arrived == sent {
                    Ok(())
                } else {
                    Err(format!("{} of {} came", arrived.len(), sent.len()))
                }
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
            lab.wait_for_state("ns1:eth0", "is down");
        }
        assert!(!lab.pings("ns0", B));
        lab.reaches("ns0", C);
        let _ = lab.run("ns1", "ip link set eth0 up").ok();
        lab.reaches_within(A_SECOND, "ns0", B);
        let [from, to] = ["ns0:eth0", "ns1:eth0"].map(|end| lab.wire(end));
        from.send(&numbered(mac_bytes(lab, "ns1"), mac_bytes(lab, "ns0"), 7));
        let _ = wait_for_frame(&to, 7);
    });
}

#[test]
fn a_bridge_may_be_in_the_namespace_of_one_of_its_hosts() {
    for datapath in ["bridge", "tc"] {
        let host = Host::new();
        let place = "namespace = \"ns0\"";
        let lab = host.lab("same-namespace").with(place, &format!("{place}\ndatapath = \"{datapath}\"")).up();
        lab.reaches("ns1", "10.5.0.10");
        lab.reaches("ns0", "10.5.0.11");
        let _ =
            lab.run("ns1", "ping -n -q -c 3 -l 3 -W 5 -s 9000 10.5.0.10").ok().stdout_has(" 0% packet loss");
        if datapath == "tc" {
            lab.is_fast("ns1:eth0", "10.5.0.10");
            lab.is_fast("ns0:eth0", "10.5.0.11");
            let _ = lab.assert_counters_match();
        }
        lab.down();
        host.finish();
    }
}

#[test]
fn an_inner_end_moved_into_its_ports_namespace_gets_its_frames() {
    on_both(|host, lab, fast| {
        let (a, b) = (mac_bytes(lab, "ns0"), mac_bytes(lab, "ns1"));
        let _ = lab.run("ns1", "ip link set eth0 netns 1").ok();
        let _ = host.run("sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=1").ok();
        let _ = host.run("ip link set eth0 up").ok();
        let from = lab.wire("ns0:eth0");
        let moved =
            host.netns().run(|| Wire::on("eth0")).expect("it can be entered").expect("a packet socket");
        wait_for_delivery(lab, &from, &moved, [a, b], fast);
        // All of a hundred frames arrive, none twice.
        let sent: Vec<u64> = (1000..1100).collect();
        let pin = CpuPin::new();
        sent.iter().for_each(|n| from.send(&numbered(b, a, *n)));
        drop(pin);
        let mut arrived = Vec::new();
        wait_until(A_SECOND, || {
            arrived.extend(received_numbers(&moved).into_iter().filter(|n| *n >= 1000));
            if arrived == sent { Ok(()) } else { Err(format!("{arrived:?}")) }
        });
        drop(moved);
        // Moved back.
        let _ = host.run("ip link set eth0 netns ns1").ok();
        for command in ["ip link set eth0 up", "ip addr replace 172.17.0.102/16 dev eth0"] {
            let _ = lab.run("ns1", command).ok();
        }
        let _ = host.run("sysctl -q -w net.ipv6.conf.default.disable_ipv6=0").ok();
        lab.reaches_within(A_SECOND, "ns1", A);
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}
