//! The FDB entries for senders on bridges that the fast path skips.

use std::time::Duration;

use super::{FAR, SOON, chain, mac};
use crate::harness::{Host, Lab, holds_for, wait_for};

/// The ports of the bridges' entries for an address without a VLAN.
fn fdb_ports(host: &Host, mac: &str) -> Vec<String> {
    ports_of_entries(host, mac, |vlan| vlan.is_null())
}

/// The ports of the bridges' entries for an address in VLANs. A kernel with VLAN filtering adds them with those that user
/// space adds (`br_fdb_add` in net/bridge/br_fdb.c), and a frame on a bridge that does not filter adds none.
fn fdb_ports_in_vlans(host: &Host, mac: &str) -> Vec<String> {
    ports_of_entries(host, mac, |vlan| !vlan.is_null())
}

fn ports_of_entries(host: &Host, mac: &str, in_vlan: impl Fn(&serde_json::Value) -> bool) -> Vec<String> {
    let entries = host.json("bridge -j fdb show");
    let entries = entries.as_array().expect("a list").iter();
    let entries = entries
        .filter(|entry| entry["mac"] == mac && entry["state"] != "permanent" && in_vlan(&entry["vlan"]));
    entries.map(|entry| entry["ifname"].as_str().expect("a port").to_owned()).collect()
}

/// Adds permanent neighbours: address resolution would show the bridges a frame now and then.
fn add_permanent_neighbours(lab: &Lab<'_>) {
    for (namespace, other) in [("ns0", 1), ("ns1", 0)] {
        let command =
            format!("ip neigh replace 10.5.0.1{other} lladdr {} dev eth0 nud permanent", mac(other));
        let _ = lab.run(namespace, command).ok();
    }
}

/// A bridge that the fast path skips must keep the entries of active senders, and age out those of silent ones.
#[test]
fn active_stations_do_not_age_on_bridges_along_the_path() {
    let host = Host::new();
    let lab = chain(&host, 4, "ageing_time = 10").up();
    for number in [0, 1] {
        assert_eq!(fdb_ports_in_vlans(&host, &mac(number)), Vec::<String>::new(), "`up` leaves none");
    }
    lab.is_fast("ns0:eth0", FAR);
    add_permanent_neighbours(&lab);
    let talk = lab.spawn("ns0", format!("ping -n -q -i 0.2 {FAR}"));
    let before = lab.stats().fast();
    let everywhere = |number| fdb_ports(&host, &mac(number)).len() == 4;
    // On a slow machine, bridges may have forgotten both since the first ping.
    wait_for(SOON, "a bridge does not learn who talks", || everywhere(0) && everywhere(1));
    holds_for(Duration::from_secs(16), "a bridge forgets who talks", || everywhere(0) && everywhere(1));
    assert!(lab.stats().fast() > before + 100, "that was to be fast traffic");
    // One exists from each refresh until the agent has deleted it.
    wait_for(SOON, "refreshes leave entries in VLANs", || {
        [0, 1].iter().all(|number| fdb_ports_in_vlans(&host, &mac(*number)).is_empty())
    });
    drop(talk);
    wait_for(Duration::from_secs(60), "the bridges remember who is silent", || {
        fdb_ports(&host, &mac(0)).is_empty()
    });
    lab.down();
    host.finish();
}

/// If a bridge on the path has lost a sender's entry, it learns it from the next frame, as on plain bridges. The sender
/// is then fast again.
#[test]
fn a_bridge_that_has_forgotten_a_sender_learns_it_again() {
    let host = Host::new();
    let lab = chain(&host, 3, "").up();
    lab.is_fast("ns0:eth0", FAR);
    add_permanent_neighbours(&lab);
    let port = fdb_ports(&host, &mac(0))
        .into_iter()
        .find(|port| port_is_on(&host, port, "b2"))
        .expect("it is known");
    // The agent may already be replacing the sender's entry after the event, and the new one is not confirmed at first.
    // Or its lease has expired. So any reason is accepted.
    let slow = || lab.stats().pair("ns0:eth0").slow.values().sum::<u64>();
    let before = slow();
    let _ = host.run(format!("bridge fdb del {} dev {port} master", mac(0))).ok();
    wait_for(SOON, "the bridge does not learn it again", || {
        lab.reaches("ns0", FAR);
        fdb_ports(&host, &mac(0)).contains(&port)
    });
    assert!(slow() > before, "it was a slow frame that told the bridge");
    lab.is_fast("ns0:eth0", FAR);
    lab.down();
    host.finish();
}

fn port_is_on(host: &Host, port: &str, bridge: &str) -> bool {
    host.json(format!("ip -j link show dev {port}"))[0]["master"] == bridge
}
