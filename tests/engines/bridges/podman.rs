//! podman's bridges.

use super::{Bridge, Containers, OUTSIDE, PUBLISHED, set_bridge_netfilter};
use crate::{
    accelerate::configuration,
    engines::Podman,
    firewall::{INTERNET, NO_INTERNET, run_all},
    harness::Host,
};

/// The same for podman's containers: `client`, `web` and `shares` on `podman0`, `other` on another network.
#[track_caller]
fn behaves_as_podman_wants(containers: &Containers<'_>) {
    let [a, b, other] = ["client", "web", "other"].map(|name| containers.address(name));
    containers.is_reached("client", &b);
    containers.is_reached("shares", &b);
    containers.is_served("client", &b);
    containers.is_reached("client", OUTSIDE);
    for from in ["internet", "machine", "client", "web"] {
        containers.is_served(from, PUBLISHED);
    }
    containers.is_reached("machine", &a);
    containers.is_reached("client", "10.88.0.1");
    containers.is_reached("other", "10.88.0.1");
    let _ = containers.engine("network connect two client");
    containers.is_reached("client", &other);
    let there = containers.interface("client", &format!("{other}/16")).1;
    containers.is_reached("other", &there);
    let _ = containers.engine("network disconnect two client");
    containers.are_refused(&[("other", &*there)], &[]);
    containers.is_silent_while_paused("web", &b);
}

#[test]
fn podman_behaves_the_same_with_its_bridges_accelerated() {
    let mut host = Host::new();
    run_all(&host, &INTERNET);
    let mut podman = Podman::new(&host);
    let containers = Containers::new(&host, podman.command("").trim().to_owned(), "");
    let _ = containers.engine("network create --disable-dns two");
    containers.start("client", "", false);
    containers.start("web", "--publish 8080:80", true);
    containers.start("shares", "--network container:client", false);
    containers.start("other", "--network two", false);
    let bridges = ["podman0", "podman1"].map(|name| Bridge { host: &host, name });
    let [podman0, two] = &bridges;
    set_bridge_netfilter(&host, false);
    behaves_as_podman_wants(&containers);
    let settings = || bridges.each_ref().map(|bridge| configuration(&host, bridge.name));
    let before = settings();
    let _ = podman0.accelerate().stdout_has("2 of 2 ports armed");
    let _ = two.accelerate().stdout_has("1 of 1 port armed");
    assert_eq!(settings(), before);
    // Without a service there is nobody to ask, and podman names the namespaces.
    assert!(podman0.behind().iter().all(|behind| behind.starts_with("netns-")), "{:?}", podman0.behind());
    podman.listen();
    assert_eq!(podman0.behind(), ["client:eth0", "web:eth0"]);
    assert_eq!(two.behind(), ["other:eth0"]);
    podman0.is_measured("client", "web");
    let b = containers.address("web");
    podman0.is_fast(&containers, "client", &b, &[("client", "eth0"), ("web", "eth0")]);
    behaves_as_podman_wants(&containers);
    let _ = containers.engine("network connect two client");
    two.has_ports(2, "armed");
    let other = containers.address("other");
    let second = containers.interface("client", &format!("{other}/16")).0;
    two.is_fast(&containers, "client", &other, &[("client", &second), ("other", "eth0")]);
    let _ = containers.engine("network disconnect two client");
    podman0.is_fast(&containers, "shares", &b, &[("client", "eth0"), ("web", "eth0")]);

    bridges.iter().for_each(Bridge::stop);
    behaves_as_podman_wants(&containers);
    let _ = containers.engine("rm --force --time 0 shares");
    let _ = containers.engine("rm --force --time 0 client web other");
    let _ = containers.engine("network rm two");
    run_all(&host, &NO_INTERNET);
    podman.stop();
    podman.remove();
    host.set_baseline_when_stable();
    host.finish();
}
