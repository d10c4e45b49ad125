//! `up` repairs what was changed by hand in a lab that is up.

use crate::harness::{Host, Lab};

const NOTHING: &str = "lab three-hosts is up: nothing to change";

/// `plan` names exactly these changes, `up` makes them, and then there are none.
#[track_caller]
fn heals(host: &Host, lab: &Lab<'_>, changes: &[&str]) {
    let _ = lab.heard();
    let planned = host.vethpath(format!("plan {}", lab.file)).ok().stdout;
    assert_eq!(planned.lines().collect::<Vec<_>>(), changes);
    let _ = host.vethpath(format!("up {}", lab.file)).ok().says("lab three-hosts is up: ");
    nothing_to_change(host, lab);
    let _ = lab.heard();
    let _ = host.vethpath(format!("up {}", lab.file)).ok().says(NOTHING);
}

/// Waits for the agent first: one that does not reply would have to be replaced.
#[track_caller]
fn nothing_to_change(host: &Host, lab: &Lab<'_>) {
    let _ = lab.heard();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().prints(NOTHING);
}

#[test]
fn a_port_that_was_taken_off_its_bridge() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns0:eth0");
    let _ = host.run(format!("ip link set {port} nomaster")).ok();
    heals(&host, &lab, &[&format!("~ change port host:{port}: bridge none -> docker0")]);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.is_fast("ns1:eth0", "172.17.0.101");

    let _ = host.run("ip link add br9 type bridge").ok();
    let _ = host.run(format!("ip link set {port} master br9")).ok();
    heals(&host, &lab, &[&format!("~ change port host:{port}: bridge br9 -> docker0")]);
    let _ = host.run("ip link del br9").ok();
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

#[test]
fn a_bridge_that_was_deleted() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let ports = ["ns0:eth0", "ns1:eth0", "ns2:eth0"]
        .map(|pair| format!("~ change port host:{}: bridge none -> docker0", lab.port(pair)));
    let _ = host.run("ip link del docker0").ok();
    let mut changes = vec!["+ create bridge docker0"];
    changes.extend(ports.iter().map(String::as_str));
    changes.extend([
        "+ create address 172.17.0.1/16 on host:docker0",
        "~ change interface host:docker0: down -> up",
    ]);
    heals(&host, &lab, &changes);
    for to in ["172.17.0.1", "172.17.0.102", "172.17.0.103"] {
        lab.reaches("ns0", to);
    }
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

#[test]
fn an_mtu_that_was_changed_and_a_loopback_that_is_down() {
    let host = Host::new();
    let text = "datapath = \"tc\"";
    let lab = host.lab("three-hosts").with(text, "datapath = \"tc\"\nmtu = 4000").up();
    let port = lab.port("ns0:eth0");
    nothing_to_change(&host, &lab);
    for command in [
        "ip link set docker0 mtu 1400",
        &format!("ip link set {port} mtu 1400"),
        "ip -n ns0 link set eth0 mtu 1400",
        "ip -n ns0 link set lo down",
    ] {
        let _ = host.run(command).ok();
    }
    let changes = [
        &format!("~ change mtu host:{port}: 1400 -> 4000"),
        "~ change mtu ns0:eth0: 1400 -> 4000",
        "~ change mtu host:docker0: 1400 -> 4000",
        "~ change interface ns0:lo: down -> up",
    ];
    heals(&host, &lab, &changes);
    let _ = host.run("ip -o link show docker0").ok().prints("mtu 4000");
    lab.reaches("ns0", "127.0.0.1");
    lab.down();
    host.finish();
}

/// The kernel lowers a bridge's MTU to the smallest of its ports: there is nothing to repair.
#[test]
fn a_bridge_with_a_larger_mtu_than_a_port() {
    let host = Host::new();
    let lab = host.lab("three-hosts").with("datapath = \"tc\"", "datapath = \"tc\"\nmtu = 4000");
    let lab = lab.with("172.17.0.103/16\"]", "172.17.0.103/16\"]\nmtu = 1500").up();
    nothing_to_change(&host, &lab);
    lab.down();
    host.finish();
}

/// `up`, `list` and `show` report the state of the repaired lab, not the state while parts of it were missing.
#[test]
fn up_says_how_the_lab_stands_that_it_has_mended() {
    let host = Host::new();
    for (name, namespaces, pairs) in [("fabric", "fabric ns0 ns1", 2), ("three-hosts", "ns0 ns1 ns2", 3)] {
        let lab = host.lab(name).up();
        let at = if name == "fabric" { "ip -n fabric" } else { "ip" };
        let first = namespaces.split(' ').next().expect("there are some");
        let port = lab.port("ns0:eth0");
        for (way, is_noticed) in [
            (format!("for n in {namespaces}; do ip netns del $n; done"), false),
            (format!("for n in {namespaces}; do ip netns del $n; done"), true),
            (format!("ip netns del {first}"), true),
            (format!("{at} link del {port}"), false),
            (format!("kill -KILL $(cat /run/vethpath/{name}/agent.lock)"), false),
        ] {
            let _ = host.run(["sh", "-c", &way]).ok();
            if is_noticed {
                lab.says_of("ns0:eth0", "does not exist");
            }
            let armed = format!("{pairs} of {pairs} pairs armed");
            let _ = host.vethpath(format!("up {}", lab.file)).ok().says(&format!("fast path: {armed}"));
            let _ = host.vethpath("list").ok().prints(&format!("{armed}, agent alive"));
            let shown = host.vethpath("show --json").ok().stdout;
            assert_eq!(shown.matches("\"armed\"").count(), pairs, "{way}: {shown}");
            lab.is_fast("ns0:eth0", if name == "fabric" { "10.2.0.11" } else { "172.17.0.102" });
        }
        lab.down();
    }
    host.finish();
}
