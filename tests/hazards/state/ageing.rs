//! FDB entries age: the bridge forgets silent hosts and keeps those that send, on either path.

use std::{fs, time::Duration};

use crate::{
    harness::{Host, Lab, SLACK, TIMEOUT, holds_for, parse_mac, wait_for, wait_until},
    hazards::{A, B, C, has_fdb_entry, mac, on_all},
};

#[test]
fn active_stations_do_not_age_on_the_fast_path_and_silent_ones_do() {
    check_ageing("\"tc\"");
}

#[test]
fn active_stations_do_not_age_on_a_plain_bridge_and_silent_ones_do() {
    check_ageing("\"bridge\"");
}

/// The entry of a host that sends is refreshed all the time. When the ageing time is shortened, the bridge at once
/// deletes entries that are older, and would flood.
#[test]
fn a_shorter_ageing_time_keeps_active_stations() {
    on_all(|host, lab, fast| {
        for (namespace, other, address) in [("ns0", "ns1", B), ("ns1", "ns0", A)] {
            let command =
                format!("ip neigh replace {address} lladdr {} dev eth0 nud permanent", mac(lab, other));
            let _ = lab.run(namespace, command).ok();
        }
        let ping = lab.spawn("ns0", format!("ping -n -q -i 0.2 {B}"));
        let silent = mac(lab, "ns2");
        let before = lab.stats().fast();
        std::thread::sleep(Duration::from_secs(12));
        assert_eq!(lab.stats().fast() > before + 50, fast, "that was to be fast traffic, or not");
        let monitor = host.spawn("bridge monitor fdb");
        // The monitor is ready when it prints the events of an entry that is added for this.
        let has_printed = |what: &str| monitor.output().contains(what);
        wait_for(SLACK, "the monitor does not start", || {
            let port = lab.port("ns2:eth0");
            let _ = host.run(format!("bridge fdb replace 02:00:00:00:99:99 dev {port} master static")).ok();
            let _ = host.run(format!("bridge fdb del 02:00:00:00:99:99 dev {port} master")).ok();
            has_printed("02:00:00:00:99:99")
        });
        let _ = host.run("ip link set docker0 type bridge ageing_time 1000").ok();
        wait_for(TIMEOUT, "the bridge remembers who is silent", || {
            !has_fdb_entry(host, &lab.port("ns2:eth0"), &silent)
        });
        for namespace in ["ns0", "ns1"] {
            // A refresh adds entries in VLANs, which the agent deletes.
            let deleted = format!("Deleted {}", mac(lab, namespace));
            let is_forgotten = |line: &str| line.starts_with(&deleted) && !line.contains(" vlan ");
            let output = monitor.output();
            assert!(!output.lines().any(is_forgotten), "{output}");
        }
        let _ = host.run("ip link set docker0 type bridge ageing_time 30000").ok();
        drop((ping, monitor));
        lab.reaches("ns0", C);
    });
}

/// The FDB is flushed after the agent has decided to refresh an entry. The entry of a host that has sent a slow frame
/// since then stays, and the one that only the refresh has created goes.
#[test]
fn a_refresh_creates_no_entry_and_deletes_none_that_the_bridge_has_learned() {
    for talks in [true, false] {
        let host = Host::new();
        let file = host.lab("three-hosts").write();
        let wait = "VETHPATH_WAIT_AT=refresh VETHPATH_WAIT_FOR=/run/go";
        let _ = host.run(format!("env {wait} {} up {file}", host.exe())).ok();
        let lab = Lab::existing(&host, "three-hosts", file);
        let hosts =
            ["ns0", "ns1"].map(|namespace| (lab.port(&format!("{namespace}:eth0")), mac(&lab, namespace)));
        let log = host.path("/run/vethpath/three-hosts/agent.log");
        wait_for(TIMEOUT, "the agent refreshes nothing", || {
            lab.reaches("ns0", B);
            fs::read_to_string(&log).is_ok_and(|log| log.contains("waiting at refresh"))
        });
        for (port, mac) in &hosts {
            let _ = host.run(format!("bridge fdb del {mac} dev {port} master")).ok();
        }
        let wires = ["ns0:eth0", "ns1:eth0"].map(|inner_end| lab.wire(inner_end));
        if talks {
            for (wire, (_, mac)) in wires.iter().zip(&hosts) {
                wire.send(&broadcast(mac));
            }
        }
        let known = || hosts.iter().filter(|(port, mac)| has_fdb_entry(&host, port, mac)).count();
        let expected = if talks { 2 } else { 0 };
        assert_eq!(known(), expected);
        let _ = host.run("touch /run/go-refresh").ok();
        // An agent that answers is done with the refresh.
        let _ = lab.live_stats();
        assert_eq!(known(), expected, "talks: {talks}");
        drop(wires);
        lab.is_fast("ns0:eth0", B);
        let _ = host.run("rm /run/go-refresh").ok();
        lab.down();
        host.finish();
    }
}

/// A frame of no known protocol to all.
fn broadcast(mac: &str) -> Vec<u8> {
    [0xff; 6].into_iter().chain(parse_mac(mac)).chain([0x88, 0xb5]).chain([0; 46]).collect()
}

/// An address that sends stays in the FDB. A silent one is deleted.
fn check_ageing(datapath: &str) {
    let fast = datapath == "\"tc\"";
    let host = Host::new();
    let lab = host.lab("ageing").with("\"tc\"", datapath).up();
    let place = |n: u32| (lab.port(&format!("ns{n}:eth0")), format!("02:00:00:00:0a:0{n}"));
    let places = [place(0), place(1), place(2)];
    lab.reaches("ns0", "10.4.0.12");
    lab.reaches("ns0", "10.4.0.11");
    if fast {
        lab.is_fast("ns0:eth0", "10.4.0.11");
    }
    // With address resolution, the bridge would see a frame now and then.
    for (namespace, other) in [("ns0", 1), ("ns1", 0)] {
        let (_, mac) = &places[other];
        let command = format!("ip neigh replace 10.4.0.1{other} lladdr {mac} dev eth0 nud permanent");
        let _ = lab.run(namespace, command).ok();
    }
    let ping = lab.spawn("ns0", "ping -n -q -i 0.2 10.4.0.11");
    let in_table = |n: usize| has_fdb_entry(&host, &places[n].0, &places[n].1);
    let before = lab.stats().fast();
    wait_until(Duration::from_secs(60), || {
        assert!(in_table(0) && in_table(1), "the bridge forgets who talks");
        if in_table(2) { Err("the bridge remembers who is silent".to_owned()) } else { Ok(()) }
    });
    holds_for(Duration::from_secs(12), "the bridge forgets who talks", || in_table(0) && in_table(1));
    assert_eq!(lab.stats().fast() > before + 50, fast, "that was to be fast traffic, or not");
    drop(ping);
    lab.down();
    host.finish();
}
