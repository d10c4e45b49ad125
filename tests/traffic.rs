//! Traffic over the fast path is fast, complete, and counted to the last frame.

use crate::{
    harness::{Host, Iperf, Lab, Pair, SLACK, Stats, iperf, received, wait_until},
    hazards::{A, B, C, fast_lab, link_counter},
};

const NS0: (&str, &str) = ("ns0", "10.0.0.10");
const NS1: (&str, &str) = ("ns1", "10.0.0.11");

#[test]
fn tcp_is_fast_and_complete() {
    for options in ["--time 2", "--time 2 --reverse", "--time 2 -6 --parallel 4"] {
        let host = Host::new();
        let lab = host.lab("two-families").up();
        let to = if options.contains("-6") { ("ns1", "fd00::11") } else { NS1 };
        with_nearly_all_fast(&lab, || {
            let report = iperf(&lab, "ns0", to, options);
            assert!(received(&report) > 1_000_000, "{options}: {report:#}");
        });
        assert_no_errors(&host, &lab);
        lab.down();
        host.finish();
    }
}

#[test]
fn udp_is_fast_and_complete() {
    let host = Host::new();
    let lab = host.lab("two-families").up();
    with_nearly_all_fast(&lab, || {
        for options in [
            "--bitrate 20M --length 1400",
            "--bitrate 20M --length 1400 --reverse",
            "--bitrate 2M --length 16",
            "--bitrate 20M --length 8000",
        ] {
            let receive_buffer_errors = || {
                [NS0, NS1].map(|(namespace, _)| receive_buffer_errors(&lab, namespace)).iter().sum::<u64>()
            };
            let earlier = receive_buffer_errors();
            let report = iperf(&lab, "ns0", NS1, &format!("--udp --time 1 {options}"));
            let sum = &report["end"]["sum"];
            let (packets, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
            // Datagrams that a full socket drops have arrived. A broken path loses all.
            let full = receive_buffer_errors() - earlier;
            let is_whole = |(p, l): (u64, u64)| p > 10 && l.saturating_sub(full) < p / 2;
            assert!(
                packets.zip(lost).is_some_and(is_whole),
                "{options}, {full} too many at once: {report:#}"
            );
        }
    });
    assert_no_errors(&host, &lab);
    lab.down();
    host.finish();
}

#[test]
fn packets_larger_than_a_frame_arrive() {
    let host = Host::new();
    let lab = host.lab("two-families").up();
    for size in [0, 1, 1472, 1473, 9000, 60000] {
        for to in [NS1.1, "fd00::11"] {
            let output = lab.run("ns0", format!("ping -n -q -c 3 -l 3 -W 5 -s {size} {to}"));
            let _ = output.ok().stdout_has(" 0% packet loss");
        }
    }
    let _ = lab.assert_counters_match();
    assert_no_errors(&host, &lab);
    lab.down();
    host.finish();
}

/// Duplicate address detection would delay an address by a second or more.
#[test]
fn ipv6_addresses_work_at_once() {
    let host = Host::new();
    let lab = host.lab("two-families").up();
    // All are tentative until the kernel has processed that their link is up, which is asynchronous. If it then checks
    // for duplicates, it sends solicitations.
    for namespace in ["ns0", "ns1"] {
        wait_until(SLACK, || {
            let tentative = lab.run(namespace, "ip -6 -o addr show tentative").ok().stdout;
            if tentative.is_empty() { Ok(()) } else { Err(tentative) }
        });
        let figures = lab.run(namespace, "cat /proc/net/snmp6").ok().stdout;
        let solicits = figures.lines().find(|line| line.starts_with("Icmp6OutNeighborSolicits"));
        assert_eq!(
            solicits.and_then(|line| line.split_whitespace().nth(1)),
            Some("0"),
            "{namespace}: {figures}"
        );
    }
    let _ =
        lab.run("ns0", "ping -6 -n -q -c 3 -l 3 -W 5 -s 9000 fd00::11").ok().stdout_has(" 0% packet loss");
    let _ = lab.run("ns1", "ping -6 -n -q -c 3 -l 3 -W 5 -s 9000 fd00::1").ok().stdout_has(" 0% packet loss");
    lab.is_fast("ns0:eth0", "fd00::11");
    lab.down();
    host.finish();
}

#[test]
fn frames_to_the_bridge_are_counted_too() {
    let host = Host::new();
    let lab = host.lab("two-families").up();
    lab.reaches("ns0", "10.0.0.1");
    lab.reaches("ns0", "fd00::1");
    let _ = host.run("ping -n -q -c 3 -l 3 -W 5 -s 9000 10.0.0.10").ok();
    // No host has this address: there are only ARP broadcasts.
    let _ = lab.run("ns1", "ping -n -q -c 1 -W 1 10.0.0.77").fails(1);
    let stats = lab.assert_counters_match();
    assert!(stats.pair("ns0:eth0").slow("unknown-destination") >= 3, "{stats:#?}");
    assert!(stats.pair("ns1:eth0").slow("arp") >= 1, "{stats:#?}");
    lab.down();
    host.finish();
}

#[test]
fn counters_only_grow_under_load() {
    let host = Host::new();
    let lab = host.lab("two-families").up();
    let stream = Iperf::start(&lab, "ns0", NS1, "--time 3");
    let mut last = lab.stats();
    for _ in 0..10 {
        let now = lab.stats();
        now.not_less_than(&last);
        last = now;
    }
    let _ = stream.report();
    lab.assert_counters_match().not_less_than(&last);
    lab.down();
    host.finish();
}

/// A plain bridge on request: no frame is fast, and everything else is the same.
#[test]
fn a_plain_bridge_on_request() {
    let host = Host::new();
    let lab = host.lab("three-hosts").with("\"tc\"", "\"bridge\"").up();
    lab.reaches("ns0", "172.17.0.102");
    assert!(received(&iperf(&lab, "ns0", ("ns1", "172.17.0.102"), "--time 1")) > 100_000);
    let stats = lab.stats();
    assert_eq!(stats.fast(), 0);
    assert!(stats.pairs.iter().all(|p| p.state != "armed"), "{stats:#?}");
    lab.down();
    host.finish();
}

/// Datagrams that were dropped at a full socket.
#[track_caller]
fn receive_buffer_errors(lab: &Lab<'_>, namespace: &str) -> u64 {
    let snmp = lab.run(namespace, "cat /proc/net/snmp").ok().stdout;
    let mut udp = snmp.lines().filter(|line| line.starts_with("Udp: ")).map(|line| line.split(' '));
    let (names, figures) = udp.next().zip(udp.next()).expect("names and figures");
    let figure = names.zip(figures).find_map(|(name, figure)| (name == "RcvbufErrors").then_some(figure));
    figure.and_then(|figure| figure.parse().ok()).unwrap_or_else(|| panic!("no figure: {snmp}"))
}

/// Asserts that nearly all that `work` sends between ns0 and ns1 is fast.
#[track_caller]
pub(crate) fn with_nearly_all_fast(lab: &Lab<'_>, work: impl Fn()) {
    let (before, after) = lab.with_a_lease(|| {
        let before = lab.stats();
        work();
        (before, lab.assert_counters_match())
    });
    assert_nearly_all_fast(&before, &after);
}

/// Asserts that at least 99 of 100 packets that either end sent were fast. Neighbour discovery and group frames do not
/// count: they are never fast.
#[track_caller]
fn assert_nearly_all_fast(before: &Stats, after: &Stats) {
    for name in ["ns0:eth0", "ns1:eth0"] {
        let (then, now) = (before.pair(name), after.pair(name));
        let (sent, fast) = (now.tx.packets - then.tx.packets, now.fast.tx.packets - then.fast.tx.packets);
        let never = |pair: &Pair| ["arp", "nd", "group"].map(|reason| pair.slow(reason)).iter().sum::<u64>();
        let sent = sent - (never(now) - never(then));
        assert!(
            sent > 100 && fast * 100 >= sent * 99,
            "{name}: {fast} of {sent} packets were fast: {now:#?}"
        );
    }
}

/// Asserts that no end counted a wrong checksum, and no interface an error.
#[track_caller]
fn assert_no_errors(host: &Host, lab: &Lab<'_>) {
    for (namespace, _) in [NS0, NS1] {
        let snmp = lab.run(namespace, "cat /proc/net/snmp").ok().stdout;
        let lines: Vec<_> = snmp.lines().collect();
        let mut seen = 0;
        for table in lines.chunks(2) {
            for (name, value) in table[0].split(' ').zip(table[1].split(' ')) {
                if name == "InCsumErrors" {
                    assert_eq!(value, "0", "{namespace}: {table:?}");
                    seen += 1;
                }
            }
        }
        assert!(seen >= 3, "ICMP, TCP and UDP count checksum errors: {snmp}");
        let snmp6 = lab.run(namespace, "cat /proc/net/snmp6").ok().stdout;
        for line in snmp6.lines().filter(|l| l.contains("InCsumErrors")) {
            assert!(line.ends_with("\t0") || line.ends_with(" 0"), "{namespace}: {line}");
        }
        let link = &host.json(format!("ip -n {namespace} -s -s -j link show dev eth0"))[0]["stats64"];
        assert_eq!((&link["rx"]["errors"], &link["tx"]["errors"]), (&0.into(), &0.into()), "{link:#}");
    }
}

#[test]
fn counters_of_the_receiving_port_and_ours_add_up_to_what_was_sent() {
    let host = Host::new();
    let lab = fast_lab(&host);
    for (from, to) in [("ns0", B), ("ns1", C), ("ns2", A), ("ns0", "172.17.0.1")] {
        lab.reaches(from, to);
    }
    let _ = iperf(&lab, "ns0", ("ns1", B), "--time 1");
    let pairs: Vec<_> = lab.stats().pairs.iter().map(|pair| (pair.name.clone(), pair.port.clone())).collect();
    wait_until(std::time::Duration::from_secs(20) + SLACK, || {
        for (name, port) in &pairs {
            let (namespace, interface) = name.split_once(':').expect("namespace:interface");
            let by_the_bridge = link_counter(&host, "", port, ("tx", "packets"));
            let fast = lab.stats().pair(name).fast.rx.frames;
            let received = link_counter(&host, namespace, interface, ("rx", "packets"));
            if by_the_bridge + fast != received || fast == 0 {
                return Err(format!(
                    "{name}: {by_the_bridge} by the bridge, {fast} fast, {received} received"
                ));
            }
        }
        Ok(())
    });
    // What was sent is what others received: nothing in between counts twice.
    let stats = lab.assert_counters_match();
    let total = |count: fn(&Pair) -> u64| stats.pairs.iter().map(count).sum::<u64>();
    assert_eq!(total(|pair| pair.fast.tx.frames), total(|pair| pair.fast.rx.frames));
    assert_eq!(total(|pair| pair.fast.tx.bytes), total(|pair| pair.fast.rx.bytes));
    lab.down();
    host.finish();
}

#[test]
fn a_moved_or_renamed_inner_end_is_still_counted() {
    let host = Host::new();
    let lab = fast_lab(&host);
    for (from, to) in [("ns0", B), ("ns1", C), ("ns1", A)] {
        lab.reaches(from, to);
    }
    let wait_for_counters = |namespace: &str, interface: &str| {
        wait_until(std::time::Duration::from_secs(20) + SLACK, || {
            let kernel = ["tx", "rx"]
                .map(|direction| link_counter(&host, namespace, interface, (direction, "packets")));
            let stats = lab.stats();
            let pair = stats.pair("ns1:eth0");
            let ours = [pair.tx.frames, pair.rx.frames];
            if ours == kernel && !ours.contains(&0) { Ok(()) } else { Err(format!("{kernel:?}, {ours:?}")) }
        });
    };
    wait_for_counters("ns1", "eth0");
    // Linux before 6.2 renames no interface that is up.
    for command in ["ip link set eth0 down", "ip link set eth0 name other", "ip link set other up"] {
        let _ = lab.run("ns1", command).ok();
    }
    wait_for_counters("ns1", "other");
    let _ = lab.run("ns1", "ip link set other netns ns2").ok();
    wait_for_counters("ns2", "other");
    let _ = host.run("ip -n ns2 link set other netns ns1 name eth0").ok();
    wait_for_counters("ns1", "eth0");
    // While no agent tracks where it is.
    let pid = lab.pid();
    let _ = host.run(format!("kill -STOP {pid}")).ok();
    wait_for_counters("ns1", "eth0");
    let _ = host.run(format!("kill -CONT {pid}")).ok();
    lab.down();
    host.finish();
}
