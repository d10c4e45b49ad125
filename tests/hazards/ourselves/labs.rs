//! Two labs, two `up` at once, names that collide, and objects that are not ours.

use crate::harness::{Host, Output, TIMEOUT, wait_until_stable};

#[test]
fn conflicting_objects_are_named_and_untouched() {
    for (name, commands) in [
        ("ns1", &["ip netns add ns1"][..]),
        ("docker0", &["ip link add docker0 type bridge"]),
        ("docker0", &["ip link add docker0 type veth peer name other0"]),
        // A mark that another program has set does not make it ours.
        ("docker0", &["ip link add docker0 type bridge", "ip link set docker0 alias vethpath:another"]),
    ] {
        let mut host = Host::new();
        for command in commands {
            let _ = host.run(*command).ok();
        }
        host.set_baseline();
        let file = host.lab("three-hosts").write();
        assert_refused(&host.vethpath(format!("up {file}")), name);
        assert_eq!(host.changes(), None, "{commands:?}");
        // `down` does not remove what `up` found either.
        let _ = host.vethpath("down three-hosts").fails(1);
        host.finish();
    }
}

/// A derived name is not in the file, so the hint is not to rename it there.
#[test]
fn a_taken_port_name_is_reported_with_its_pair() {
    let mut host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns1:eth0");
    lab.down();
    let _ = host.run(format!("ip link add {port} type bridge")).ok();
    host.set_baseline();
    let file = host.lab("three-hosts").write();
    let output = host
        .vethpath(format!("up {file}"))
        .fails(1)
        .stderr_has(&port)
        .stderr_has("the port of pair ns1:eth0");
    let _ = output.stderr_has("hint: choose another name with `port = \"...\"` under the interface");
    assert_eq!(host.changes(), None);
    let lab = host
        .lab("three-hosts")
        .with("[namespace.ns1.interface.eth0]", "[namespace.ns1.interface.eth0]\nport = \"p1\"");
    let lab = lab.up();
    lab.is_fast("ns1:eth0", "172.17.0.101");
    let _ = host.run("ip -j link show dev p1 master docker0").ok();
    lab.down();
    host.finish();
}

#[test]
fn a_second_lab_with_the_same_names_is_refused() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let before = lab.stats();
    let other = host.lab("three-hosts").named("other").write();
    let output = host.vethpath(format!("up {other}"));
    let is_named = ["docker0", "ns0", "ns1", "ns2"].iter().any(|name| output.stderr.contains(name));
    assert!(matches!(output.code(), Some(1 | 2)) && is_named, "{output}");
    assert!(!host.vethpath("list --json").ok().json().to_string().contains("other"));
    let _ = host.vethpath("down other").fails(1);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.stats().not_less_than(&before);
    lab.down();
    host.finish();
}

/// Two `up` of one file at once: one makes the lab, the other waits or reports why it does not.
#[test]
fn two_up_at_once() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let (first, second) =
        (host.spawn_vethpath(format!("up {file}")), host.spawn_vethpath(format!("up {file}")));
    let both = [first, second].map(|up| up.wait(TIMEOUT));
    assert!(both.iter().any(Output::succeeded), "{}\n{}", both[0], both[1]);
    for output in both.iter().filter(|d| !d.succeeded()) {
        assert_refused(output, "three-hosts");
    }
    assert!(host.run("ip netns exec ns0 ping -n -q -c 1 -W 5 172.17.0.103").succeeded());
    let agents = host.json("bridge -j link").as_array().map(Vec::len);
    assert_eq!(agents, Some(3));
    let _ = host.vethpath("down three-hosts").ok();
    host.finish();
}

/// Checks that a command was refused, as the user's or the system's fault, and that it names the object.
#[track_caller]
fn assert_refused(output: &Output, name: &str) {
    assert!(matches!(output.code(), Some(1 | 2)) && output.stderr.contains(name), "{output}");
}

#[test]
fn two_labs_side_by_side() {
    let host = Host::new();
    let first = host.lab("three-hosts").up();
    let second =
        host.lab("fabric").with("namespace.ns0", "namespace.h0").with("namespace.ns1", "namespace.h1").up();
    first.is_fast("ns0:eth0", "172.17.0.102");
    second.is_fast("h0:eth0", "10.2.0.11");
    let listed = host.vethpath("list").ok().stdout;
    assert!(listed.contains("three-hosts") && listed.contains("fabric"), "{listed}");
    // With two labs, the command has to name one.
    let _ = host.vethpath("stats").fails(1).stderr_has("three-hosts").stderr_has("fabric");
    first.down();
    second.is_fast("h0:eth0", "10.2.0.11");
    let _ = second.assert_counters_match();
    second.down();
    host.finish();
}

#[test]
fn foreign_objects_are_untouched() {
    let mut host = Host::new();
    for command in [
        "ip netns add other",
        "ip link add br-other type bridge",
        "ip link add veth-a type veth peer name veth-b",
        "ip link set veth-a master br-other up alias vethpath-like",
        "ip link set veth-b netns other",
        "ip -n other link set veth-b up",
        "ip link set br-other up",
        "ip addr add 10.99.0.1/24 dev br-other",
        "nft add table inet other",
        "nft add chain inet other input { type filter hook input priority 0 ; }",
        "nft add rule inet other input ip saddr 192.0.2.1 drop",
        "mkdir /run/elsewhere",
    ] {
        let _ = host.run(command).ok();
    }
    host.wait_for_link("br-other");
    host.set_baseline();
    // Learned entries come and go. Configured ones stay.
    let fdb = || host.run("bridge fdb show br br-other state permanent").ok().stdout;
    // The bridge joins groups while its addresses are new.
    let fdb_before = wait_until_stable(&fdb);

    let lab = host.lab("three-hosts").up();
    lab.reaches("ns0", "172.17.0.102");
    assert_eq!(fdb(), fdb_before);
    lab.down();
    host.finish();
}
