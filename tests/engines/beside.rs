//! Labs beside Docker: its rules drop what they forward, a fabric has none of them, and `DOCKER-USER` accepts.

use super::{Docker, LAB, pings, sorted, wait_for_pings};
use crate::{
    firewall::{INTERNET, MASQUERADED, NO_INTERNET, OURS, reaches, rules, run_all},
    harness::{Host, SLACK, wait_until},
};

/// What Docker's rules do to the lab's packets.
const DROPPED: &str = "bridge labbr in host: IPv4 packets between its hosts are dropped by nft table ip filter, chain \
                       FORWARD (policy drop)";

#[track_caller]
fn shows_the_drop(host: &Host, command: &str) {
    wait_until(SLACK, || match host.vethpath(command).ok().stdout {
        shown if shown.contains(DROPPED) => Ok(()),
        shown => Err(format!("the drop is not shown: {shown}")),
    });
}

/// Docker sets the policy of FORWARD to drop, and br_netfilter sends bridged frames there.
#[test]
fn a_lab_whose_packets_docker_drops_is_refused_until_a_rule_accepts_them() {
    let host = Host::new();
    let mut docker = Docker::start(&host);
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").ok();
    let file = host.topology("beside", LAB);
    let refused = host.vethpath(format!("up {file}")).fails(1).stderr_has(DROPPED);
    let _ = refused.stderr_has("`iptables -I DOCKER-USER -i labbr -o labbr -j ACCEPT` accepts them");
    assert!(host.namespaces().is_empty() && !host.path("/run/vethpath").exists());
    assert!(!host.run("ip link show labbr").succeeded());

    let _ = host.run("iptables -I DOCKER-USER -i labbr -o labbr -j ACCEPT").ok();
    let up = host.vethpath(format!("up {file}")).ok();
    assert!(!up.stderr.contains("dropped"), "{}", up.stderr);
    wait_for_pings(&host);
    // The hosts do not forward because the machine does.
    assert_eq!(host.run("sysctl -n net.ipv4.ip_forward").ok().stdout, "1\n");
    assert_eq!(host.run("ip netns exec a sysctl -n net.ipv4.ip_forward").ok().stdout, "0\n");

    // dockerd creates its chains again and keeps the rules in DOCKER-USER.
    docker.stop();
    docker.run();
    wait_for_pings(&host);
    let stats = host.vethpath("stats").ok().stdout;
    assert!(!stats.contains("are dropped by"), "{stats}");

    let _ = host.run("iptables -F DOCKER-USER").ok();
    assert!(!pings(&host), "it is dropped for certain");
    ["stats", "show", "events"].into_iter().for_each(|command| shows_the_drop(&host, command));
    let _ = host.vethpath("doctor").stdout_has(DROPPED);
    let _ = host.vethpath("down").ok();
    docker.remove();
    host.finish();
}

/// The fabric has none of Docker's rules, and the machine reaches its hosts, whatever Docker does meanwhile.
#[test]
fn a_lab_in_a_fabric_is_fast_beside_docker() {
    let host = Host::new();
    let mut docker = Docker::start(&host);
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").ok();
    let gateways = ["a", "b"].map(|name| format!("[namespace.{name}]\ngateway = \"10.66.0.1\"\n")).concat();
    let text = format!("fabric = true\n{LAB}{gateways}");
    let _ = host.vethpath(format!("up {}", host.topology("beside", &text))).ok();
    wait_for_pings(&host);
    let fast = || host.vethpath("stats --json").ok().json()["pairs"][0]["fast"]["tx"]["packets"].as_u64();
    wait_until(SLACK, || match (pings(&host), fast()) {
        (true, Some(1..)) => Ok(()),
        other => Err(format!("nothing is fast: {other:?}")),
    });
    docker.stop();
    docker.run();
    wait_for_pings(&host);
    let _ = host.run("ping -n -q -c 1 -W 5 10.66.0.2").ok();
    let _ = host.run("ip netns exec b ping -n -q -c 1 -W 5 172.17.0.1").ok();
    let _ = host.vethpath("down").ok();
    docker.remove();
    host.finish();
}

/// What a fabric's bridges send to other networks comes by its uplink, and meets Docker's rules there.
#[test]
fn a_fabric_with_nat_reaches_other_networks_beside_docker() {
    let host = Host::new();
    run_all(&host, &INTERNET);
    let mut docker = Docker::start(&host);
    let before = rules(&host);
    let file = host.topology("beside", &MASQUERADED.replacen('\n', "\nfabric = true\n", 1));
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("accept-rule");
    let _ = host.vethpath(format!("up {file}")).ok();
    reaches(&host, "a", "192.0.2.2");
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    let during = rules(&host);
    docker.start_over(&during);
    reaches(&host, "a", "192.0.2.2");
    let _ = host.vethpath("down beside").ok();
    assert_eq!(sorted(&rules(&host)), sorted(&before));
    run_all(&host, &NO_INTERNET);
    docker.remove();
    host.finish();
}

/// A host behind `docker0`, as a container is.
const CONTAINER: [&str; 7] = [
    "ip netns add container",
    "ip link add c0 type veth peer name eth0 netns container",
    "ip link set c0 master docker0",
    "ip link set c0 up",
    "ip -n container addr add 172.17.0.2/16 dev eth0",
    "ip -n container link set eth0 up",
    "ip -n container route add default via 172.17.0.1",
];

#[track_caller]
fn pings_container(host: &Host, does: bool) {
    let ping = || host.run("ip netns exec a ping -n -q -c 1 -W 1 172.17.0.2");
    if does {
        wait_until(SLACK, || if ping().succeeded() { Ok(()) } else { Err(rules(host)) });
    } else {
        let _ = ping().fails(1);
    }
}

/// Docker drops what is routed, and `up` accepts what the lab sends to other networks in the chain made for that.
#[test]
fn labs_with_nat_reach_other_networks_beside_docker() {
    let host = Host::new();
    run_all(&host, &INTERNET);
    let mut docker = Docker::start(&host);
    let before = rules(&host);
    assert!(before.contains("-P FORWARD DROP"), "{before}");
    let _ = host.vethpath(format!("up {}", host.topology("beside", MASQUERADED))).ok();
    let other = MASQUERADED.replace("beside", "beside2").replace("labbr", "labbr2").replace(".66.", ".67.");
    let other = other.replace("fd66", "fd67").replace("namespace.a", "namespace.b");
    let _ = host.vethpath(format!("up {}", host.topology("beside2", &other))).ok();
    ["a", "b"].into_iter().for_each(|namespace| reaches(&host, namespace, "192.0.2.2"));
    let during = rules(&host);
    assert!(OURS.iter().all(|rule| during.contains(rule)), "{during}");
    let theirs =
        |all: &str| all.lines().filter(|line| !line.contains("vethpath")).collect::<Vec<_>>().join("\n");
    assert_eq!(theirs(&during), theirs(&before));

    // A container is not reached because of these rules.
    run_all(&host, &CONTAINER);
    let _ = host.run("ping -n -q -c 1 -W 5 172.17.0.2").ok();
    pings_container(&host, false);
    let accepted = "DOCKER-USER -i labbr -o docker0 -j ACCEPT";
    let _ = host.run(format!("iptables -I {accepted}")).ok();
    pings_container(&host, true);
    let _ = host.run(format!("iptables -D {accepted}")).ok();
    pings_container(&host, false);

    docker.start_over(&during);
    ["a", "b"].into_iter().for_each(|namespace| reaches(&host, namespace, "192.0.2.2"));
    pings_container(&host, false);
    let written = "rules written by the agent to ip filter DOCKER-USER in host: -i labbr -o up0 -j ACCEPT; ";
    let _ = host.vethpath("events beside").ok().stdout_has(written);
    let kinds = host.vethpath("events beside --json").ok().stdout;
    assert!(kinds.contains("\"kind\":\"rules-put-back\""), "{kinds}");

    let _ = host.vethpath("down beside").ok();
    reaches(&host, "b", "192.0.2.2");
    let _ = host.vethpath("down beside2").ok();
    assert_eq!(sorted(&rules(&host)), sorted(&before));
    let _ = host.run("ip netns del container").ok();
    run_all(&host, &NO_INTERNET);
    docker.remove();
    host.finish();
}
