//! Docker's bridges, with and without rules for bridged frames.

use super::{Bridge, Containers, OUTSIDE, PUBLISHED, set_bridge_netfilter};
use crate::{
    accelerate::configuration,
    engines::Docker,
    firewall::{INTERNET, NO_INTERNET, run_all},
    harness::Host,
};

/// What containers of Docker may do, and may not. `client`, `web` and `shares` are on `docker0`, `web` with a published port; `other`
/// is alone on another network; `left` and `right` are on one without ICC, which Docker enforces by rules for bridged frames.
/// `is_open`: the machine's bridges call no rules.
#[track_caller]
fn behaves_as_docker_wants(containers: &Containers<'_>, is_open: bool) {
    let [a, b, other, f] = ["client", "web", "other", "right"].map(|name| containers.address(name));
    containers.is_reached("client", &b);
    containers.is_reached("shares", &b);
    containers.is_served("client", &b);
    let namespace = |name: &str| containers.inside(name, "readlink /proc/self/ns/net").ok().stdout;
    assert_eq!(namespace("shares"), namespace("client"));
    // Outside access, and a published port: from outside, and from its own container (hairpin mode).
    containers.is_reached("client", OUTSIDE);
    for from in ["internet", "machine", "web"] {
        containers.is_served(from, PUBLISHED);
    }
    containers.is_reached("machine", &a);
    containers.is_reached("client", "172.17.0.1");
    // Networks are isolated from each other. Without its proxy, Docker needs rules for bridged frames where a container
    // asks for a port that another one on its network publishes: the reply passes the bridge alone.
    let apart = [("client", &*other), ("other", &*b)];
    if is_open {
        containers.is_reached("left", &f);
        containers.are_refused(&apart, &[("client", PUBLISHED)]);
    } else {
        containers.is_served("client", PUBLISHED);
        containers.are_refused(&[&apart[..], &[("left", &*f)]].concat(), &[]);
    }
    // Another network for a running container, and away again.
    let _ = containers.engine("network connect two client");
    containers.is_reached("client", &other);
    let there = containers.interface("client", &format!("{other}/16")).1;
    containers.is_reached("other", &there);
    let _ = containers.engine("network disconnect two client");
    containers.are_refused(&[("client", &*other), ("other", &*there)], &[]);
    containers.is_silent_while_paused("web", &b);
}

#[test]
fn docker_behaves_the_same_with_its_bridges_accelerated() {
    let mut host = Host::new();
    run_all(&host, &INTERNET);
    let mut docker = Docker::start_with(&host, &["--live-restore"]);
    docker.import();
    let client = docker.client();
    let options = "--ulimit nofile=1024:1024 --security-opt seccomp=unconfined";
    let containers = Containers::new(&host, client, options);
    let named = "network create --opt com.docker.network.bridge.name";
    let _ = containers.engine(&format!("{named}=br-two two"));
    let _ = containers
        .engine(&format!("{named}=br-closed --opt com.docker.network.bridge.enable_icc=false closed"));
    containers.start("client", "", false);
    containers.start("web", "--publish 8080:80", true);
    containers.start("shares", "--network container:client", false);
    containers.start("other", "--network two", false);
    containers.start("left", "--network closed", false);
    containers.start("right", "--network closed", false);
    let bridges = ["docker0", "br-two", "br-closed"].map(|name| Bridge { host: &host, name });
    let [docker0, two, closed] = &bridges;

    // With rules for bridged frames, as before Docker 27.3, no port is armed.
    set_bridge_netfilter(&host, true);
    behaves_as_docker_wants(&containers, false);
    let settings = || bridges.each_ref().map(|bridge| configuration(&host, bridge.name));
    let before = settings();
    let report = docker0.accelerate().stdout_has("0 of 2 ports armed");
    let rule = "not armed: nft table ip filter, chain FORWARD";
    assert_eq!(report.stdout.matches(rule).count(), 2, "{report}");
    let _ = report.stderr_has("bridge-nf-call-iptables=0");
    let _ = closed.accelerate().stdout_has("0 of 2 ports armed");
    let _ = two.accelerate().stdout_has("0 of 1 port armed");
    behaves_as_docker_wants(&containers, false);
    assert_eq!(bridges.each_ref().map(|bridge| bridge.sent().1), [0; 3]);
    bridges.iter().for_each(Bridge::stop);

    set_bridge_netfilter(&host, false);
    behaves_as_docker_wants(&containers, true);
    assert_eq!(settings(), before);
    let report = docker0.accelerate().stdout_has("2 of 2 ports armed");
    let _ = report.stdout_has(" (client:eth0): armed").stdout_has(" (web:eth0): armed");
    let _ = closed.accelerate().stdout_has("2 of 2 ports armed");
    let _ = two.accelerate().stdout_has("1 of 1 port armed");
    let [b, f] = ["web", "right"].map(|name| containers.address(name));
    let all = [("client", "eth0"), ("web", "eth0")];
    docker0.is_fast(&containers, "client", &b, &all);
    docker0.is_fast(&containers, "shares", &b, &all);
    closed.is_fast(&containers, "left", &f, &[("left", "eth0"), ("right", "eth0")]);
    behaves_as_docker_wants(&containers, true);
    // Each port is shown as the container behind it. `shares` has no port of its own.
    assert_eq!(docker0.behind(), ["client:eth0", "web:eth0"]);
    let _ = host.vethpath("show accelerate-docker0").ok().stdout_has("guest web:eth0");
    let _ = host.vethpath("stats accelerate-docker0").ok().stdout_has("\nweb:eth0 ");
    let _ = host.vethpath("stats accelerate-docker0 --matrix").ok().stdout_has("\nclient:eth0 (docker0/veth");
    let _ = host.vethpath("events accelerate-docker0").ok().stdout_has("  web:eth0 (docker0/veth");
    docker0.is_measured("client", "web");
    // A container is fast on each of its networks.
    let _ = containers.engine("network connect two client");
    two.has_ports(2, "armed");
    let other = containers.address("other");
    let second = containers.interface("client", &format!("{other}/16")).0;
    two.is_fast(&containers, "client", &other, &[("client", &second), ("other", "eth0")]);
    docker0.is_fast(&containers, "client", &b, &all);
    let _ = containers.engine("network disconnect two client");
    two.has_ports(1, "armed");

    // Docker is started again, while its containers live.
    docker.stop();
    docker0.is_fast(&containers, "client", &b, &all);
    let sleeper = format!("eth0 in pid {} (sleep)", containers.pid("client"));
    assert!(docker0.behind().contains(&sleeper), "{:?}", docker0.behind());
    docker.run();
    set_bridge_netfilter(&host, false);
    docker0.has_ports(2, "armed");
    behaves_as_docker_wants(&containers, true);
    docker0.is_fast(&containers, "client", &b, &all);
    // A container has another namespace and another port.
    let _ = containers.engine("restart --time 0 web");
    let _ = containers.find("web");
    docker0.has_ports(2, "armed");
    assert_eq!(docker0.behind(), ["client:eth0", "web:eth0"]);
    let b = containers.address("web");
    docker0.is_fast(&containers, "client", &b, &all);
    containers.is_served("internet", PUBLISHED);

    // Rules for bridged frames are in force at once.
    set_bridge_netfilter(&host, true);
    closed.has_ports(2, "chain FORWARD");
    behaves_as_docker_wants(&containers, false);
    let after = settings();
    bridges.iter().for_each(Bridge::stop);
    assert_eq!(settings(), after);
    containers.is_reached("client", &b);

    let _ = containers.engine("rm --force client web shares other left right");
    let _ = containers.engine("network rm two closed");
    run_all(&host, &NO_INTERNET);
    docker.remove();
    host.set_baseline_when_stable();
    host.finish();
}
