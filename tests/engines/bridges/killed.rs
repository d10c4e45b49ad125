//! Agent, commands and engine are killed at random. What is left on the engine's bridge is what was there before.

use std::{thread, time::Duration};

use serde_json::Value;

use super::{Bridge, Containers, set_bridge_netfilter};
use crate::{
    accelerate::configuration,
    engines::Docker,
    guests::has_program,
    harness::{Host, SLACK, TIMEOUT, seed, sized, wait_for},
    programs::Random,
};

/// What could be left on a bridge: the configuration of its devices and what is attached to its ports.
#[track_caller]
fn leavings(host: &Host) -> Vec<String> {
    let links = host.json("ip -j link show master docker0");
    let mut ports: Vec<_> =
        links.as_array().expect("a list").iter().map(|link| link["ifname"].clone()).collect();
    ports.sort_by_key(Value::to_string);
    let mut all = vec![configuration(host, "docker0"), host.run("bridge -d link show").ok().stdout];
    for port in ports.iter().filter_map(Value::as_str) {
        // The kernel releases links some time after they were removed.
        wait_for(SLACK, &format!("{port} keeps its program"), || !has_program(host, port));
        for hook in ["ingress", "egress"] {
            all.push(host.run(format!("tc filter show dev {port} {hook}")).ok().stdout);
        }
        all.push(host.run(format!("tc qdisc show dev {port}")).ok().stdout);
    }
    all
}

/// The FDB entries that do not age, and the flags of all others: an entry of ours must be one that ages.
#[track_caller]
fn entries(host: &Host) -> (Vec<String>, Vec<String>) {
    let entries = host.json("bridge -j fdb show br docker0");
    let (mut lasting, mut flags) = (Vec::new(), Vec::new());
    for entry in entries.as_array().expect("a list") {
        match entry["state"].as_str() {
            Some("") | None => flags.push(entry["flags"].to_string()),
            Some(_) => lasting.push(entry.to_string()),
        }
    }
    lasting.sort();
    flags.sort();
    flags.dedup();
    (lasting, flags)
}

#[test]
fn whatever_is_killed_at_random_leaves_nothing_on_the_bridge_of_docker() {
    let mut random = Random(seed(7));
    let mut host = Host::new();
    let mut docker = Docker::start_with(&host, &["--live-restore"]);
    docker.import();
    let options = "--ulimit nofile=1024:1024 --security-opt seccomp=unconfined";
    let containers = Containers::new(&host, docker.client(), options);
    containers.start("client", "", false);
    containers.start("web", "", true);
    set_bridge_netfilter(&host, false);
    let b = containers.address("web");
    containers.is_reached("client", &b);
    containers.is_served("client", &b);
    let docker0 = Bridge { host: &host, name: "docker0" };
    let (before, (lasting, flags)) = (leavings(&host), entries(&host));
    for _ in 0..sized(12, 150) {
        let moment = Duration::from_millis(random.next() % 400);
        match random.next() % 6 {
            0 => {
                docker.kill();
                thread::sleep(moment);
                docker.run();
                set_bridge_netfilter(&host, false);
            }
            1 | 2 => {
                let _ = host.vethpath_after_a_kill("accelerate docker0").ok();
                containers.is_reached("client", &b);
                let agent = docker0.stats()["agent"]["pid"].as_i64().expect("it is alive");
                thread::sleep(moment);
                let _ = host.run(format!("kill -KILL {agent}")).ok();
            }
            verb => {
                let stop = if verb == 3 { " --stop" } else { "" };
                let command = host.spawn_vethpath(format!("accelerate docker0{stop}"));
                thread::sleep(moment);
                command.kill();
                let _ = command.wait(TIMEOUT);
            }
        }
        containers.is_reached("client", &b);
        containers.is_served("client", &b);
    }
    // Any state leads to an accelerated bridge, and from there to what was there before.
    let _ = host.vethpath_after_a_kill("accelerate docker0").ok();
    docker0.has_ports(2, "armed");
    docker0.is_fast(&containers, "client", &b, &[("client", "eth0"), ("web", "eth0")]);
    docker0.stop();
    assert_eq!(leavings(&host), before);
    assert_eq!(entries(&host), (lasting, flags));
    containers.is_reached("client", &b);
    let _ = containers.engine("rm --force client web");
    docker.remove();
    host.set_baseline_when_stable();
    host.finish();
}
