//! Spanning tree decides which ports forward, also where two trunks join two bridges; a topology change flushes.

use std::time::Duration;

use crate::{
    harness::{Host, wait_until},
    hazards::{A, A_SECOND, B, C, link_counter, on_all, set_port},
};

#[test]
fn not_forwarding() {
    on_all(|host, lab, _| {
        let port = lab.port("ns1:eth0");
        // A port that was made forwarding has a timer. When it expires, a learning port is made forwarding again
        // (`br_make_forwarding`, `br_forward_delay_timer_expired` in net/bridge). Here it expires at once.
        for (delay, state) in [("0", Some("state blocking")), ("1500", None)] {
            let _ = host.run(format!("ip link set docker0 type bridge forward_delay {delay}")).ok();
            state.into_iter().for_each(|state| set_port(host, &port, state));
        }
        lab.reaches_within(A_SECOND, "ns0", B);
        // Without spanning tree, a bridge makes a blocking port forwarding at once.
        for state in ["disabled", "listening", "learning"] {
            set_port(host, &port, &format!("state {state}"));
            lab.loses_within(A_SECOND, "ns0", B);
            lab.loses_within(A_SECOND, "ns1", A);
            lab.reaches("ns0", C);
            set_port(host, &port, "state forwarding");
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

/// Bridges with spanning tree. The test sets the shortest delays that there are.
const LAB: [(&str, &str); 2] = [
    ("[bridge.middle]\ntrunks = [\"right\"]", "[bridge.middle]\nstp = true"),
    ("[bridge.left]\n", "[bridge.left]\nstp = true\n"),
];

#[test]
fn two_trunks_between_two_bridges_make_no_storm() {
    let host = Host::new();
    let mut file = host.lab("trunk");
    for (text, other) in LAB {
        file = file.with(text, other);
    }
    let lab = file.with("link = \"right\"", "link = \"middle\"").with("[bridge.right]\n", "").up();
    for bridge in ["left", "middle"] {
        let _ = host
            .run(format!("ip link set {bridge} type bridge forward_delay 200 hello_time 100 max_age 600"))
            .ok();
    }
    for command in [
        "ip link add second0 type veth peer name second1",
        "ip link set second0 master left",
        "ip link set second1 master middle",
        "ip link set second0 up",
        "ip link set second1 up",
    ] {
        let _ = host.run(command).ok();
    }
    let ports = || {
        let ports = host.json("bridge -j link");
        let states = ports.as_array().expect("a list").iter();
        states
            .map(|p| {
                (
                    p["ifname"].as_str().unwrap_or_default().to_owned(),
                    p["state"].as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect::<Vec<_>>()
    };
    let settled = |blocking: usize| {
        wait_until(Duration::from_secs(90), || {
            let ports = ports();
            let of = |state: &str| ports.iter().filter(|(_, is)| is == state).count();
            let is_settled =
                of("blocking") == blocking && of("forwarding") + blocking + of("disabled") == ports.len();
            if is_settled {
                Ok(ports)
            } else {
                Err(format!("spanning tree does not come to an end: {ports:?}"))
            }
        })
    };
    let opened = settled(1);
    assert!(opened.iter().all(|(name, state)| state == "forwarding"
        || !name.starts_with('v')
        || name.contains("second")
        || state == "blocking"));
    lab.reaches_within(Duration::from_secs(30), "ns0", "10.3.0.11");
    for (pair, state) in lab.stats().pairs.iter().map(|pair| (&pair.port, &pair.state)) {
        let forwards = opened.iter().any(|(name, is)| name == pair && is == "forwarding");
        assert!(forwards || state != "armed", "{pair} is {state}");
    }
    // A broadcast in a loop circulates forever: tens of thousands of frames a second. Hellos are only two.
    let crossed = || {
        link_counter(&host, "", "second0", ("rx", "packets"))
            + link_counter(&host, "", "second1", ("rx", "packets"))
    };
    let before = crossed();
    let _ = lab.run("ns0", "ping -n -q -c 3 -i 0.3 -W 1 10.3.0.99").fails(1);
    lab.reaches("ns0", "10.3.0.11");
    lab.reaches("ns2", "10.3.0.10");
    assert!(crossed() - before < 200, "{} frames on one trunk", crossed() - before);

    // The trunk that forwards is cut: the other takes over, and no station leads into the dead one.
    let blocked = opened.iter().find(|(_, state)| state == "blocking").map(|(name, _)| name.clone());
    let cut = if blocked.is_some_and(|name| name.starts_with("second")) {
        let links = host.json("bridge -j link");
        let all = links.as_array().expect("a list");
        let pairs: Vec<_> = lab.stats().pairs.iter().map(|pair| pair.port.clone()).collect();
        let trunk = all
            .iter()
            .filter_map(|p| p["ifname"].as_str())
            .find(|name| !name.starts_with("second") && !pairs.iter().any(|pair| pair == name));
        trunk.expect("the lab's own trunk").to_owned()
    } else {
        "second0".to_owned()
    };
    let _ = host.run(format!("ip link set {cut} down")).ok();
    lab.reaches_within(Duration::from_secs(60), "ns0", "10.3.0.11");
    lab.reaches_within(A_SECOND, "ns2", "10.3.0.10");
    // Hosts get hellos too. On a slow machine, one would arrive between any two reads of the counters.
    for bridge in ["left", "middle"] {
        let _ = host.run(format!("ip link set {bridge} type bridge max_age 4000 hello_time 1000")).ok();
    }
    let _ = lab.assert_counters_match();
    let _ = host.run("ip link del second0");
    lab.down();
    host.finish();
}
