//! Guest ports: veth ports that other programs plug into a bridge with `guests`.

use aya::{
    maps::{HashMap, Map, MapData, PerCpuHashMap},
    programs::{SchedClassifier, TcAttachType},
};
use serde_json::Value;
use vethpath_common::{Count, MatrixKey, PortKey, PortRecord, names};

use crate::harness::{Host, Lab, LabFile, SLACK, TIMEOUT, holds_for, sized, wait_for, wait_until};

/// A lab whose bridge accelerates guest ports.
fn file(host: &Host) -> LabFile<'_> {
    host.lab("three-hosts").with("[bridge.docker0]\n", "[bridge.docker0]\nguests = true\n")
}

/// What another program makes: a port with this number, and a namespace with its inner end.
fn make(host: &Host, number: usize) {
    let inside = format!("guest{number}");
    for command in [
        format!("ip netns add {inside}"),
        format!("ip link add veth{number} type veth peer name eth0 netns {inside}"),
        format!("ip -n {inside} addr add 172.17.1.{number}/16 dev eth0"),
    ] {
        let _ = host.run(command).ok();
    }
}

/// Plugs a port into the bridge. Its inner end comes up when the port is counted, so that no frame is missed.
fn plug(host: &Host, number: usize) {
    make(host, number);
    let _ = host.run(format!("ip link set veth{number} master docker0 up")).ok();
    wait_for_state(host, &format!("docker0/veth{number}"), "the inner end is down");
    let _ = host.run(format!("ip -n guest{number} link set eth0 up")).ok();
}

/// Takes it away again. The port goes with the namespace.
fn unplug(host: &Host, number: usize) {
    let _ = host.run(format!("ip link del veth{number}")).ok();
    let _ = host.run(format!("ip netns del guest{number}")).ok();
}

/// `vethpath stats --json`.
fn stats(host: &Host) -> Value {
    host.vethpath("stats three-hosts --json").ok().json()
}

/// A pair or guest port of these stats.
fn pair<'a>(stats: &'a Value, name: &str) -> Option<&'a Value> {
    stats["pairs"].as_array().expect("a list").iter().find(|pair| pair["name"] == name)
}

#[track_caller]
fn wait_for_state(host: &Host, name: &str, state: &str) {
    wait_until(TIMEOUT, || match pair(&stats(host), name) {
        Some(pair) if pair["state"] == state => Ok(()),
        other => Err(format!("{name}: {other:#?}")),
    });
}

fn packets(count: &Value) -> u64 {
    count["packets"].as_u64().expect("a number")
}

/// Waits until the pings of a guest take the fast path in both directions.
#[track_caller]
fn is_fast(lab: &Lab<'_>, host: &Host, number: usize) {
    let name = format!("docker0/veth{number}");
    let of = |stats: &Value| {
        let pair = pair(stats, &name).unwrap_or_else(|| panic!("no {name} in {stats:#}")).clone();
        packets(&pair["fast"]["tx"]).min(packets(&pair["fast"]["rx"]))
    };
    let mut before = of(&stats(host));
    wait_until(SLACK, || {
        lab.reaches(&format!("guest{number}"), "172.17.0.101");
        let now = of(&stats(host));
        let fast = now - std::mem::replace(&mut before, now);
        if fast >= 3 { Ok(()) } else { Err(format!("{fast} of 3 pings were fast: {:#}", stats(host))) }
    });
}

/// The packets that a guest has sent, by vethpath and by the kernel.
fn sent(host: &Host, number: usize) -> (u64, u64) {
    let link = host.json(format!("ip -n guest{number} -s -j link show eth0"));
    let kernel = link[0]["stats64"]["tx"]["packets"].as_u64().expect("a number");
    let stats = stats(host);
    (packets(&pair(&stats, &format!("docker0/veth{number}")).expect("it is there")["tx"]), kernel)
}

/// Whether a program or filter is at the ingress of a port.
pub(crate) fn has_program(host: &Host, port: &str) -> bool {
    let query = host.netns().run(|| SchedClassifier::query_tcx(port, TcAttachType::Ingress));
    let (_, tcx) = query.expect("it can be entered").expect("it is there");
    !tcx.is_empty() || host.run(format!("tc filter show dev {port} ingress")).ok().stdout.contains("bpf")
}

#[test]
fn a_port_that_is_plugged_in_is_accelerated_and_counted() {
    let host = Host::new();
    // Its inner end has sent before, which is not counted here.
    make(&host, 1);
    for command in
        ["ip -n guest1 link set eth0 up", "ip link set veth1 up", "ip addr add 172.17.9.9/16 dev veth1"]
    {
        let _ = host.run(command).ok();
    }
    wait_for(SLACK, "the guest is not up", || {
        host.run("ip netns exec guest1 ping -n -q -c 1 -W 1 172.17.9.9").succeeded()
    });
    let _ = host.run("ip addr flush dev veth1").ok();
    let lab = file(&host).up();
    let _ = host.run("ip link set veth1 master docker0").ok();
    wait_for_state(&host, "docker0/veth1", "armed");
    plug(&host, 2);
    wait_for_state(&host, "docker0/veth2", "armed");
    is_fast(&lab, &host, 1);
    is_fast(&lab, &host, 2);
    lab.reaches("guest1", "172.17.1.2");
    wait_until(SLACK, || match (sent(&host, 2), pair(&stats(&host), "docker0/veth2")) {
        ((ours, kernel), Some(pair)) if ours == kernel && pair["guest"] == true => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let (ours, kernel) = sent(&host, 1);
    assert!(ours < kernel, "what it sent before is left out: {ours} of {kernel}");
    let flows = host.vethpath("stats three-hosts --matrix --json").ok().json();
    let is_there = |flow: &Value| flow["from"] == "docker0/veth1" && flow["to"] == "docker0/veth2";
    assert!(flows["matrix"].as_array().is_some_and(|flows| flows.iter().any(is_there)), "{flows:#}");

    // Engines rename and move what they made. The number and the counts stay.
    let before = packets(&pair(&stats(&host), "docker0/veth2").expect("it is there")["tx"]);
    let _ = host.run("ip link set veth2 name other2").ok();
    wait_for_state(&host, "docker0/other2", "armed");
    assert!(packets(&pair(&stats(&host), "docker0/other2").expect("it is there")["tx"]) >= before);
    let _ = host.run("ip link set other2 name veth2").ok();
    wait_for_state(&host, "docker0/veth2", "armed");
    is_fast(&lab, &host, 2);

    let show = host.vethpath("show three-hosts --json").ok().json();
    let ports = show["bridges"][0]["ports"].as_array().cloned().expect("a list");
    let of = |name: &str| ports.iter().find(|port| port["name"] == name).cloned().unwrap_or_default();
    assert_eq!(
        (of("veth1")["leads_to"].as_str(), of("veth1")["state"].as_str()),
        (Some("guest guest1:eth0"), Some("armed"))
    );

    // Off the bridge it is an ordinary device.
    let _ = host.run("ip link set veth2 nomaster").ok();
    wait_for(SLACK, "the program stays", || !has_program(&host, "veth2"));
    wait_for(SLACK, "it is listed", || pair(&stats(&host), "docker0/veth2").is_none());
    let events = host.vethpath("events three-hosts --json --pair docker0/veth2").ok();
    let events: Vec<Value> =
        events.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    // A reason may change before it is armed.
    kinds.dedup();
    let expected = ["pair-not-armed", "pair-armed", "guest-left", "pair-armed", "guest-left"];
    assert_eq!(kinds, expected, "{events:#?}");
    unplug(&host, 1);
    unplug(&host, 2);
    lab.down();
    host.finish();
}

/// All that the guests of the lab have sent: of those that are there, and of those that have left.
fn all_sent(stats: &Value) -> u64 {
    let here = stats["pairs"].as_array().expect("a list").iter().filter(|pair| pair["guest"] == true);
    here.map(|pair| packets(&pair["tx"])).sum::<u64>() + packets(&stats["former"]["tx"])
}

/// What the agent needs: descriptors, and elements of the maps.
pub(crate) fn use_of(host: &Host, lab: &str, pid: i32) -> (usize, usize) {
    let descriptors = std::fs::read_dir(host.path(&format!("/proc/{pid}/fd"))).expect("it is alive").count();
    let map = |name: &str| {
        let path = host.path(&format!("/sys/fs/bpf/vethpath/{lab}/{name}"));
        MapData::from_pin(path).expect("it is pinned")
    };
    let ports = HashMap::<_, PortKey, PortRecord>::try_from(Map::HashMap(map(names::PORTS)));
    let cells = PerCpuHashMap::<_, MatrixKey, Count>::try_from(Map::PerCpuHashMap(map(names::MATRIX)));
    let elements =
        ports.expect("it has this type").keys().count() + cells.expect("it has this type").keys().count();
    (descriptors, elements)
}

#[test]
fn ports_come_and_go_and_no_count_is_lost() {
    let host = Host::new();
    let lab = file(&host).up();
    let before = use_of(&host, "three-hosts", lab.pid());
    let mut sent_in_all = 0;
    // Many more ports than there are at once. In the last round they come all at once.
    let rounds = sized(3, 125);
    for _ in 0..rounds {
        let numbers: Vec<usize> = (1..=8).collect();
        numbers.iter().for_each(|&number| plug(&host, number));
        for &number in &numbers {
            wait_for_state(&host, &format!("docker0/veth{number}"), "armed");
            lab.reaches(&format!("guest{number}"), "172.17.0.102");
            lab.reaches(&format!("guest{number}"), &format!("172.17.1.{}", number % 8 + 1));
        }
        for &number in &numbers {
            // It sends nothing more.
            let _ = host.run(format!("ip -n guest{number} link set eth0 down")).ok();
            sent_in_all += wait_until(SLACK, || match sent(&host, number) {
                (ours, kernel) if ours == kernel => Ok(kernel),
                other => Err(format!("guest{number} sent: {other:?}")),
            });
        }
        numbers.iter().for_each(|&number| unplug(&host, number));
        wait_until(SLACK, || match all_sent(&stats(&host)) {
            all if all == sent_in_all => Ok(()),
            all => Err(format!("{all} packets, not {sent_in_all}")),
        });
    }
    let stats = stats(&host);
    assert!(packets(&stats["former"]["fast"]["tx"]) > 0, "{stats:#}");
    wait_until(TIMEOUT, || match use_of(&host, "three-hosts", lab.pid()) {
        // One cell of the traffic matrix for each pair with those that have left.
        (descriptors, elements) if descriptors <= before.0 && elements <= before.1 + 8 => Ok(()),
        after => Err(format!("(descriptors, elements) were {before:?}, and are {after:?}")),
    });
    lab.down();
    host.finish();
}

/// It gets the number that it had. What it had counted moved away before that.
#[test]
fn a_port_that_leaves_its_bridge_and_comes_back_counts_nothing_twice() {
    let host = Host::new();
    let lab = file(&host).up();
    plug(&host, 1);
    wait_for_state(&host, "docker0/veth1", "armed");
    is_fast(&lab, &host, 1);
    let _ = host.run("ip link set veth1 nomaster").ok();
    wait_for(SLACK, "its counts have not moved", || {
        let stats = stats(&host);
        pair(&stats, "docker0/veth1").is_none() && packets(&stats["former"]["fast"]["tx"]) > 0
    });
    let _ = host.run("ip link set veth1 master docker0").ok();
    wait_for_state(&host, "docker0/veth1", "armed");
    is_fast(&lab, &host, 1);
    let _ = host.run("ip -n guest1 link set eth0 down").ok();
    // What it sent without a bridge is in neither.
    let link = host.json("ip -n guest1 -s -j link show eth0");
    let kernel = link[0]["stats64"]["tx"]["packets"].as_u64().expect("a number");
    let stats = stats(&host);
    assert!(all_sent(&stats) <= kernel, "{kernel} packets in all: {stats:#}");
    unplug(&host, 1);
    lab.down();
    host.finish();
}

#[test]
fn an_agent_takes_over_guest_ports_and_their_counts() {
    let host = Host::new();
    let lab = file(&host).up();
    for number in [1, 2, 3] {
        plug(&host, number);
        wait_for_state(&host, &format!("docker0/veth{number}"), "armed");
        is_fast(&lab, &host, number);
    }
    let before = all_sent(&stats(&host));
    let agent = lab.pid();
    let _ = host.run(format!("kill -KILL {agent}")).ok();
    host.wait_for_exit(agent);
    // While there is none, a port leaves the bridge, and another is made in its place.
    let _ = host.run("ip link set veth1 nomaster").ok();
    unplug(&host, 2);
    make(&host, 2);
    let _ = host.run("ip link set veth2 master docker0 up").ok();
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    wait_for_state(&host, "docker0/veth2", "the inner end is down");
    let _ = host.run("ip -n guest2 link set eth0 up").ok();
    for number in [2, 3] {
        wait_for_state(&host, &format!("docker0/veth{number}"), "armed");
        is_fast(&lab, &host, number);
    }
    wait_for(SLACK, "the program stays", || !has_program(&host, "veth1"));
    wait_until(SLACK, || {
        let stats = stats(&host);
        let is_less = all_sent(&stats) < before + 6;
        let wrong =
            [2, 3].map(|number| sent(&host, number)).into_iter().find(|(ours, kernel)| ours != kernel);
        if is_less || wrong.is_some() { Err(format!("{before}: {wrong:?} {stats:#}")) } else { Ok(()) }
    });

    // Larger maps for a lab that grows.
    let more =
        "\n[group.h]\ncount = 80\nbridge = \"docker0\"\nsubnet = \"172.17.0.0/16\"\nfirst = \"172.17.4.1\"\n";
    let before = all_sent(&stats(&host));
    let _ = host.vethpath(format!("up {}", file(&host).and(more).write())).ok();
    for number in [2, 3] {
        wait_for_state(&host, &format!("docker0/veth{number}"), "armed");
        is_fast(&lab, &host, number);
        // It may send a neighbour solicitation between the reads.
        wait_until(SLACK, || match sent(&host, number) {
            (ours, kernel) if ours == kernel => Ok(()),
            other => Err(format!("guest {number} has sent {other:?}")),
        });
    }
    assert!(all_sent(&stats(&host)) > before);
    (1..=3).for_each(|number| unplug(&host, number));
    lab.down();
    host.finish();
}

/// `up` without the key, and `down`, leave ordinary ports.
#[test]
fn what_others_made_is_left_as_it_was() {
    for options in ["", "--hook clsact"] {
        let host = Host::new();
        let lab = file(&host).up_with(options);
        plug(&host, 1);
        wait_for_state(&host, "docker0/veth1", "armed");
        assert!(has_program(&host, "veth1"));
        let plain = host.lab("three-hosts").write();
        let _ = host.vethpath(format!("plan {plain}")).ok().stdout_has("guests true -> false");
        let _ = host.vethpath(format!("up {plain}")).ok();
        wait_for(SLACK, "the program stays", || !has_program(&host, "veth1"));
        assert_eq!(stats(&host)["pairs"].as_array().map(Vec::len), Some(3));
        lab.reaches("guest1", "172.17.0.101");

        let file = file(&host).write();
        let _ = host.vethpath(format!("up {file}")).ok();
        wait_for_state(&host, "docker0/veth1", "armed");
        is_fast(&lab, &host, 1);
        let _ = host.vethpath("down three-hosts").fails(1).stderr_has("veth1").stderr_has("hint:");
        holds_for(std::time::Duration::from_millis(300), "it is armed", || {
            pair(&stats(&host), "docker0/veth1").is_some()
        });
        let _ = host.vethpath("down three-hosts --force").ok();
        lab.forget();
        wait_for(SLACK, "the program stays", || !has_program(&host, "veth1"));
        let qdiscs = host.run("tc qdisc show dev veth1").ok();
        assert!(!qdiscs.stdout.contains("clsact"), "{qdiscs}");
        unplug(&host, 1);
        host.finish();
    }
}

/// Rules that were there before a port joins are obeyed from its first frame on.
#[test]
fn a_port_that_joins_under_rules_is_never_armed() {
    let host = Host::new();
    let lab = file(&host).up();
    for command in [
        "nft add table bridge g",
        "nft add chain bridge g f { type filter hook forward priority filter ; policy accept ; }",
        "nft add rule bridge g f ip protocol icmp drop",
    ] {
        let _ = host.run(command).ok();
    }
    lab.wait_for_state("ns0:eth0", "nft");
    for number in [1, 2] {
        make(&host, number);
        let _ = host.run(format!("ip -n guest{number} link set eth0 up")).ok();
        let _ = host.run(format!("ip link set veth{number} master docker0 up")).ok();
    }
    let talk = lab.run("guest1", "ping -n -q -c 200 -i 0.01 -W 1 172.17.1.2");
    assert!(talk.stdout.contains(" 0 received"), "{talk}");
    let stats = stats(&host);
    for number in [1, 2] {
        let pair = pair(&stats, &format!("docker0/veth{number}")).expect("it is there");
        assert_eq!(packets(&pair["fast"]["tx"]), 0, "{pair:#}");
        assert!(pair["state"].as_str().is_some_and(|state| state.contains("nft")), "{pair:#}");
    }
    let _ = host.run("nft delete table bridge g").ok();
    unplug(&host, 1);
    unplug(&host, 2);
    lab.down();
    host.finish();
}

/// A changed lab keeps its guest ports, their numbers and their counts.
#[test]
fn a_lab_that_changes_keeps_its_guest_ports() {
    let host = Host::new();
    let lab = file(&host).up();
    plug(&host, 1);
    wait_for_state(&host, "docker0/veth1", "armed");
    is_fast(&lab, &host, 1);
    let talk = lab.spawn("guest1", "ping -n -q -i 0.002 -c 2000 172.17.0.101");
    for number in 0..3 {
        let address = format!("172.17.0.{}/16", 120 + number);
        let more = format!(
            "\n[namespace.m{number}.interface.eth0]\nlink = \"docker0\"\naddresses = [\"{address}\"]\n"
        );
        let _ = host.vethpath(format!("up {}", file(&host).and(&more).write())).ok();
    }
    let report = talk.wait(TIMEOUT).ok();
    assert!(report.stdout.contains(" 0% packet loss"), "{report}");
    wait_until(SLACK, || {
        let stats = stats(&host);
        let pair = pair(&stats, "docker0/veth1").expect("it is there");
        let unseen = pair["slow"]["unseen"].as_u64().unwrap_or_default();
        match sent(&host, 1) {
            (ours, kernel) if ours == kernel && unseen == 0 => Ok(()),
            other => Err(format!("{other:?}, unseen {unseen}: {pair:#}")),
        }
    });
    unplug(&host, 1);
    lab.down();
    host.finish();
}
