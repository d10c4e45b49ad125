//! Several bridges joined by trunks: one redirect crosses them all, without a visible difference.

mod stations;

use std::time::Duration;

use crate::{
    harness::{Host, LabFile, Output, SLACK, Stats, TIMEOUT, iperf, received, wait_for, wait_until},
    hazards::wait_for_tcpdump,
};

/// The time within which a change must be detected.
const SOON: Duration = Duration::from_secs(10).saturating_add(SLACK);

/// `bridges` bridges in a row, b1 to bN, each with `options`; ns0 on the first and ns1 on the last.
fn chain<'h>(host: &'h Host, bridges: usize, options: &str) -> LabFile<'h> {
    let mut text = String::new();
    for number in 1..=bridges {
        let trunk =
            if number < bridges { format!("trunks = [\"b{}\"]\n", number + 1) } else { String::new() };
        text += &format!("[bridge.b{number}]\n{trunk}{options}\n");
    }
    for (host, bridge) in [(0, 1), (1, bridges)] {
        text += &format!(
            "[namespace.ns{host}.interface.eth0]\nlink = \"b{bridge}\"\naddresses = [\"10.5.0.1{host}/24\"]\n\
             mac = \"02:00:00:00:05:0{host}\"\n"
        );
    }
    host.lab("empty").and(&text).named("chain")
}

const FAR: &str = "10.5.0.11";

/// The MAC of a host of [`chain`].
fn mac(host: usize) -> String {
    format!("02:00:00:00:05:0{host}")
}

#[test]
fn eight_bridges_are_crossed_in_one_redirect_and_counted() {
    let host = Host::new();
    let lab = chain(&host, 8, "").up();
    lab.is_fast("ns0:eth0", FAR);
    lab.is_fast("ns1:eth0", "10.5.0.10");
    let before = lab.assert_counters_match();
    let crossed = |stats: &Stats| {
        let counts = stats.trunks.iter().map(|trunk| (trunk.fast.tx.packets, trunk.fast.rx.packets));
        counts.collect::<Vec<_>>()
    };
    let at_first = crossed(&before);
    let report = iperf(&lab, "ns0", ("ns1", FAR), "--time 1");
    assert!(received(&report) > 1_000_000);
    let after = lab.assert_counters_match();
    let fast = |stats: &Stats, pair| stats.pair(pair).fast.tx.packets;
    let (sent, answered) = (
        fast(&after, "ns0:eth0") - fast(&before, "ns0:eth0"),
        fast(&after, "ns1:eth0") - fast(&before, "ns1:eth0"),
    );
    assert!(sent > 500, "{sent} of {report:#}");
    assert_eq!(after.trunks.len(), 7);
    assert!(lab.live_stats().trunks.iter().all(|trunk| trunk.state == "armed"));
    for (trunk, (tx, rx)) in after.trunks.iter().zip(at_first) {
        assert_eq!((trunk.fast.tx.packets - tx, trunk.fast.rx.packets - rx), (sent, answered), "{trunk:#?}");
    }
    // Every frame that crossed them is counted once, by the programs or by the kernel. Between the two reads, a host
    // may send neighbour discovery.
    wait_until(Duration::from_secs(20) + SLACK, || {
        let stats = lab.stats();
        for trunk in &stats.trunks {
            let link = host.json(format!("ip -s -j link show dev {}", trunk.port));
            let kernel =
                |direction: &str| link[0]["stats64"][direction]["packets"].as_u64().expect("a counter");
            let counted = [kernel("tx") + trunk.fast.tx.frames, kernel("rx") + trunk.fast.rx.frames];
            if [trunk.tx.frames, trunk.rx.frames] != counted {
                return Err(format!("{trunk:#?}: {counted:?} with what the kernel counted"));
            }
        }
        Ok(())
    });
    let matrix = host.vethpath("stats --matrix --json").ok().json();
    let cells: Vec<_> = matrix["matrix"].as_array().expect("a list").iter().collect();
    let cell = |from: &str| cells.iter().find(|cell| cell["from"] == from).expect("a cell");
    assert_eq!(cells.len(), 2, "{matrix:#}");
    assert_eq!(cell("ns0:eth0")["to"], "ns1:eth0");
    assert_eq!(cell("ns0:eth0")["packets"], after.pair("ns0:eth0").fast.tx.packets);
    assert_eq!(cell("ns1:eth0")["packets"], after.pair("ns0:eth0").fast.rx.packets);
    lab.down();
    host.finish();
}

/// Whatever happens to a trunk, frames arrive, or not, as on plain bridges. The segment is split meanwhile.
#[test]
fn a_trunk_that_does_more_than_forward_splits_the_segment() {
    let host = Host::new();
    let lab = chain(&host, 3, "").up();
    lab.is_fast("ns0:eth0", FAR);
    let stats = lab.stats();
    let (port, far_port) = (stats.trunk("b1 - b2").port.clone(), stats.trunk("b1 - b2").far_port.clone());
    let nft = "nft add table bridge t; nft add chain bridge t c { type filter hook forward priority filter\\; }; \
               nft add rule bridge t c counter";
    let cases = [
        (
            format!("tc qdisc add dev {port} root pfifo"),
            format!("tc qdisc del dev {port} root"),
            "qdisc pfifo",
        ),
        (
            format!(
                "tc qdisc add dev {far_port} clsact; tc filter add dev {far_port} egress \
                 protocol ip u32 match ip dst 192.0.2.1 flowid 1:1"
            ),
            format!("tc qdisc del dev {far_port} clsact"),
            "foreign",
        ),
        (
            format!("bridge link set dev {far_port} neigh_suppress on"),
            format!("bridge link set dev {far_port} neigh_suppress off"),
            "neigh_suppress",
        ),
        (
            format!("bridge link set dev {port} learning off"),
            format!("bridge link set dev {port} learning on"),
            "learning",
        ),
        (format!("ethtool -K {port} tx off"), format!("ethtool -K {port} tx on"), "offloads"),
        (format!("sh -c '{nft}'"), "nft delete table bridge t".to_owned(), "nft"),
    ];
    let state = || lab.stats().trunk("b1 - b2").state.clone();
    for (change, restore, reason) in cases {
        let _ = shell(&host, &change).ok();
        wait_until(SOON, || {
            let state = state();
            if state.contains(reason) { Ok(()) } else { Err(format!("{change}: {state}")) }
        });
        let before = lab.stats().trunk("b1 - b2").fast.tx.packets;
        lab.reaches("ns0", FAR);
        assert_eq!(lab.stats().trunk("b1 - b2").fast.tx.packets, before, "{change}");
        let _ = shell(&host, &restore).ok();
        wait_for(SOON, "the trunk is not armed again", || state() == "armed");
        lab.is_fast("ns0:eth0", FAR);
    }
    // tcpdump on a trunk sees what crosses it.
    let tcpdump = host.spawn(format!("timeout 120 tcpdump -n -l -c 6 -i {far_port} icmp"));
    // tcpdump opens its socket before it sets the filter.
    let tcpdump = wait_for_tcpdump(tcpdump);
    wait_for(SOON, "the packet socket is not seen", || state() == "a packet socket on the port");
    lab.reaches("ns0", FAR);
    let seen = tcpdump.wait(TIMEOUT).ok();
    assert_eq!(seen.stdout.matches("ICMP echo request").count(), 3, "{seen}");
    wait_for(SOON, "the trunk is not armed again", || state() == "armed");
    // A trunk that is down drops frames.
    let _ = host.run(format!("ip link set {port} down")).ok();
    lab.loses_within(SOON, "ns0", FAR);
    let _ = host.run(format!("ip link set {port} up")).ok();
    lab.reaches_within(SOON, "ns0", FAR);
    lab.is_fast("ns0:eth0", FAR);
    lab.down();
    host.finish();
}

fn shell(host: &Host, command: &str) -> Output {
    host.run(["sh", "-c", command])
}

/// Bridges do not forward from one isolated port to another.
#[test]
fn isolated_ports_on_the_path_are_honoured() {
    for datapath in ["tc", "bridge"] {
        let host = Host::new();
        let lab = chain(&host, 3, &format!("datapath = \"{datapath}\"")).up();
        let arrives = || {
            lab.reaches_within(SOON, "ns0", FAR);
            if datapath == "tc" {
                lab.is_fast("ns0:eth0", FAR);
            }
        };
        lab.reaches_within(SLACK, "ns0", FAR);
        arrives();
        let stats = lab.stats();
        let ends = [stats.trunk("b1 - b2").far_port.clone(), stats.trunk("b2 - b3").port.clone()];
        let first = lab.port("ns0:eth0");
        let isolate = |port: &str, on: &str| {
            let _ = host.run(format!("bridge link set dev {port} isolated {on}")).ok();
        };
        isolate(&ends[0], "on");
        arrives();
        isolate(&ends[1], "on");
        lab.loses_within(SOON, "ns0", FAR);
        isolate(&ends[1], "off");
        arrives();
        // The sender's own port, and the port by which its frames leave the bridge.
        isolate(&first, "on");
        arrives();
        isolate(&stats.trunk("b1 - b2").port, "on");
        lab.loses_within(SOON, "ns0", FAR);
        isolate(&first, "off");
        arrives();
        lab.down();
        host.finish();
    }
}

/// The smallest MTU on the path applies.
#[test]
fn a_trunk_with_a_smaller_mtu_drops_what_does_not_fit() {
    for datapath in ["tc", "bridge"] {
        let host = Host::new();
        let lab = chain(&host, 3, &format!("datapath = \"{datapath}\"")).up();
        let is_fast = || {
            if datapath == "tc" {
                lab.is_fast("ns0:eth0", FAR);
            }
        };
        lab.reaches_within(SLACK, "ns0", FAR);
        is_fast();
        let ping =
            |size: u32| lab.run("ns0", format!("ping -n -q -c 1 -W 5 -M do -s {size} {FAR}")).succeeded();
        assert!(ping(1472), "{datapath}");
        let port = lab.stats().trunk("b2 - b3").far_port.clone();
        let _ = host.run(format!("ip link set {port} mtu 1300")).ok();
        wait_for(SOON, "1500 bytes still arrive", || !ping(1472));
        assert!(ping(1200), "{datapath}");
        is_fast();
        lab.down();
        host.finish();
    }
}

/// A ring of three bridges: spanning tree blocks one trunk, frames are fast across the tree, and they take the other
/// path when a trunk of the tree goes down.
#[test]
fn spanning_tree_decides_which_trunks_are_crossed() {
    let host = Host::new();
    let ring = "
[bridge.b1]
stp = true
trunks = [\"b2\"]
[bridge.b2]
stp = true
trunks = [\"b3\"]
[bridge.b3]
stp = true
trunks = [\"b1\"]
[namespace.ns0.interface.eth0]
link = \"b1\"
addresses = [\"10.5.0.10/24\"]
[namespace.ns1.interface.eth0]
link = \"b2\"
addresses = [\"10.5.0.11/24\"]
[namespace.ns2.interface.eth0]
link = \"b3\"
addresses = [\"10.5.0.12/24\"]
";
    let long = Duration::from_secs(90);
    let lab = host.lab("empty").and(ring).named("ring").up();
    for bridge in ["b1", "b2", "b3"] {
        // The smallest values that 802.1D allows.
        let _ = host
            .run(format!("ip link set {bridge} type bridge hello_time 100 max_age 600 forward_delay 400"))
            .ok();
    }
    let all = [("ns0:eth0", FAR), ("ns1:eth0", "10.5.0.12"), ("ns2:eth0", "10.5.0.10")];
    let everybody = || {
        for (pair, to) in all {
            lab.reaches_within(long, &pair[..3], to);
            lab.is_fast(pair, to);
        }
    };
    everybody();
    let states = || -> Vec<_> {
        lab.stats()
            .trunks
            .iter()
            .map(|trunk| (trunk.name.clone(), trunk.port.clone(), trunk.state.clone()))
            .collect()
    };
    let armed = || states().into_iter().filter(|(.., state)| state == "armed").collect::<Vec<_>>();
    wait_for(long, "one trunk is blocked and two are armed", || armed().len() == 2);
    // Flooded frames come back by the blocked trunk: no station has moved.
    everybody();
    let moved = || all.map(|(pair, _)| lab.stats().pair(pair).slow("moved"));
    let before = moved();
    for namespace in ["ns0", "ns1", "ns2"] {
        let _ = lab.run(namespace, "ping -n -q -c 2 -i 0.3 -W 1 10.5.0.99").fails(1);
    }
    everybody();
    assert_eq!(moved(), before);
    let (broken, port) = wait_until(long, || match &armed()[..] {
        [(name, port, _), _] => Ok((name.clone(), port.clone())),
        other => Err(format!("two are armed, not {other:?}")),
    });
    let _ = host.run(format!("ip link set {port} down")).ok();
    wait_until(long, || {
        let armed = armed();
        if armed.len() == 2 && armed.iter().all(|(name, ..)| *name != broken) {
            Ok(())
        } else {
            Err(format!("{armed:?}"))
        }
    });
    everybody();
    // Hosts get hellos too. On a slow machine, one would arrive between any two reads.
    for bridge in ["b1", "b2", "b3"] {
        let _ = host.run(format!("ip link set {bridge} type bridge max_age 4000 hello_time 1000")).ok();
    }
    lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// Frames cross a trunk between two namespaces or to a plain bridge on the slow path.
#[test]
fn trunks_that_cannot_be_crossed_have_a_reason() {
    let host = Host::new();
    let lab = chain(&host, 3, "")
        .with("[bridge.b3]\n", "[bridge.b3]\nnamespace = \"fabric\"\n")
        .and("[namespace.fabric]\n")
        .up();
    lab.reaches_within(SLACK, "ns0", FAR);
    let wait_for_trunk_state = |trunk: &str, state: &str| {
        wait_until(TIMEOUT, || {
            let now = lab.stats().trunk(trunk).state.clone();
            if now == state { Ok(()) } else { Err(format!("{trunk} is {now:?}")) }
        });
    };
    wait_for_trunk_state("b1 - b2", "armed");
    wait_for_trunk_state("b2 - b3", "the trunk joins two namespaces");
    wait_until(TIMEOUT, || {
        let shown = host.vethpath("show --json").ok().json();
        let ports = shown["bridges"]
            .as_array()
            .expect("a list")
            .iter()
            .flat_map(|b| b["ports"].as_array().expect("a list"));
        let states: Vec<_> = ports.map(|port| &port["state"]).collect();
        let joins = states.iter().filter(|state| **state == "the trunk joins two namespaces").count();
        if joins == 2 { Ok(()) } else { Err(format!("{states:?}")) }
    });
    lab.down();
    let lab = chain(&host, 3, "").with("[bridge.b2]\n", "[bridge.b2]\ndatapath = \"bridge\"\n").up();
    lab.reaches_within(SLACK, "ns0", FAR);
    wait_for(TIMEOUT, "a plain bridge is in between", || {
        lab.stats().trunks.iter().all(|trunk| trunk.state == "datapath is \"bridge\"")
    });
    lab.down();
    host.finish();
}
