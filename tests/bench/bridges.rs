//! `bench --bridge`: the bridge of another program, with and without acceleration in turns.

use serde_json::Value;

use super::{has_warning, wait_for};
use crate::{
    accelerate::engine,
    harness::{Host, SLACK, wait_until},
};

/// Frames that the host behind `veth1` has sent, by the kernel and by `stats`.
fn sent(host: &Host) -> (u64, u64) {
    let kernel = host.json("ip -n c1 -s -j link show eth0");
    let stats = host.vethpath("stats accelerate-docker0 --json").ok().json();
    let pairs = stats["pairs"].as_array().expect("a list");
    let one = pairs.iter().find(|pair| pair["name"] == "docker0/veth1").expect("it is there");
    let packets = |value: &Value| value["packets"].as_u64().expect("a number");
    (packets(&kernel[0]["stats64"]["tx"]), packets(&one["tx"]))
}

#[test]
fn a_bridge_of_others_is_measured_and_is_as_it_was_afterwards() {
    let mut host = Host::new();
    engine(&host);
    wait_for(SLACK, "the hosts are not up", || {
        host.run("ip netns exec c1 ping -n -q -c 1 -W 1 172.17.0.3").succeeded()
    });
    host.set_baseline_when_stable();
    let bench = "bench --bridge docker0 --cores same --seconds 2 --json";
    // It is accelerated meanwhile, if it is not already.
    let report = host.vethpath(format!("{bench} --from c1 --to c2")).ok().json();
    assert_eq!((&report["from"], &report["to"]), (&"c1".into(), &"c2".into()), "{report:#}");
    for mode in ["cable", "bridge", "fast"] {
        assert!(report["udp_rr"][mode]["n"].as_u64().is_some_and(|n| n > 0), "{mode}: {report:#}");
    }
    assert!(!has_warning(&report, "not-armed-again"), "{report:#}");
    host.assert_restored("after bench");

    let _ = host.vethpath("accelerate docker0").ok();
    let before = sent(&host);
    let report = host.vethpath(bench).ok().json();
    assert!(report["tcp_rr"]["fast"]["n"].as_u64().is_some_and(|n| n > 0), "{report:#}");
    // Both are armed again, what was sent while the program was off is counted, and no event tells of that.
    let _ = host.vethpath("accelerate docker0").ok().stdout_has("2 of 2 ports armed");
    wait_until(SLACK, || match sent(&host) {
        after if after.0 - before.0 == after.1 - before.1 => Ok(()),
        after => Err(format!("{before:?} {after:?}")),
    });
    let events = host.vethpath("events accelerate-docker0 --json").ok().stdout;
    let ended = events.split_once("bench-started").expect("it is told").1;
    assert!(ended.contains("bench-ended") && !ended.contains("pair-"), "{events}");

    for (arguments, fault) in [
        ("--from c1 --to nobody", "no network namespace `nobody`"),
        ("--from c1 --to c1", "behind accelerated ports of bridge docker0"),
        ("three-hosts", "cannot be used with"),
    ] {
        let _ = host.vethpath(format!("bench --bridge docker0 {arguments}")).fails(1).stderr_has(fault);
    }
    let _ = host.vethpath("bench --bridge docker1").fails(1).stderr_has("docker1");
    let _ = host.vethpath("accelerate docker0 --stop").ok();
    host.assert_restored("after --stop");
    for command in [
        "ip link del docker0",
        "ip link del veth1",
        "ip link del veth2",
        "ip netns del c1",
        "ip netns del c2",
    ] {
        let _ = host.run(command).ok();
    }
    host.set_baseline_when_stable();
    host.finish();
}
