//! An `up` with nothing to do changes nothing, and is quick.

use std::time::Instant;

use super::labs::{hosts, up};
use crate::harness::{Host, SLACK, wait_for};

/// `ip monitor` hears of every change in the lab's namespaces.
#[test]
fn nothing_to_do_is_no_change_of_anything() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..100));
    let at = |path: &str| {
        std::fs::metadata(host.path(path)).and_then(|file| file.modified()).expect("it is there")
    };
    let journal = at("/run/vethpath/changing/journal");
    let monitors: Vec<_> = ["ip monitor link address route", "ip -n h0 monitor link address route"]
        .iter()
        .map(|command| host.spawn(*command))
        .collect();
    // A first event shows that they listen.
    let _ = host.run("ip link add probe type bridge").ok();
    let _ = host.run("ip -n h0 link add probe type bridge").ok();
    wait_for(SLACK, "the monitors do not listen", || {
        let _ = host.run("ip link set probe mtu 1400").ok();
        let _ = host.run("ip link set probe mtu 1500").ok();
        let _ = host.run("ip -n h0 link set probe mtu 1400").ok();
        let _ = host.run("ip -n h0 link set probe mtu 1500").ok();
        monitors.iter().all(|monitor| monitor.output().contains("probe"))
    });
    let _ = host.run("ip link del probe").ok();
    let _ = host.run("ip -n h0 link del probe").ok();
    wait_for(SLACK, "the monitors do not end", || {
        monitors.iter().all(|monitor| monitor.output().contains("Deleted"))
    });
    let heard: Vec<_> = monitors.iter().map(|monitor| monitor.output().len()).collect();
    let start = Instant::now();
    let _ = host.vethpath(format!("up {}", lab.file)).ok().says("nothing to change");
    eprintln!("an `up` of 100 hosts with nothing to do took {:?}", start.elapsed());
    let now: Vec<_> = monitors.iter().map(|monitor| monitor.output().len()).collect();
    assert_eq!(now, heard, "{}", monitors.iter().map(|monitor| monitor.output()).collect::<String>());
    assert_eq!(at("/run/vethpath/changing/journal"), journal);
    drop(monitors);
    lab.down();
    host.finish();
}
