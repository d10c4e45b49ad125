//! Containers that come and go, many at once.

use super::{Bridge, Containers, set_bridge_netfilter};
use crate::{
    engines::Docker,
    guest_churn::memory,
    guests::use_of,
    harness::{Host, SLACK, TIMEOUT, in_parallel, sized, wait_until},
};

#[test]
fn containers_of_docker_come_and_go_many_at_once() {
    let mut host = Host::new();
    let docker = Docker::start(&host);
    docker.import();
    let client = docker.client();
    let containers = Containers::new(&host, client, "");
    set_bridge_netfilter(&host, false);
    let docker0 = Bridge { host: &host, name: "docker0" };
    let _ = docker0.accelerate();
    let pid = docker0.stats()["agent"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.expect("it is alive");
    let (empty, empty_kib) = (use_of(&host, "accelerate-docker0", pid), memory(&host, pid));
    let run = "run --detach --ulimit nofile=1024:1024 --security-opt seccomp=unconfined --name";
    let (at_once, rounds) = sized((6, 2), (50, 4));
    for round in 0..rounds {
        let names: Vec<String> = (0..at_once).map(|number| format!("many{round}-{number}")).collect();
        let pids = in_parallel(&names, |name| {
            let _ = containers.engine(&format!("{run} {name} image sleep 600"));
            containers.engine(&format!("inspect {name} --format {{{{.State.Pid}}}}"))
        });
        docker0.has_ports(at_once, "armed");
        let mut named: Vec<_> = names.iter().map(|name| format!("{name}:eth0")).collect();
        named.sort();
        assert_eq!(docker0.behind(), named);
        let enter = |pid: &str| format!("nsenter --net=/proc/{pid}/ns/net");
        let address = |pid: &str| {
            let shown = host.run(format!("{} ip -4 -br addr show eth0", enter(pid))).ok().stdout;
            let address = shown.split_whitespace().nth(2).and_then(|address| address.split('/').next());
            address.expect("it has an address").to_owned()
        };
        let fast = docker0.sent().1;
        wait_until(SLACK, || {
            for (at, pid) in pids.iter().enumerate() {
                let next = address(&pids[(at + 1) % at_once]);
                let _ = host.run(format!("{} ping -n -q -c 3 -i 0.01 -W 5 {next}", enter(pid))).ok();
            }
            match docker0.sent().1 - fast {
                some if some >= 3 * at_once as u64 => Ok(()),
                some => Err(format!("{some} packets were fast: {:#}", docker0.stats())),
            }
        });
        let former = || docker0.stats()["former"]["fast"]["tx"]["packets"].as_u64().expect("a number");
        let fast = former() + docker0.sent().1;
        let _ = containers.engine(&format!("rm --force {}", names.join(" ")));
        docker0.has_ports(0, "armed");
        assert_eq!(former(), fast);
    }
    wait_until(TIMEOUT, || match use_of(&host, "accelerate-docker0", pid) {
        // One cell of the traffic matrix for what former guests sent to each other.
        (descriptors, elements) if descriptors <= empty.0 && elements <= empty.1 + 1 => Ok(()),
        after => Err(format!("(descriptors, elements) were {empty:?}, and are {after:?}")),
    });
    let after = use_of(&host, "accelerate-docker0", pid);
    let kib = memory(&host, pid);
    println!(
        "{} containers: {kib} KiB after {empty_kib}, (descriptors, elements) {after:?} after {empty:?}",
        at_once * rounds
    );
    docker0.stop();
    docker.remove();
    host.set_baseline_when_stable();
    host.finish();
}
