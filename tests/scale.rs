//! Large labs: hundreds of hosts on one bridge, and small files that expand to thousands of hosts or a million routes.

use std::time::Duration;

use crate::harness::{Host, Stats, sized, wait_until, with_a_lease};

/// Timeout for a large lab where tests share the machine, in a build that is not optimised.
const LONG: Duration = Duration::from_secs(300);

fn address(number: usize) -> String {
    format!("10.77.{}.{}", 1 + number / 200, 1 + number % 200)
}

fn topology(hosts: usize) -> String {
    let mut text = "[bridge.br0]\naddresses = [\"10.77.0.1/16\"]\n".to_owned();
    for number in 0..hosts {
        text += &format!(
            "[namespace.h{number}]\ngateway = \"10.77.0.1\"\n[namespace.h{number}.interface.eth0]\n\
             link = \"br0\"\naddresses = [\"{}/16\"]\n",
            address(number)
        );
    }
    text
}

#[test]
fn a_lab_of_hundreds_of_hosts_comes_up_armed_and_goes_without_a_trace() {
    let (host, hosts) = (Host::new(), sized(200, 1000));
    let file = host.topology("large", &topology(hosts));
    let up = host.spawn_vethpath(format!("up {file}")).wait(LONG).ok();
    assert!(up.stderr.contains(&format!("fast path: {hosts} of {hosts} pairs armed")), "{up}");

    let stats = || {
        let output = host.spawn_vethpath("stats large --json").wait(LONG).ok();
        serde_json::from_str::<Stats>(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
    };
    let before = stats();
    assert_eq!(before.pairs.len(), hosts);
    let unarmed: Vec<_> = before.pairs.iter().filter(|pair| pair.state != "armed").collect();
    assert!(unarmed.is_empty(), "{unarmed:#?}");

    let fast = with_a_lease(stats, || {
        let before = stats();
        for round in 0..10 {
            let (from, to) = (round * 7919 % hosts, (round * 104_729 + 1) % hosts);
            if from != to {
                let ping = format!("ip netns exec h{from} ping -n -q -c 3 -l 3 -W 5 {}", address(to));
                let _ = host.run(ping).ok().stdout_has(" 0% packet loss");
            }
        }
        stats().fast() - before.fast()
    });
    assert!(fast >= 30, "{fast}: {:#?}", stats());

    let again = host.spawn_vethpath(format!("up {file} --json")).wait(LONG).ok();
    assert_eq!(again.json()["changes"], serde_json::json!([]), "{again}");

    let _ = host.spawn_vethpath("down large").wait(LONG).ok();
    assert_eq!(host.namespaces(), [""; 0]);
    let links = host.run("ip -o link").ok().stdout;
    assert_eq!(links.lines().count(), 1, "{links}");
    host.finish();
}

#[test]
fn links_that_are_not_the_labs_survive_the_removal_of_many_that_are() {
    let host = Host::new();
    let file = host.topology("many", &topology(20));
    let _ = host.vethpath(format!("up {file}")).ok();
    // One on the lab's own bridge, one in a group, one of another kind.
    for command in [
        "ip link add foreign0 type veth peer name beyond0",
        "ip link set foreign0 master br0",
        "ip link add foreign1 group 77 type veth peer name beyond1",
        "ip link add foreign2 type bridge",
    ] {
        let _ = host.run(command).ok();
    }
    let _ = host.vethpath("down many --force").ok();
    for link in ["foreign0", "foreign1", "foreign2"] {
        let _ = host.run(format!("ip link show {link}")).ok();
    }
    let _ = host.run("ip -o link show foreign1").ok().stdout_has("group 77");
    for link in ["foreign0", "foreign1", "foreign2"] {
        let _ = host.run(format!("ip link delete {link}")).ok();
    }
    host.finish();
}

#[test]
fn a_namespace_that_somebody_holds_open_keeps_nothing_of_the_lab() {
    let host = Host::new();
    let file = host.topology("held", &topology(12));
    let _ = host.vethpath(format!("up {file}")).ok();
    let sleeper = host.spawn("ip netns exec h3 sleep 1000");
    let netns = vethpath::kernel::Netns::open(&host.path("/run/netns/h3"), "h3").expect("it is up");
    let _ = host.vethpath("down held").ok();
    let left = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    assert!(!left.contains("eth0"), "{left}");
    drop((sleeper, netns));
    host.finish();
}

/// `up` sets a new bridge up last, but before it adds routes via that bridge.
#[test]
fn a_namespace_has_a_route_by_way_of_its_own_new_bridge() {
    let host = Host::new();
    let text = "[bridge.br0]\nnamespace = \"fabric\"\naddresses = [\"10.77.0.1/16\", \"2001:db8::1/64\"]\n\
                [namespace.fabric]\nroutes = [{ to = \"10.88.0.0/16\", via = \"10.77.1.1\" }, \
                { to = \"2001:db8:1::/64\", via = \"2001:db8::2\" }]\n"
        .to_owned()
        + &topology(12).split_once("/16\"]\n").expect("it has a bridge").1.replace("gateway", "# gateway");
    let file = host.topology("routed", &text);
    let _ = host.vethpath(format!("up {file}")).ok();
    let _ = host.run("ip -n fabric route show 10.88.0.0/16").ok().stdout_has("via 10.77.1.1 dev br0");
    let _ = host.run("ip -n fabric -6 route show 2001:db8:1::/64").ok().stdout_has("via 2001:db8::2 dev br0");
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    let _ = host.vethpath("down routed").ok();
    host.finish();
}

#[test]
fn a_killed_up_leaves_grace_periods_as_they_were() {
    const SWITCH: &str = "/sys/kernel/rcu_expedited";
    let switch = || std::fs::read_to_string(SWITCH).expect("the kernel has the switch");
    let host = Host::new();
    let file = host.topology("killed", &topology(60));
    for moment in [0, 20, 40, 60, 80, 100, 150, 200] {
        let up = host.spawn_vethpath(format!("up {file}"));
        std::thread::sleep(Duration::from_millis(moment));
        up.kill();
        let _ = up.wait(LONG);
        let _ = host.spawn_vethpath("down killed").wait(LONG);
        // Other labs on this machine set the switch too, for a moment.
        wait_until(LONG, || match switch().trim() {
            "0" => Ok(()),
            other => Err(format!("the switch is at {other}")),
        });
    }
    host.finish();
}

/// A group of hosts that are distributed over bridges, with their gateway on the first bridge. `more` are lines of the
/// group.
fn group(name: &str, hosts: usize, more: &str) -> String {
    let bridges = hosts.div_ceil(1000);
    let names: Vec<_> = (0..bridges).map(|n| format!("\"br{n}\"")).collect();
    let mut text = format!(
        "name = \"{name}\"\n[group.h]\ncount = {hosts}\nbridges = [{}]\nsubnet = \"10.0.0.0/16\"\n{more}\
         [bridge.br0]\naddresses = [\"10.0.0.1/16\"]\ntrunks = [{}]\n",
        names.join(", "),
        names[1..].join(", ")
    );
    (1..bridges).for_each(|n| text += &format!("[bridge.br{n}]\n"));
    text
}

/// Hosts that share routes: the default route and others, all via the gateway.
fn routed(hosts: usize, routes: usize) -> String {
    let mut more = "routes = [\n".to_owned();
    for n in 1..routes {
        more += &format!("{{ to = \"172.{}.{}.0/24\", via = \"10.0.0.1\" }},\n", 16 + n / 256, n % 256);
    }
    group("shared", hosts, &(more + "]\n"))
}

/// A file of 40 kB expands to a million routes. In the long suite it is four million, too many for a record.
#[test]
fn shared_routes_are_stored_once_and_summarised() {
    let host = Host::new();
    let (hosts, routes, spaces) = sized((1024, "1,047,576", "24"), (4096, "4,193,304", "3,096"));
    let file = host.topology("shared", &routed(hosts, 1024));
    let exe = host.exe();
    // Stored one by one, each route took more than 500 bytes.
    let bounded = |command: &str| host.run(["sh", "-c", &format!("ulimit -v 500000; {exe} {command}")]);
    let planned = bounded(&format!("plan {file}")).ok();
    assert!(planned.stdout.len() < 1 << 20, "{} bytes", planned.stdout.len());
    let planned = planned.stdout_has(&format!("+ ... and {routes} more: create route"));
    let planned = planned.stdout_has("; `--all` prints them");
    let planned = planned.stdout_has(&format!("+ ... and {spaces} more: create namespace"));
    assert_eq!(planned.stdout.matches("+ create route ").count(), 1000);
    let counted = bounded(&format!("validate --expand {file} | grep -c ' via = '")).ok();
    assert_eq!(counted.stdout, format!("{}\n", hosts * 1024));
    if hosts == 4096 {
        let _ = planned.stderr_has("warning: `up` refuses this file");
        let refused = bounded(&format!("up {file}")).fails(1);
        let _ = refused.stderr_has("lab `shared` is too large").stderr_has("hint: split the lab in two");
    }
    assert_eq!(host.changes(), None);
    host.finish();
}

#[test]
fn json_and_all_list_every_change() {
    let host = Host::new();
    let file = host.topology("shared", &routed(20, 100));
    let plan = |more: &str| host.vethpath(format!("plan {file} {more}")).ok();
    assert!(plan("").stdout.contains("+ ... and 1,000 more: create route; `--all` prints them"));
    assert_eq!(plan("--all").stdout.matches("+ create route ").count(), 2000);
    let changes = plan("--json").json()["changes"].as_array().expect("a list").clone();
    let route = serde_json::json!({
        "action": "create", "kind": "route", "name": "172.16.99.0/24 via 10.0.0.1 in h19"
    });
    assert_eq!(
        (changes.iter().filter(|change| change["kind"] == "route").count(), changes.contains(&route)),
        (2000, true)
    );
    host.finish();
}

/// Routes are added together in a new namespace, and one by one in an existing one.
#[test]
fn routes_of_a_group_come_and_go() {
    let host = Host::new();
    let routes = |namespace: &str| {
        let listed = host.run(format!("ip -n {namespace} route show via 10.0.0.1")).ok().stdout;
        listed.lines().count()
    };
    for (hosts, count, changes) in [(2, 300, 600), (3, 300, 300), (3, 298, 6), (3, 300, 6)] {
        let file = host.topology("shared", &routed(hosts, count));
        let report = host.vethpath(format!("up {file} --json")).ok().json();
        let of_routes =
            report["changes"].as_array().expect("a list").iter().filter(|change| change["kind"] == "route");
        assert_eq!(of_routes.count(), changes, "{hosts} {count}");
        for namespace in (0..hosts).map(|n| format!("h{n}")) {
            assert_eq!(routes(&namespace), count, "{namespace}");
        }
        let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    }
    let _ = host.vethpath("down shared").ok();
    host.finish();
}

/// All namespaces of a machine share its neighbour tables.
#[test]
fn a_lab_that_overflows_the_neighbour_table_is_warned_of_before_it_is_made() {
    let limit =
        std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").expect("IPv4 is there");
    let limit: usize = limit.trim().parse().expect("a number");
    let host = Host::new();
    // Each host has an entry for the gateway, and the gateway one for each host.
    let hosts = limit / 2 + 1;
    assert!(hosts <= 4096, "no lab is as large as this machine's limit of {limit}");
    let file = host.topology("crowd", &group("crowd", hosts, ""));
    let output = host.vethpath(format!("plan {file}")).ok();
    let need = format!(
        "lab crowd needs {} entries of the IPv4 neighbour table: bridge br0 has {hosts} neighbours",
        2 * hosts
    );
    let output = output
        .stderr_has(&need)
        .stderr_has(&format!("share {limit}, "))
        .stderr_has("hint: `sysctl -w net.ipv4.neigh.default.gc_thresh3=");
    assert!(!output.stdout.contains("neighbour"), "{output}");

    let fine = host.topology("crowd", &group("crowd", 4, ""));
    let lab = host.vethpath(format!("up {fine}")).ok();
    assert!(!lab.stderr.contains("neighbour"), "{lab}");
    let checks = host.vethpath("doctor --json").json();
    let check = |name: &str| {
        let found = checks["checks"].as_array().into_iter().flatten().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {checks:#}")).clone()
    };
    let ipv4 = check("IPv4 neighbour table");
    let found = ipv4["found"].as_str().expect("a text");
    assert!(found.starts_with(&format!("{limit} entries at most, ")), "{found}");
    assert!(found.ends_with("the labs that are up need 8"), "{found}");
    let _ = check("IPv6 neighbour table");
    let _ = host.vethpath("down crowd").ok();
    host.finish();
}
