//! Counters are kept through all changes of a lab.

use super::{address, chain, change_to, hosts, up, without_ipv6};
use crate::harness::{Count, Host, Stats};

#[test]
fn pairs_that_stay_keep_their_counts_and_new_ones_begin_at_zero() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..4));
    lab.is_fast("h0:eth0", &address(3));
    lab.is_fast("h1:eth0", &address(2));
    let before = lab.stats();
    // The others have other positions in the file, and h1 is removed.
    let _ = change_to(&host, &hosts([5, 3, 2, 0]));
    let after = lab.stats();
    for name in ["h0:eth0", "h2:eth0", "h3:eth0"] {
        assert!(after.pair(name).fast.tx.packets >= before.pair(name).fast.tx.packets, "{name}");
        assert!(after.pair(name).rx.packets >= before.pair(name).rx.packets, "{name}");
    }
    // h7 may get the number that h1 had, and h1 a new one: neither has sent anything.
    let _ = change_to(&host, &hosts([7, 1, 5, 3, 2, 0]));
    let _ = lab.assert_counters_match();
    let stats = lab.stats();
    assert_eq!((stats.pair("h1:eth0").fast.tx.packets, stats.pair("h7:eth0").fast.tx.packets), (0, 0));
    assert!(stats.pair("h0:eth0").fast.tx.packets >= before.pair("h0:eth0").fast.tx.packets);
    lab.is_fast("h7:eth0", &address(1));
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// What a host sent to another one stays counted when the other is gone, and when it is made again.
#[test]
fn frames_to_a_host_that_is_gone_stay_counted() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    lab.is_fast("h0:eth0", &address(2));
    let before = lab.assert_counters_match();
    let of = |stats: &Stats| [stats.pair("h0:eth0").fast.tx, stats.pair("h0:eth0").fast.rx];
    let _ = change_to(&host, &hosts(0..2));
    let _ = change_to(&host, &hosts(0..3));
    let after = lab.assert_counters_match();
    let grew = |(then, now): (&Count, &Count)| now.packets >= then.packets && now.bytes >= then.bytes;
    assert!(of(&before).iter().zip(&of(&after)).all(grew), "{before:#?}\n{after:#?}");
    assert_eq!(after.pair("h2:eth0").fast.tx.packets, 0);
    let matrix = host.vethpath("stats changing --matrix").ok();
    let _ = matrix.stdout_has("h0:eth0       former pairs").stdout_has("former pairs  h0:eth0");
    lab.down();
    host.finish();
}

/// The maps of a small lab have room for 64 pairs. One that outgrows them gets larger ones.
#[test]
fn a_lab_that_outgrows_its_maps_loses_no_count() {
    let host = Host::new();
    let hosts = |numbers| without_ipv6(&hosts(numbers));
    let lab = up(&host, &hosts(0..3));
    lab.is_fast("h0:eth0", &address(1));
    let before = lab.assert_counters_match();
    let (first, second) = (hosts(0..70), hosts(0..150));
    for text in [&first, &second] {
        // One host sends all the while, so that packets are counted in either set of maps.
        let ping = lab.spawn("h0", format!("ping -n -q -i 0.002 {}", address(2)));
        let _ = change_to(&host, text);
        drop(ping);
        let now = lab.assert_counters_match();
        assert!(now.pair("h0:eth0").fast.tx.packets >= before.pair("h0:eth0").fast.tx.packets);
        assert_eq!(now.pair("h0:eth0").slow("unseen"), before.pair("h0:eth0").slow("unseen"), "{now:#?}");
    }
    lab.is_fast("h69:eth0", &address(149));
    let _ = change_to(&host, &hosts(0..3));
    lab.assert_counters_match().not_less_than(&before);
    lab.down();
    host.finish();
}

#[test]
fn trunks_keep_their_counts() {
    let host = Host::new();
    let lab = up(&host, &chain(2));
    lab.is_fast("h0:eth0", &address(1));
    let before = lab.stats().trunk("b0 - b1").fast.tx.packets;
    assert!(before > 0);
    // Another trunk comes before it in the file, and there are many more paths than the maps had room for.
    let first = "[bridge.a0]\ntrunks = [\"a1\"]\n[bridge.a1]\n".to_owned();
    let _ = change_to(&host, &(first + &chain(6)));
    let stats = lab.stats();
    assert!(stats.trunk("b0 - b1").fast.tx.packets >= before, "{stats:#?}");
    assert_eq!(stats.trunk("a0 - a1").fast.tx.packets, 0);
    lab.is_fast("h0:eth0", &address(1));
    let _ = change_to(&host, &chain(2));
    assert!(lab.stats().trunk("b0 - b1").fast.tx.packets > before);
    lab.down();
    host.finish();
}
