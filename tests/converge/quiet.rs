//! An `up` with nothing to do changes nothing, and is quick.

use std::time::Instant;

use super::labs::{hosts, up};
use crate::harness::{Host, SLACK, wait_for, when_still};

/// `ip monitor` prints every change in all of the lab's namespaces.
#[test]
fn nothing_to_do_is_no_change_of_anything() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..100));
    let at = |path: &str| {
        std::fs::metadata(host.path(path)).and_then(|file| file.modified()).expect("it is there")
    };
    let journal = at("/run/vethpath/changing/journal");
    // Each namespace has an nsid on the host, because it has the peer of a port there.
    let monitor = host.spawn("ip monitor all-nsid link address route rule netconf nsid");
    // Events from the first namespace, the last and the host show that the monitor listens to all.
    let places = ["ip", "ip -n h0", "ip -n h99"];
    for (number, ip) in places.iter().enumerate() {
        let _ = host.run(format!("{ip} link add probe{number} type bridge")).ok();
    }
    wait_for(SLACK, "the monitor does not listen", || {
        for (number, ip) in places.iter().enumerate() {
            let _ = host.run(format!("{ip} link set probe{number} mtu 1400")).ok();
            let _ = host.run(format!("{ip} link set probe{number} mtu 1500")).ok();
        }
        let heard = monitor.output();
        (0..places.len()).all(|number| heard.contains(&format!("probe{number}: ")))
    });
    for (number, ip) in places.iter().enumerate() {
        let _ = host.run(format!("{ip} link del probe{number}")).ok();
    }
    wait_for(SLACK, "the monitor does not hear the end", || {
        let heard = monitor.output();
        let gone = |number| {
            heard.lines().any(|line| line.contains("Deleted") && line.contains(&format!("probe{number}: ")))
        };
        (0..places.len()).all(gone)
    });
    // The monitor may print more about that.
    let heard = when_still(|| monitor.output());
    let start = Instant::now();
    let _ = host.vethpath(format!("up {}", lab.file)).ok().says("nothing to change");
    eprintln!("an `up` of 100 hosts with nothing to do took {:?}", start.elapsed());
    assert_eq!(monitor.output(), heard);
    assert_eq!(at("/run/vethpath/changing/journal"), journal);
    drop(monitor);
    lab.down();
    host.finish();
}
