//! Stations whose slot another one holds: their entries are in the hash map, and are used as soon as those in slots.

use aya::maps::{HashMap, Map, MapData};
use vethpath_common::{Entry, Station, StationKey, UNCONFIRMED, names, slot_of};

use crate::{
    harness::{Host, Lab, format_mac},
    hazards::{A, A_SECOND, B, C, fast_lab, has_fdb_entry, mac, mac_bytes},
};

fn pinned(host: &Host, map: &str) -> MapData {
    let path = host.path(&format!("/sys/fs/bpf/vethpath/three-hosts/{map}"));
    MapData::from_pin(path).expect("it is pinned")
}

/// Stations that are in the hash map.
fn hashed(host: &Host) -> Vec<(StationKey, Station)> {
    let map: HashMap<_, StationKey, Station> =
        HashMap::try_from(Map::HashMap(pinned(host, names::STATIONS))).expect("a hash map");
    map.iter().filter_map(Result::ok).collect()
}

/// A MAC address whose key has the same slot as a host's, on the same bridge.
fn rival(host: &Host, lab: &Lab<'_>, namespace: &str) -> [u8; 6] {
    let slots = pinned(host, names::STATION_SLOTS);
    let bits = slots.info().expect("it tells").max_entries().ilog2();
    let table = vethpath::datapath::Slots::<Station>::map(slots.fd(), bits).expect("it can be mapped");
    let mac = mac_bytes(lab, namespace);
    let mut words = table.iter().map(|(key, _)| Station::words(&key));
    let words = words.find(|words| bytemuck::cast::<_, [u8; 12]>(*words)[4..10] == mac);
    let words = words.expect("it is a station");
    let key = |mac: [u8; 6]| Station::words(&StationKey::new(words[0], mac.into()));
    let mut macs = (0..=u16::MAX).map(|number| {
        let [high, low] = number.to_be_bytes();
        [0x02, 0xaa, 0, 0, high, low]
    });
    macs.find(|&other| slot_of(key(other), bits) == slot_of(words, bits)).expect("there are few slots")
}

#[test]
fn a_station_whose_slot_is_anothers_becomes_fast_and_moves() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let rival = rival(&host, &lab, "ns1");
    let rival_mac = format_mac(rival);
    let address = "addresses = [\"172.17.0.103/16\"]";
    let file = host.lab("three-hosts").with(address, &format!("{address}\nmac = \"{rival_mac}\"")).write();
    let _ = host.vethpath(format!("up {file}")).ok();
    assert_eq!(mac(&lab, "ns2"), rival_mac);
    lab.is_fast("ns0:eth0", C);
    lab.is_fast("ns2:eth0", A);
    let only = |entries: &[(StationKey, Station)]| match entries {
        [(key, station)] => (*key, *station),
        others => panic!("{others:?}"),
    };
    let (key, station) = only(&hashed(&host));
    assert_eq!(bytemuck::bytes_of(&key)[4..10], rival);
    // It waits for a confirmation, not for a time.
    assert!(station.away_until_ns > UNCONFIRMED, "{station:?}");

    // A static entry moves its address to ns1's port for a while.
    let (home, elsewhere) = (lab.port("ns2:eth0"), lab.port("ns1:eth0"));
    let _ = host.run(format!("bridge fdb replace {rival_mac} dev {elsewhere} master static sticky")).ok();
    lab.loses_within(A_SECOND, "ns0", C);
    lab.is_fast("ns0:eth0", B);
    let _ = host.run(format!("bridge fdb del {rival_mac} dev {elsewhere} master")).ok();
    lab.reaches_within(A_SECOND, "ns2", A);
    assert!(has_fdb_entry(&host, &home, &rival_mac));
    lab.is_fast("ns0:eth0", C);
    assert_eq!(only(&hashed(&host)).0, key);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}
