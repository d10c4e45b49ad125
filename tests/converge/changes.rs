//! What a changed file changes, and what it does not. An `up` with nothing to do changes nothing.

use std::time::{Duration, Instant};

use super::{address, change_to, host_on, hosts, identity, up};
use crate::harness::{Host, Iperf, SLACK, Stream, received, wait_for, wait_until, wait_until_stable};

/// Two hosts exchange a stream while the lab around them changes many times.
#[test]
fn a_stream_loses_nothing_while_other_hosts_change() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    lab.is_fast("h0:eth0", &address(1));
    let (h0, h1) = (identity(&host, "h0"), identity(&host, "h1"));
    let stream = Stream::start(&lab, ("h0", &address(0)), ("h1", &address(1)), Duration::from_millis(1));
    let with = |key: &str| hosts(0..3).replace("[bridge.br0]\n", &format!("[bridge.br0]\n{key}\n"));
    let texts = [
        hosts(0..5),
        hosts([4, 0, 1]),
        hosts([0, 1, 2, 7]) + "[bridge.br1]\n" + &host_on(8, "br1"),
        hosts(0..3).replace("10.9.1.2/16", "10.9.7.7/16"),
        hosts(0..3) + "mtu = 1400\n",
        hosts(0..3) + "[namespace.fabric]\n[bridge.br2]\nnamespace = \"fabric\"\n" + &host_on(9, "br2"),
        with("trunks = [\"br1\"]") + "[bridge.br1]\n" + &host_on(8, "br1"),
        with("ageing_time = 60"),
        hosts(0..3) + "[namespace.h2.interface.c0]\nlink = \"h3:c0\"\n[namespace.h3]\n",
        hosts(0..2),
    ];
    for text in &texts {
        let _ = change_to(&host, text);
        assert_eq!([identity(&host, "h0"), identity(&host, "h1")], [h0.clone(), h1.clone()], "{text}");
    }
    for report in stream.end() {
        assert!(report.sent > 1000 && report.lost() == 0 && report.duplicated == 0, "{report:?}");
    }
    lab.is_fast("h0:eth0", &address(1));
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// Changes one key after the other, and checks what `ip` and `bridge` print.
#[test]
fn each_key_can_change() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let with = |key: &str| hosts(0..2).replace("[bridge.br0]\n", &format!("[bridge.br0]\n{key}\n"));
    let bridge = || host.json("ip -d -j link show br0")[0].clone();
    let data = || bridge()["linkinfo"]["info_data"].clone();

    assert_eq!(
        change_to(&host, &with("ageing_time = 60")),
        ["~ change bridge br0: ageing_time 300 s -> 60 s"]
    );
    assert_eq!(data()["ageing_time"], 6000);
    assert_eq!(change_to(&host, &hosts(0..2)), ["~ change bridge br0: ageing_time 60 s -> 300 s"]);
    assert_eq!(change_to(&host, &with("stp = true")), ["~ change bridge br0: stp false -> true"]);
    assert_eq!(data()["stp_state"], 1);
    let _ = change_to(&host, &with("mac = \"02:00:00:00:00:99\""));
    assert_eq!(
        (data()["stp_state"].clone(), bridge()["address"].clone()),
        (0.into(), "02:00:00:00:00:99".into())
    );
    let _ = change_to(&host, &with("mtu = 4000"));
    assert_eq!(bridge()["mtu"], 4000);
    let eth0 = |host: &Host| host.json("ip -n h0 -j addr show eth0")[0].clone();
    assert_eq!(eth0(&host)["mtu"], 4000);
    let _ = change_to(&host, &hosts(0..2));
    assert_eq!((bridge()["mtu"].clone(), eth0(&host)["mtu"].clone()), (1500.into(), 1500.into()));

    // The kernel has lowered the MTU to that of a port, and raises it again when the port is removed.
    let beside = |key: &str| hosts(0..2) + &format!("[bridge.br1]\n{key}\n[bridge.br2]\nmtu = 1400\n");
    let _ = change_to(&host, &beside("trunks = [\"br2\"]"));
    let br1 = || host.json("ip -j link show br1")[0]["mtu"].clone();
    assert_eq!(br1(), 1400);
    let _ = change_to(&host, &beside("mtu = 1400"));
    assert_eq!(br1(), 1400);
    let _ = change_to(&host, &hosts(0..2));

    let _ = change_to(&host, &with("datapath = \"bridge\""));
    assert_eq!(lab.state("h0:eth0"), "datapath is \"bridge\"");
    lab.reaches("h0", &address(1));
    let _ = change_to(&host, &hosts(0..2));
    lab.is_fast("h0:eth0", &address(1));

    let mac = hosts(0..2).replace(
        "[namespace.h0.interface.eth0]\n",
        "[namespace.h0.interface.eth0]\nmac = \"02:00:00:00:00:07\"\n",
    );
    assert_eq!(change_to(&host, &mac).len(), 1);
    assert_eq!(eth0(&host)["address"], "02:00:00:00:00:07");
    let _ = host.run("ip -n h1 neigh flush all").ok();
    lab.is_fast("h0:eth0", &address(1));

    let sysctl = |value: u8| {
        hosts(0..2).replace(
            "[namespace.h0]\n",
            &format!("[namespace.h0]\nsysctls = {{ \"net.ipv4.ip_forward\" = {value} }}\n"),
        )
    };
    let now = || host.run("ip netns exec h0 sysctl -n net.ipv4.ip_forward").ok().stdout.trim().to_owned();
    let _ = change_to(&host, &sysctl(1));
    assert_eq!(now(), "1");
    let _ = change_to(&host, &hosts(0..2));
    assert_eq!(now(), "0", "what it was before the lab set it");

    let _ = change_to(&host, &with("nat = true"));
    assert!(host.run("nft list ruleset").ok().stdout.contains("vethpath-changing"));
    let _ = change_to(&host, &hosts(0..2));
    assert!(!host.run("nft list ruleset").ok().stdout.contains("vethpath"));
    assert_eq!(host.run("sysctl -n net.ipv4.ip_forward").ok().stdout.trim(), "0");
    lab.down();
    host.finish();
}

#[test]
fn addresses_routes_and_gateways_change() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let route = || host.run("ip -n h0 route show default").ok().stdout.trim().to_owned();
    let other = hosts(0..2).replacen("gateway = \"10.9.0.1\"", "gateway = \"10.9.0.2\"", 1);
    assert_eq!(change_to(&host, &other), ["~ change route 0.0.0.0/0 in h0: via 10.9.0.1 -> 10.9.0.2"]);
    assert_eq!(route(), "default via 10.9.0.2 dev eth0 proto static");
    let none = hosts(0..2).replacen("gateway = \"10.9.0.1\"\n", "", 1);
    assert_eq!(change_to(&host, &none), ["- delete route 0.0.0.0/0 via 10.9.0.2 in h0"]);
    assert_eq!(route(), "");
    let _ = change_to(&host, &hosts(0..2));
    let _ = change_to(&host, &hosts(0..2).replace("10.9.1.0/16", "10.9.3.3/16"));
    assert_eq!(
        route(),
        "default via 10.9.0.1 dev eth0 proto static",
        "it goes with the address, and comes again"
    );
    lab.reaches("h1", "10.9.3.3");
    wait_for(SLACK, "the old address answers", || !lab.pings("h1", &address(0)));
    lab.down();
    host.finish();
}

#[test]
fn a_host_moves_to_another_bridge_and_a_bridge_to_another_namespace() {
    let host = Host::new();
    let two = |bridge| hosts([0, 1]) + "[bridge.br1]\n" + &host_on(2, bridge) + &host_on(3, "br1");
    let lab = up(&host, &two("br0"));
    lab.is_fast("h2:eth0", &address(0));
    let inode = || host.run("ip -n h2 -o link show eth0").ok().stdout;
    let before = inode();
    assert_eq!(change_to(&host, &two("br1")).len(), 1);
    assert_eq!(inode(), before);
    lab.is_fast("h2:eth0", &address(3));
    lab.loses_within(SLACK, "h2", &address(0));
    let elsewhere =
        two("br1").replace("[bridge.br1]\n", "[namespace.fabric]\n[bridge.br1]\nnamespace = \"fabric\"\n");
    let _ = change_to(&host, &elsewhere);
    lab.is_fast("h2:eth0", &address(3));
    lab.is_fast("h0:eth0", &address(1));
    assert!(!host.run("ip link show br1").succeeded());
    let _ = change_to(&host, &two("br0"));
    lab.is_fast("h2:eth0", &address(0));
    assert!(!host.namespaces().contains(&"fabric".to_owned()));
    lab.down();
    host.finish();
}

/// An established TCP connection survives changes.
#[test]
fn a_tcp_connection_survives() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    lab.is_fast("h0:eth0", &address(1));
    let iperf = Iperf::start(&lab, "h0", ("h1", &address(1)), "--time 4 --bitrate 50M");
    for text in [hosts(0..6), hosts([0, 1, 9]), hosts(0..2)] {
        let _ = change_to(&host, &text);
    }
    assert!(received(&iperf.report()) > 1_000_000);
    lab.down();
    host.finish();
}

/// The running agent manages the changed lab: it is not restarted, and nothing falls back to the bridge.
#[test]
fn the_running_agent_manages_the_changed_lab() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let agent = lab.pid();
    let _ = change_to(
        &host,
        &(hosts(0..4) + "[namespace.fabric]\n[bridge.br2]\nnamespace = \"fabric\"\n" + &host_on(9, "br2")),
    );
    assert_eq!(lab.pid(), agent);
    wait_until(SLACK, || {
        let stats = lab.stats();
        let armed = stats.pairs.iter().filter(|pair| pair.state == "armed").count();
        if armed == 5 { Ok(()) } else { Err(format!("{armed} of 5 are armed")) }
    });
    let names: Vec<_> = lab.stats().pairs.into_iter().map(|pair| pair.name).collect();
    assert_eq!(names, ["h0:eth0", "h1:eth0", "h2:eth0", "h3:eth0", "h9:eth0"]);
    lab.is_fast("h3:eth0", &address(0));
    lab.down();
    host.finish();
}

/// `ip monitor` prints every change in all of the lab's namespaces.
#[test]
fn up_with_nothing_to_do_causes_no_event() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..100));
    // A port notifies when its forward delay is over, even without spanning tree (`br_make_forwarding` in
    // net/bridge/br_stp.c).
    for change in ["type bridge forward_delay 0", "down", "up"] {
        let _ = host.run(format!("ip link set br0 {change}")).ok();
    }
    lab.is_fast("h0:eth0", &address(99));
    let at = |path: &str| {
        std::fs::metadata(host.path(path)).and_then(|file| file.modified()).expect("it is there")
    };
    let journal = at("/run/vethpath/changing/journal");
    // Each namespace has an nsid on the host, because it has the peer of a port there.
    let monitor = host.spawn("ip monitor all-nsid link address route rule netconf nsid");
    // Events from the first namespace, the last and the host show that the monitor listens to all.
    let places = ["ip", "ip -n h0", "ip -n h99"];
    for (number, ip) in places.iter().enumerate() {
        let _ = host.run(format!("{ip} link add probe{number} type bridge")).ok();
    }
    wait_for(SLACK, "the monitor does not listen", || {
        for (number, ip) in places.iter().enumerate() {
            let _ = host.run(format!("{ip} link set probe{number} mtu 1400")).ok();
            let _ = host.run(format!("{ip} link set probe{number} mtu 1500")).ok();
        }
        let output = monitor.output();
        (0..places.len()).all(|number| output.contains(&format!("probe{number}: ")))
    });
    for (number, ip) in places.iter().enumerate() {
        let _ = host.run(format!("{ip} link del probe{number}")).ok();
    }
    wait_for(SLACK, "the monitor does not hear the end", || {
        let output = monitor.output();
        let gone = |number| {
            output.lines().any(|line| line.contains("Deleted") && line.contains(&format!("probe{number}: ")))
        };
        (0..places.len()).all(gone)
    });
    // The monitor may print more about that.
    let output = wait_until_stable(|| monitor.output());
    let start = Instant::now();
    let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has("nothing to change");
    eprintln!("an `up` of 100 hosts with nothing to do took {:?}", start.elapsed());
    assert_eq!(monitor.output(), output);
    assert_eq!(at("/run/vethpath/changing/journal"), journal);
    drop(monitor);
    lab.down();
    host.finish();
}
