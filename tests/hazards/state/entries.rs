//! FDB entries that are deleted, flushed, or made static, sticky or local by hand.

use crate::{
    harness::{wait_for, wait_until},
    hazards::{A, A_SECOND, B, BROADCAST, C, has_fdb_entry, mac, mac_bytes, numbered, on_all, receives},
};

#[test]
fn flushed_and_deleted_entries() {
    on_all(|host, lab, _| {
        for pair in ["ns0:eth0", "ns1:eth0", "ns2:eth0"] {
            let _ = host.run(format!("ip link set dev {} type bridge_slave fdb_flush", lab.port(pair))).ok();
        }
        lab.reaches("ns0", B);
        lab.reaches("ns1", C);
        let (port, mac) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        wait_for(A_SECOND, "the bridge does not learn", || {
            lab.pings("ns1", A) && has_fdb_entry(host, &port, &mac)
        });
        let _ = host.run(format!("bridge fdb del {mac} dev {port} master")).ok();
        lab.reaches("ns0", B);
    });
}

#[test]
fn a_sticky_entry_elsewhere_is_obeyed() {
    on_all(|host, lab, _| {
        let (a, c) = (mac(lab, "ns1"), lab.port("ns2:eth0"));
        let home = lab.port("ns1:eth0");
        // ns1 is pinned behind ns2's port: frames to it go there and are lost. (An entry that is not sticky would
        // move back with the first frame from ns1's port.)
        let _ = host.run(format!("bridge fdb replace {a} dev {c} master static sticky")).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        let _ = host.run(format!("bridge fdb del {a} dev {c} master")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
        wait_for(A_SECOND, "ns1 is not learned at home", || {
            lab.pings("ns1", A) && has_fdb_entry(host, &home, &a)
        });
    });
}

/// A frame to an address whose entry was deleted is flooded by the bridge: our station is removed with the entry.
#[test]
fn a_deleted_entry_is_no_station_any_more() {
    on_all(|host, lab, _| {
        let (port, b) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        let [from, aside] = ["ns0:eth0", "ns2:eth0"].map(|end| lab.wire(end));
        let mut number = 0;
        wait_until(A_SECOND, || {
            // It may have sent meanwhile, and be learned again.
            let _ = host.run(format!("bridge fdb del {b} dev {port} master"));
            number += 2;
            let frame = numbered(mac_bytes(lab, "ns1"), mac_bytes(lab, "ns0"), number);
            let flooded = receives(&from, &frame, number, &[&aside])[0];
            if flooded { Ok(()) } else { Err("not flooded: somebody still knows the address".to_owned()) }
        });
    });
}

/// Frames to a local address are for the bridge itself.
#[test]
fn a_local_entry_is_obeyed() {
    on_all(|host, lab, _| {
        let (port, b) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        let _ = host.run(format!("bridge fdb replace {b} dev {port} master permanent")).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("bridge fdb del {b} dev {port} master")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
        wait_for(A_SECOND, "ns1 is not learned again", || {
            lab.pings("ns1", A) && has_fdb_entry(host, &port, &b)
        });
    });
}

/// A static entry at the host's own port changes nothing, and never ages.
#[test]
fn a_static_entry_at_home_is_a_station() {
    on_all(|host, lab, fast| {
        let (port, b) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        let _ = host.run(format!("bridge fdb replace {b} dev {port} master static")).ok();
        lab.reaches("ns0", B);
        if fast {
            lab.is_fast("ns0:eth0", B);
        }
        // The station is not removed when another port sends with its address: the sticky entry does not move.
        let _ = host.run(format!("bridge fdb replace {b} dev {port} master static sticky")).ok();
        let [from, claimant] = ["ns0:eth0", "ns2:eth0"].map(|end| lab.wire(end));
        claimant.send(&numbered(BROADCAST, mac_bytes(lab, "ns1"), 0));
        let frame = numbered(mac_bytes(lab, "ns1"), mac_bytes(lab, "ns0"), 2);
        assert_eq!(receives(&from, &frame, 2, &[&lab.wire("ns1:eth0"), &claimant]), [true, false]);
        let _ = host.run(format!("bridge fdb replace {b} dev {port} master dynamic")).ok();
    });
}
