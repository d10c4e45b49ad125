//! Two bridges joined by two trunks: spanning tree blocks one, and unblocks it when the other fails.

use std::time::Duration;

use super::super::common::{A_SECOND, figure};
use crate::harness::{Host, wait_until};

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
            let done =
                of("blocking") == blocking && of("forwarding") + blocking + of("disabled") == ports.len();
            if done { Ok(ports) } else { Err(format!("spanning tree does not come to an end: {ports:?}")) }
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
    let crossed =
        || figure(&host, "", "second0", ("rx", "packets")) + figure(&host, "", "second1", ("rx", "packets"));
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
    let _ = lab.accounts_balance();
    lab.down();
    let _ = host.run("ip link del second0");
    host.finish();
}
