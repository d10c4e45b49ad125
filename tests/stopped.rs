//! Hosts that are stopped and started. `ip` judges what the rest of the lab sees, and that all is as it was.

use serde_json::Value;

use crate::harness::{Host, Lab, SLACK, wait_until};

/// A router between a bridge and a cable, with a host on either, and one more on the bridge.
const LAB: &str = "\
name = \"routed\"
[bridge.br0]
addresses = [\"10.0.0.1/24\"]
[namespace.r]
gateway = \"10.0.0.1\"
routes = [{ to = \"fd09::/64\", via = \"fd00::11\" }]
sysctls = { \"net.ipv4.ip_forward\" = 1, \"net.ipv6.conf.all.forwarding\" = 1 }
[namespace.r.interface.eth0]
link = \"br0\"
addresses = [\"10.0.0.10/24\", \"fd00::10/64\"]
neighbours = [{ address = \"10.0.0.99\", mac = \"02:00:00:00:00:99\" }]
[namespace.r.interface.c]
link = \"far:c\"
addresses = [\"10.1.0.1/30\", \"fd01::1/64\"]
[namespace.r.interface.off]
link = \"br0\"
up = false
[namespace.far]
gateway = [\"10.1.0.1\", \"fd01::1\"]
[namespace.far.interface.c]
link = \"r:c\"
addresses = [\"10.1.0.2/30\", \"fd01::2/64\"]
[namespace.a.interface.eth0]
link = \"br0\"
addresses = [\"10.0.0.11/24\", \"fd00::11/64\"]
[namespace.b.interface.eth0]
link = \"br0\"
addresses = [\"10.0.0.12/24\"]
";

fn lab(host: &Host) -> Lab<'_> {
    let file = host.topology("routed", LAB);
    let _ = host.vethpath(format!("up {file}")).ok();
    Lab::existing(host, "routed", file)
}

/// The links of a host with their flags, addresses and routes, without what the kernel numbers and times.
#[track_caller]
fn state(host: &Host, namespace: &str) -> Vec<String> {
    let mut state = Vec::new();
    let list = |command: &str| {
        let found = host.json(format!("ip -n {namespace} -j {command}"));
        found.as_array().expect("a list").clone()
    };
    for link in list("address") {
        let flags = link["flags"].to_string();
        state.push(format!("{} {} {flags}", link["ifname"], link["operstate"]));
        for address in link["addr_info"].as_array().expect("a list") {
            let Value::String(local) = &address["local"] else { panic!("{address}") };
            let tentative = &address["tentative"];
            state.push(format!("{} {local}/{} {tentative}", link["ifname"], address["prefixlen"]));
        }
    }
    for family in ["-4", "-6"] {
        for route in host.json(format!("ip {family} -n {namespace} -j route")).as_array().expect("a list") {
            state.push(format!("{} via {} dev {}", route["dst"], route["gateway"], route["dev"]));
        }
    }
    state.sort();
    state
}

/// Whether an interface has a carrier.
fn has_carrier(host: &Host, namespace: &str, interface: &str) -> bool {
    let link = &host.json(format!("ip -n {namespace} -j link show dev {interface}"))[0];
    link["flags"].as_array().expect("a list").iter().any(|flag| flag == "LOWER_UP")
}

/// Waits until the router is as it was. Carriers and addresses take a moment.
#[track_caller]
fn is_again(host: &Host, before: &[String]) {
    wait_until(SLACK, || {
        let now = state(host, "r");
        if now == before { Ok(()) } else { Err(format!("{before:#?}\nnow: {now:#?}")) }
    });
}

/// The state of the router once its addresses are usable.
#[track_caller]
fn settled(host: &Host) -> Vec<String> {
    wait_until(SLACK, || {
        let state = state(host, "r");
        if state.iter().any(|line| line.ends_with(" true")) { Err(format!("{state:#?}")) } else { Ok(state) }
    })
}

#[test]
fn a_stopped_host_is_off_for_the_others_and_starts_as_it_was() {
    let host = Host::new();
    let lab = lab(&host);
    lab.reaches("a", "10.0.0.10");
    lab.reaches("far", "fd00::10");
    let before = settled(&host);

    let _ = host.vethpath("stop r").ok().stderr_has("host r is stopped");
    assert!(!has_carrier(&host, "far", "c"), "the other end of the cable");
    let now = state(&host, "r");
    assert!(
        now.iter().filter(|line| line.contains("eth0") || line.contains("\"c\"")).all(|l| !l.contains("UP")),
        "{now:#?}"
    );
    assert!(!now.iter().any(|line| line.contains("default")), "{now:#?}");
    assert!(!lab.pings("a", "10.0.0.10"));
    // The rest goes on.
    lab.is_fast("a:eth0", "10.0.0.12");

    // It stays stopped, and that is what the lab is to be.
    let plan = host.vethpath(format!("plan {}", lab.file)).ok();
    let _ = plan.stdout_has("nothing to change");
    let again = host.vethpath(format!("up {} --json", lab.file)).ok();
    assert_eq!(again.json()["changes"], serde_json::json!([]));
    let _ = again.stderr_has("note: host r is stopped; `vethpath start r` starts it");
    assert_eq!(state(&host, "r"), now);
    let shown = host.vethpath("show --json").ok().json();
    assert_eq!((&shown["namespaces"][0]["stopped"], &shown["drift"]), (&true.into(), &serde_json::json!([])));
    let _ = host.vethpath("show").ok().stdout_has("(stopped)");
    let _ = host.vethpath("stop r").ok().stderr_has("host r was stopped already");
    // Also over a change of the file.
    let more = LAB.replace("10.0.0.12/24", "10.0.0.13/24");
    let _ = host.vethpath(format!("up {}", host.topology("routed", &more))).ok();
    assert_eq!(state(&host, "r"), now);
    lab.reaches("a", "10.0.0.13");

    let _ = host.vethpath("start r").ok().stderr_has("host r is started");
    is_again(&host, &before);
    lab.reaches_within(SLACK, "far", "10.0.0.10");
    lab.reaches_within(SLACK, "far", "fd00::10");
    lab.is_fast("a:eth0", "10.0.0.10");
    let _ = host.vethpath("start r").ok().stderr_has("host r was started already");
    let _ = host
        .vethpath(format!("plan {}", host.topology("routed", &more)))
        .ok()
        .stdout_has("nothing to change");

    let _ = host.vethpath("restart r").ok().stderr_has("host r is stopped").stderr_has("host r is started");
    is_again(&host, &before);
    let events = host.vethpath("events --json").ok().stdout;
    let kinds = ["host-stopped", "host-started"].map(|kind| events.matches(&format!("\"{kind}\"")).count());
    assert_eq!(kinds, [2, 2], "{events}");
    lab.down();
    host.finish();
}

#[test]
fn what_cannot_be_stopped_is_named_and_stays() {
    let mut host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    host.set_baseline();
    let text = "name = \"mixed\"\n[bridge.br0]\n[bridge.sw]\nnamespace = \"fabric\"\n[namespace.fabric]\n\
        [namespace.mine]\nadopt = { path = \"/run/netns/theirs\" }\n[namespace.mine.interface.eth0]\nlink = \"br0\"\n\
        [namespace.n.interface.eth0]\nlink = \"sw\"\n";
    let file = host.topology("mixed", text);
    let _ = host.vethpath(format!("up {file}")).ok();
    let refused = |arguments: &str, message: &str, hint: &str| {
        let _ = host.vethpath(arguments).fails(1).stderr_has(message).stderr_has(hint);
    };
    refused("stop mine", "namespace `mine` of lab `mixed` is adopted", "hint: stop it with the program");
    refused(
        "restart fabric",
        "bridge `sw`, to which hosts are linked, is in namespace `fabric`",
        "hint: stop the hosts",
    );
    refused("stop n nobody", "no lab has a namespace `nobody`", "hint: there are: ");
    refused("stop n --lab other", "other", "");
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    // Down of a lab with a stopped host leaves nothing, and a new lab has none.
    let _ = host.vethpath("stop n").ok();
    let _ = host.vethpath("down mixed").ok();
    let again = host.vethpath(format!("up {file}")).ok();
    assert!(!again.stderr.contains("is stopped"), "{again}");
    let _ = host.vethpath("down mixed").ok();
    host.finish();
}

#[test]
fn a_stop_that_is_killed_is_completed_or_undone_by_the_next_command() {
    let host = Host::new();
    let lab = lab(&host);
    lab.reaches_within(SLACK, "far", "fd00::10");
    let before = settled(&host);
    for round in 0..6 {
        let stop = host.spawn_vethpath("stop r");
        // At any moment of it: after the record was written, between steps, or when it is done.
        std::thread::sleep(std::time::Duration::from_millis(20 * round));
        stop.kill();
        drop(stop);
        let _ = host.vethpath_after_a_kill("start r").ok();
        is_again(&host, &before);
    }
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    lab.down();
    host.finish();
}
