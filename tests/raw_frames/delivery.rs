//! Delivery by XDP, alone and beside tc and the plain bridge, and what a full ring drops.

use std::time::{Duration, Instant};

use super::{driver_count, socket::RawSocket, users::User, xdp_lab};
use crate::{
    harness::{Host, Lab, SLACK, Stats, holds_for, wait_until},
    hazards::{A, B, C, mac_bytes, numbered, transfer, wait_for_frame},
};

#[test]
fn sockets_reach_each_other_by_xdp() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    lab.is_fast("ns0:eth0", B);
    lab.is_fast("ns1:eth0", A);
    let port = lab.port("ns1:eth0");
    let (redirected, fast) = lab.with_a_lease(|| {
        let redirected = || driver_count(&host, &port, "_xdp_xmit");
        let before = (redirected(), lab.stats().pair("ns1:eth0").fast.rx.frames);
        transfer(&lab);
        let stats = lab.assert_counters_match();
        let pair = stats.pair("ns1:eth0");
        assert_eq!(pair.datapath, "xdp");
        (redirected() - before.0, pair.fast.rx.frames - before.1)
    });
    // XDP redirected all frames, and left none to the tc program.
    assert_eq!(redirected, fast);
    assert!(fast > 1000, "{fast}");
    lab.down();
    host.finish();
}

/// GRO merges frames that XDP leaves to the bridge or to the tc program. They are counted as the frames that were sent,
/// and not again.
#[test]
fn frames_merged_by_gro_are_counted_once() {
    let host = Host::new();
    let file = host.lab("three-hosts").with(
        "link = \"docker0\"\naddresses = [\"172.17.0.101/16\"]",
        "link = \"docker0\"\ndatapath = \"xdp\"\naddresses = [\"172.17.0.101/16\"]",
    );
    let lab = file.up();
    for is_slow in [false, true] {
        lab.is_fast("ns0:eth0", B);
        if is_slow {
            let _ = host.run(format!("tc qdisc add dev {} root pfifo", lab.port("ns1:eth0"))).ok();
            lab.wait_for_state("ns1:eth0", "qdisc");
        }
        let before = lab.assert_counters_match();
        transfer(&lab);
        let after = lab.assert_counters_match();
        let sent = |stats: &Stats| stats.pair("ns0:eth0").tx.frames;
        let unseen = |stats: &Stats| stats.pair("ns0:eth0").slow("unseen");
        // 4 MB in frames of 1500 bytes.
        assert!(sent(&after) - sent(&before) > 2500, "{after:#?}");
        assert!(unseen(&after) <= unseen(&before) + 20, "{is_slow}: {before:#?} {after:#?}");
    }
    lab.down();
    host.finish();
}

#[test]
fn raw_frames_are_unchanged() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    let (a, b, c) = (lab.wire("ns0:eth0"), lab.wire("ns1:eth0"), lab.wire("ns2:eth0"));
    let macs = ["ns0", "ns1", "ns2"].map(|namespace| mac_bytes(&lab, namespace));
    let fast = lab.with_a_lease(|| {
        let fast = || lab.stats().pair("ns0:eth0").fast.tx.frames;
        let before = fast();
        lab.is_fast("ns0:eth0", B);
        for number in 1..200 {
            a.send(&numbered(macs[1], macs[0], number));
            assert_eq!(wait_for_frame(&b, number), 0, "it is for this host");
            b.send(&numbered(macs[2], macs[1], number));
            let _ = wait_for_frame(&c, number);
        }
        fast() - before
    });
    assert!(fast >= 199, "{fast}");
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// Hosts of all three datapaths, on one bridge and on three in a row.
#[test]
fn ports_of_all_datapaths_reach_each_other() {
    for on in ["docker0", "br2"] {
        let host = Host::new();
        let file = host.lab("three-hosts").with(
            "link = \"docker0\"\naddresses = [\"172.17.0.101/16\"]",
            "link = \"docker0\"\ndatapath = \"xdp\"\naddresses = [\"172.17.0.101/16\"]",
        );
        let file = file.with(
            "link = \"docker0\"\naddresses = [\"172.17.0.103/16\"]",
            "link = \"docker0\"\ndatapath = \"bridge\"\naddresses = [\"172.17.0.103/16\"]",
        );
        let file = file.with(
            "link = \"docker0\"\naddresses = [\"172.17.0.102/16\"]",
            &format!("link = \"{on}\"\naddresses = [\"172.17.0.102/16\"]"),
        );
        let file = file.and("\n[bridge.br1]\ntrunks = [\"docker0\", \"br2\"]\n[bridge.br2]\n");
        let file = file.and(&format!("[namespace.ns3.interface.eth0]\nlink = \"{on}\"\ndatapath = \"xdp\"\naddresses = [\"172.17.0.104/16\"]\n"));
        let lab = file.up();
        let all = [("ns0", A), ("ns1", B), ("ns2", C), ("ns3", "172.17.0.104")];
        let datapaths = |lab: &Lab<'_>| {
            all.map(|(namespace, _)| lab.stats().pair(&format!("{namespace}:eth0")).datapath.clone())
        };
        assert_eq!(datapaths(&lab), ["xdp", "tc", "bridge", "xdp"]);
        for (from, _) in all {
            for (_, to) in all.iter().filter(|(namespace, _)| *namespace != from) {
                lab.reaches(from, to);
            }
        }
        // From XDP to tc, back, and from XDP to XDP: each is fast.
        for (pair, to) in [("ns0:eth0", B), ("ns1:eth0", A), ("ns0:eth0", all[3].1), ("ns3:eth0", B)] {
            lab.is_fast(pair, to);
        }
        transfer(&lab);
        let _ = lab.assert_counters_match();
        lab.down();
        host.finish();
    }
}

/// Jumbo frames use several buffers. The bridge drops frames that do not fit.
#[test]
fn large_frames_and_those_that_do_not_fit() {
    let host = Host::new();
    let file = host.lab("three-hosts").with("\"tc\"", "\"xdp\"");
    let file = file.with("172.17.0.101/16\"]", "172.17.0.101/16\"]\nmtu = 9000");
    let lab = file.with("172.17.0.102/16\"]", "172.17.0.102/16\"]\nmtu = 9000").up();
    lab.is_fast("ns0:eth0", B);
    let ping = |to: &str| lab.run("ns0", format!("ping -n -q -M do -c 3 -l 3 -W 5 -s 8900 {to}"));
    let fast = lab.with_a_lease(|| {
        let fast = || lab.stats().pair("ns0:eth0").fast.tx.frames;
        let before = fast();
        let _ = ping(B).ok().stdout_has(" 0% packet loss");
        fast() - before
    });
    assert!(fast >= 3, "{fast}");
    lab.is_fast("ns0:eth0", C);
    let refused = lab.with_a_lease(|| {
        let refused = || lab.stats().pair("ns0:eth0").slow("too-big");
        let before = refused();
        assert!(!ping(C).succeeded(), "1500 bytes are the most there");
        refused() - before
    });
    assert!(refused >= 3, "{refused}");
    assert_eq!(lab.stats().pair("ns0:eth0").dropped.map(|dropped| dropped.tx), Some(0));
    // Long enough for several scans of the agent. A late answer does not matter.
    holds_for(Duration::from_secs(3), "the pair is disarmed", || {
        ["armed", "the agent does not answer"].contains(&&*lab.state("ns0:eth0"))
    });
    lab.wait_for_state("ns0:eth0", "armed");
    lab.down();
    host.finish();
}

/// Every frame that was redirected to an inner end has arrived there, or is counted as dropped.
#[test]
fn drops_of_a_full_ring_are_counted() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    lab.is_fast("ns0:eth0", B);
    let mut user = User::attach(&lab.netns("ns1"), "eth0", "sink");
    lab.wait_for_state("ns1:eth0", "armed");
    let mut socket = RawSocket::on(&lab.netns("ns0"), "eth0");
    let frame = numbered(mac_bytes(&lab, "ns1"), mac_bytes(&lab, "ns0"), 1);
    let (received_before, before) = lab.with_a_lease(|| {
        let before = (user.received(), lab.stats());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            let _ = socket.send(&frame, 32);
        }
        before
    });
    eprintln!("{:.2} million frames a second", user.rate());
    let dropped = |stats: &Stats| stats.pair("ns1:eth0").dropped.expect("it is by XDP").rx;
    let since = |of: &dyn Fn(&Stats) -> u64, now: &Stats| of(now) - of(&before);
    wait_until(SLACK, || {
        let now = lab.stats();
        let redirected = since(&|stats| stats.pair("ns0:eth0").fast.tx.frames, &now);
        let (arrived, lost) = (user.received() - received_before, since(&dropped, &now));
        // Dropped frames are not received.
        let received = since(&|stats| stats.pair("ns1:eth0").rx.frames, &now);
        let fast = since(&|stats| stats.pair("ns1:eth0").fast.rx.frames, &now);
        // Frames from the bridge may arrive between two reads.
        if received.abs_diff(arrived) > 100 || fast > received || fast + lost < redirected {
            return Err(format!(
                "{received} received, {fast} fast, and {arrived} came; {lost} of {redirected} lost"
            ));
        }
        // Frames that the bridge delivers meanwhile are not redirected.
        if arrived + lost >= redirected && arrived + lost <= redirected + 100 && redirected > 10_000 {
            return Ok(());
        }
        Err(format!("{redirected} redirected, {arrived} came, {lost} were lost"))
    });
    let port = lab.port("ns1:eth0");
    let refused = host.json(format!("ip -s -j link show dev {port}"))[0]["stats64"]["tx"]["dropped"].as_u64();
    // This includes the drops of a full ring.
    assert!(refused >= Some(driver_count(&host, &port, "_xdp_xmit_errors")), "{refused:?}");
    assert_eq!(refused, Some(dropped(&lab.stats())));
    let _ = lab.assert_counters_match();
    assert_eq!(lab.state("ns1:eth0"), "armed");
    drop((socket, user));
    lab.down();
    host.finish();
}
