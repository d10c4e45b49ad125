//! A redirect that fails after the program has returned is not reported. Redirected frames are compared with those
//! that arrive. A lasting difference takes the pair off the fast path, until it works again.

use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use vethpath::datapath::Table;
use vethpath_common::{Station, StationKey, names};

use crate::{
    harness::{Host, SLACK, wait_until},
    hazards::{B, fast_lab, mac_bytes},
};

#[test]
fn frames_redirected_into_nothing_are_noticed_and_the_pair_is_disarmed() {
    let host = Host::new();
    let lab = fast_lab(&host);
    // A fault without an event for the agent: the entry leads to a device that is no veth.
    let lo = 1;
    let pinned = |name| {
        let path = host.path(&format!("/sys/fs/bpf/vethpath/three-hosts/{name}"));
        MapData::from_pin(path).expect("it is pinned")
    };
    let others = HashMap::try_from(Map::HashMap(pinned(names::STATIONS))).expect("a hash");
    let mut table: Table<Station> =
        Table::of(&pinned(names::STATION_SLOTS), others).expect("it can be mapped");
    let b = mac_bytes(&lab, "ns1");
    let is_b = |key: &StationKey| bytemuck::bytes_of(key)[4..10] == b;
    let key = table.iter().map(|(key, _)| key).find(is_b).expect("ns1 is a station");
    let mut break_it = || {
        // If the agent had reason to resync, it has repaired or removed the entry meanwhile.
        if let Some(station) = table.get(&key) {
            // Without a grace period: the entry is wrong anyway.
            table.remove(&key).expect("it may be removed");
            table.insert(&key, &Station { ifindex: lo, ..station }).expect("there is room");
        }
    };

    let talk = lab.spawn("ns0", format!("ping -n -q -i 0.05 {B}"));
    wait_until(Duration::from_secs(5) + SLACK, || {
        break_it();
        if lab.pings("ns0", B) { Err("ns0 still reaches ns1".to_owned()) } else { Ok(()) }
    });
    // Three checks, a second apart.
    wait_until(Duration::from_secs(5) + SLACK, || {
        let state = lab.state("ns1:eth0");
        if state.contains("being dropped") {
            return Ok(());
        }
        break_it();
        Err(state)
    });
    // The agent may have removed the entry just while it was broken again.
    if table.get(&key).is_some_and(|station| station.ifindex == lo) {
        table.remove(&key).expect("it may be removed");
    }
    lab.reaches_within(Duration::from_secs(5) + SLACK, "ns0", B);
    assert_eq!(lab.state("ns0:eth0"), "armed");
    let counted = lab.stats();
    let (sent, slow) = (counted.pair("ns1:eth0").fast.rx.frames, counted.pair("ns0:eth0").slow.clone());
    assert!(sent > 0 && slow.values().sum::<u64>() > 0, "{counted:#?}");
    // After its pause it is tried again, with a correct entry.
    wait_until(Duration::from_secs(60) + SLACK, || {
        let state = lab.state("ns1:eth0");
        if state == "armed" { Ok(()) } else { Err(state) }
    });
    lab.is_fast("ns0:eth0", B);
    drop(talk);
    lab.down();
    host.finish();
}
