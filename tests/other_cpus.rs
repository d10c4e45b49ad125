//! On CPUs that reorder loads, entries are in hash maps and are used four seconds after each change. A debug build does
//! so where it is asked to.

use aya::maps::{HashMap, Map, MapData};
use vethpath_common::{Station, StationKey, names};

use crate::{
    harness::{Host, Lab},
    hazards::common::{A, A_SECOND, B, C, knows, mac},
};

/// Stations that are in the hash map.
fn hashed(host: &Host) -> usize {
    let path = host.path(&format!("/sys/fs/bpf/vethpath/three-hosts/{}", names::STATIONS));
    let map = MapData::from_pin(path).expect("it is pinned");
    let map: HashMap<_, StationKey, Station> = HashMap::try_from(Map::HashMap(map)).expect("a hash map");
    map.keys().filter_map(Result::ok).count()
}

#[test]
fn stations_in_hash_maps_become_fast_and_move() {
    let host = Host::new();
    let lab = host.lab("three-hosts");
    let file = lab.write();
    let _ = host
        .run(["env", "VETHPATH_REORDERED_LOADS=1", &host.exe(), "up", &file])
        .ok()
        .says("3 of 3 pairs armed");
    let lab = Lab::that_is_up(&host, "three-hosts", file);
    assert_eq!(hashed(&host), 3);
    lab.is_fast("ns0:eth0", B);
    lab.is_fast("ns1:eth0", A);

    // ns1's address is behind ns2's port for a while, where an administrator has put it.
    let (b, home, elsewhere) = (mac(&lab, "ns1"), lab.port("ns1:eth0"), lab.port("ns2:eth0"));
    let _ = host.run(format!("bridge fdb replace {b} dev {elsewhere} master static sticky")).ok();
    lab.loses_within(A_SECOND, "ns0", B);
    lab.is_fast("ns0:eth0", C);
    let _ = host.run(format!("bridge fdb del {b} dev {elsewhere} master")).ok();
    lab.reaches_within(A_SECOND, "ns1", A);
    assert!(knows(&host, &home, &b));
    lab.is_fast("ns0:eth0", B);
    assert_eq!(hashed(&host), 3);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}
