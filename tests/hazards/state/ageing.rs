//! FDB entries age: the bridge forgets who is silent, and remembers who talks, on either path.

use std::time::Duration;

use super::super::common::knows;
use crate::harness::{Host, holds_for, wait_until};

#[test]
fn who_talks_by_the_fast_path_does_not_age_and_who_is_silent_does() {
    who_talks_does_not_age("\"tc\"");
}

#[test]
fn who_talks_by_a_plain_bridge_does_not_age_and_who_is_silent_does() {
    who_talks_does_not_age("\"bridge\"");
}

/// An address that sends stays in the bridge's table; one that is silent goes.
fn who_talks_does_not_age(datapath: &str) {
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
    // Address resolution would show the bridge a frame now and then.
    for (namespace, other) in [("ns0", 1), ("ns1", 0)] {
        let (_, mac) = &places[other];
        let command = format!("ip neigh replace 10.4.0.1{other} lladdr {mac} dev eth0 nud permanent");
        let _ = lab.run(namespace, command).ok();
    }
    let talk = lab.spawn("ns0", "ping -n -q -i 0.2 10.4.0.11");
    let in_table = |n: usize| knows(&host, &places[n].0, &places[n].1);
    let before = lab.stats().fast();
    wait_until(Duration::from_secs(60), || {
        assert!(in_table(0) && in_table(1), "the bridge forgets who talks");
        if in_table(2) { Err("the bridge remembers who is silent".to_owned()) } else { Ok(()) }
    });
    holds_for(Duration::from_secs(12), "the bridge forgets who talks", || in_table(0) && in_table(1));
    assert_eq!(lab.stats().fast() > before + 50, fast, "that was to be fast traffic, or not");
    drop(talk);
    lab.down();
    host.finish();
}
