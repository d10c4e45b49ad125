//! A host that sends from more addresses than the fast path has room for. Its port goes slow, and no other.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{Host, Lab, SLACK, Stats, sized, wait_for, wait_until},
    hazards::{A, A_SECOND, B, C, fast_lab, has_fdb_entry, mac},
};

/// Sends broadcasts, each from another address, while `more` accepts their number.
fn flood(lab: &Lab<'_>, inner_end: &str, more: impl Fn(u32) -> bool) {
    let wire = lab.wire(inner_end);
    // An EtherType for local experiments.
    let mut frame = [[0xff; 6].as_slice(), &[0; 6], &[0x88, 0xb5], &[0; 46]].concat();
    for number in (0..).take_while(|number| more(*number)) {
        let [first, high, middle, low] = number.to_be_bytes();
        frame[6..12].copy_from_slice(&[2, 0xf1, first, high, middle, low]);
        wire.send(&frame);
    }
}

/// Fast frames and all frames that a host has sent.
fn sent(stats: &Stats, pair: &str) -> (u64, u64) {
    let pair = stats.pair(pair);
    (pair.fast.tx.packets, pair.tx.packets)
}

#[test]
fn a_flood_of_addresses_makes_only_the_flooders_port_slow() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let agent = lab.pid();
    let before = sent(&lab.stats(), "ns0:eth0");
    // Many times what the fast path keeps of a port, and what the agent's buffer holds.
    let (began, length) = (Instant::now(), sized(Duration::from_secs(3), Duration::from_secs(60)));
    let more = |number| number < 100_000 || began.elapsed() < length;
    thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&lab, "ns2:eth0", more));
        let mut rounds = 0;
        // During the flood, and after it: the agent processes what is left.
        while !flood.is_finished() || rounds < 3 {
            let _ = lab.run("ns0", format!("ping -q -i 0.002 -c 200 {B}")).ok();
            rounds += usize::from(flood.is_finished());
        }
    });
    let after = sent(&lab.stats(), "ns0:eth0");
    let (fast, all) = (after.0 - before.0, after.1 - before.1);
    let slow = || lab.stats().pair("ns0:eth0").slow.clone();
    assert!(fast * 100 >= all * 95, "{fast} of {all} frames were fast: {:?}", slow());

    lab.wait_for_state("ns2:eth0", "addresses were learned behind the port");
    let events = host.vethpath("events three-hosts").ok().stdout;
    assert!(events.contains("addresses were learned behind the port"), "{events}");
    for pair in ["ns0:eth0", "ns1:eth0"] {
        assert_eq!(lab.state(pair), "armed");
    }
    lab.is_fast("ns0:eth0", B);
    lab.reaches("ns0", C);
    lab.reaches("ns2", A);
    assert_eq!(lab.pid(), agent);

    // The bridge forgets them at once, rather than after five minutes.
    let port = lab.port("ns2:eth0");
    let _ = host.run(format!("ip link set {port} type bridge_slave fdb_flush")).ok();
    lab.wait_for_state("ns2:eth0", "armed");
    wait_for(SLACK, "ns2 does not become fast", || lab.pings("ns2", A) && lab.pings("ns0", C));
    lab.is_fast("ns2:eth0", A);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// A host's address that turns up behind the flooding port is not at home any more, although nothing is known of the
/// other addresses there.
#[test]
fn a_host_that_moves_behind_a_flooding_port_is_followed() {
    let host = Host::new();
    let lab = fast_lab(&host);
    flood(&lab, "ns2:eth0", |number| number < 10_000);
    lab.wait_for_state("ns2:eth0", "addresses were learned behind the port");
    let (home, elsewhere) = (lab.port("ns1:eth0"), lab.port("ns2:eth0"));
    let mac = mac(&lab, "ns1");
    let _ = host.run(format!("bridge fdb replace {mac} dev {elsewhere} master static sticky")).ok();
    lab.loses_within(A_SECOND, "ns0", B);
    let _ = host.run(format!("bridge fdb del {mac} dev {elsewhere} master")).ok();
    wait_until(SLACK, || {
        let is_home = lab.pings("ns1", A) && has_fdb_entry(&host, &home, &mac);
        if is_home { Ok(()) } else { Err("ns1 is not learned at home".to_owned()) }
    });
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}
