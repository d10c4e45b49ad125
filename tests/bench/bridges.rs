//! `bench --bridge`: the bridge of another program, with and without acceleration in turns.

use serde_json::Value;

use super::{has_warning, wait_for};
use crate::{
    accelerate::{engine, plug, remove_engine},
    harness::{Host, SLACK, TIMEOUT, wait_until},
};

/// Frames that the host behind `veth1` has sent, by the kernel and by `stats`, of one moment: it sends nothing
/// between the reads.
fn sent(host: &Host) -> (u64, u64) {
    let packets = |value: &Value| value["packets"].as_u64().expect("a number");
    let kernel = || packets(&host.json("ip -n c1 -s -j link show eth0")[0]["stats64"]["tx"]);
    wait_until(SLACK, || {
        let before = kernel();
        let stats = host.vethpath("stats accelerate-docker0 --json").ok().json();
        let pairs = stats["pairs"].as_array().expect("a list");
        let one = pairs.iter().find(|pair| pair["name"] == "docker0/veth1").expect("it is there");
        match kernel() {
            after if after == before => Ok((after, packets(&one["tx"]))),
            after => Err(format!("it sends: {before} and then {after} packets")),
        }
    })
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
    // Both are armed again, what was sent while the program was off is counted, and there is no event of that.
    let _ = host.vethpath("accelerate docker0").ok().stdout_has("2 of 2 ports armed");
    wait_until(SLACK, || match sent(&host) {
        after if after.0 - before.0 == after.1 - before.1 => Ok(()),
        after => Err(format!("{before:?} {after:?}")),
    });
    let events = host.vethpath("events accelerate-docker0 --json").ok().stdout;
    let ended = events.split_once("bench-started").expect("it is an event").1;
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
    remove_engine(&host);
    host.set_baseline_when_stable();
    host.finish();
}

/// A bridge with two hosts in a namespace of its own.
const ELSEWHERE: [&str; 13] = [
    "ip netns add sw",
    "ip -n sw link add docker0 type bridge",
    "ip -n sw link set docker0 up",
    "ip netns add c1",
    "ip netns add c2",
    "ip -n sw link add veth1 type veth peer name eth0 netns c1",
    "ip -n sw link add veth2 type veth peer name eth0 netns c2",
    "ip -n sw link set veth1 master docker0 up",
    "ip -n sw link set veth2 master docker0 up",
    "ip -n c1 addr add 172.17.0.2/16 dev eth0",
    "ip -n c2 addr add 172.17.0.3/16 dev eth0",
    "ip -n c1 link set eth0 up",
    "ip -n c2 link set eth0 up",
];

#[test]
fn a_bridge_in_another_namespace_is_measured_and_is_as_it_was_afterwards() {
    let mut host = Host::new();
    ELSEWHERE.into_iter().for_each(|command| drop(host.run(command).ok()));
    wait_for(SLACK, "the hosts are not up", || {
        host.run("ip netns exec c1 ping -n -q -c 1 -W 1 172.17.0.3").succeeded()
    });
    host.set_baseline_when_stable();
    let bench = "bench --bridge docker0 --namespace sw --cores same --seconds 2 --json --from c1 --to c2";
    let measured = || {
        let report = host.vethpath(bench).ok().json();
        assert!(report["udp_rr"]["fast"]["n"].as_u64().is_some_and(|n| n > 0), "{report:#}");
    };
    measured();
    host.assert_restored("after bench");
    let accelerate = "accelerate docker0 --namespace sw";
    let _ = host.vethpath(accelerate).ok().stdout_has("2 of 2 ports armed").stdout_has("veth1 (c1:eth0)");
    measured();
    let _ = host.vethpath(accelerate).ok().stdout_has("2 of 2 ports armed");
    let _ = host.vethpath(format!("{accelerate} --stop")).ok();
    host.assert_restored("after --stop");
    let _ = host.vethpath("bench --bridge docker0").fails(1).stderr_has("docker0");
    let _ = host.vethpath("bench --bridge docker0 --namespace nowhere").fails(1).stderr_has("nowhere");
    for name in ["c1", "c2", "sw"] {
        let _ = host.run(format!("ip netns del {name}")).ok();
    }
    host.set_baseline_when_stable();
    host.finish();
}

/// The two ports that are measured are without programs half of the time. Others are not.
#[test]
fn a_port_that_joins_while_its_bridge_is_measured_is_accelerated() {
    let mut host = Host::new();
    engine(&host);
    let _ = host.vethpath("accelerate docker0").ok().stdout_has("2 of 2 ports armed");
    let mut bench =
        host.spawn_vethpath("bench --bridge docker0 --cores same --seconds 600 --from c1 --to c2");
    wait_until(SLACK, || match host.vethpath("events accelerate-docker0").ok().stdout {
        events if events.contains("bench started") => Ok(()),
        events => Err(format!("{events}\n{}", bench.output())),
    });
    plug(&host, 3);
    wait_until(SLACK, || {
        let stats = host.vethpath("stats accelerate-docker0 --json").ok().json();
        let pairs = stats["pairs"].as_array().expect("a list");
        let joined = pairs.iter().find(|pair| pair["name"] == "docker0/veth3").cloned().unwrap_or_default();
        if joined["state"] == "armed" { Ok(()) } else { Err(format!("{joined:#}")) }
    });
    assert!(!bench.has_ended(), "{}", bench.output());
    bench.interrupt();
    let _ = bench.wait(TIMEOUT).fails(130);
    let _ = host.vethpath("accelerate docker0").ok().stdout_has("3 of 3 ports armed");
    let _ = host.vethpath("accelerate docker0 --stop").ok();
    remove_engine(&host);
    let _ = host.run("ip netns del c3").ok();
    host.set_baseline_when_stable();
    host.finish();
}
