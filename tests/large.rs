//! Small topology files that expand to large labs.

use crate::harness::{Host, sized};

/// Hosts that share routes: the default route and others, all via the gateway.
fn text(hosts: usize, routes: usize) -> String {
    let bridges = hosts.div_ceil(1000);
    let names: Vec<_> = (0..bridges).map(|n| format!("\"br{n}\"")).collect();
    let mut text = format!(
        "name = \"shared\"\n[group.h]\ncount = {hosts}\nbridges = [{}]\nsubnet = \"10.0.0.0/16\"\nroutes = [\n",
        names.join(", ")
    );
    for n in 1..routes {
        text += &format!("{{ to = \"172.{}.{}.0/24\", via = \"10.0.0.1\" }},\n", 16 + n / 256, n % 256);
    }
    text +=
        &format!("]\n[bridge.br0]\naddresses = [\"10.0.0.1/16\"]\ntrunks = [{}]\n", names[1..].join(", "));
    (1..bridges).for_each(|n| text += &format!("[bridge.br{n}]\n"));
    text
}

/// A file of 40 kB expands to a million routes. In the long suite it is four million, too many for a record.
#[test]
fn routes_that_many_share_are_kept_once_and_counted() {
    let host = Host::new();
    let (hosts, routes, spaces) = sized((1024, "1,047,576", "24"), (4096, "4,193,304", "3,096"));
    let file = host.topology("shared", &text(hosts, 1024));
    let exe = host.exe();
    // Stored one by one, each route took more than 500 bytes.
    let bounded = |command: &str| host.run(["sh", "-c", &format!("ulimit -v 500000; {exe} {command}")]);
    let planned = bounded(&format!("plan {file}")).ok();
    assert!(planned.stdout.len() < 1 << 20, "{} bytes", planned.stdout.len());
    let planned = planned.prints(&format!("+ ... and {routes} more: create route"));
    let planned = planned.prints("; `--all` prints them");
    let planned = planned.prints(&format!("+ ... and {spaces} more: create namespace"));
    assert_eq!(planned.stdout.matches("+ create route ").count(), 1000);
    let counted = bounded(&format!("validate --expand {file} | grep -c ' via = '")).ok();
    assert_eq!(counted.stdout, format!("{}\n", hosts * 1024));
    if hosts == 4096 {
        let _ = planned.says("warning: `up` refuses this file");
        let refused = bounded(&format!("up {file}")).fails(1);
        let _ = refused.says("lab `shared` is too large").says("hint: split the lab in two");
    }
    assert_eq!(host.changes(), None);
    host.finish();
}

#[test]
fn programs_and_whoever_asks_get_every_change() {
    let host = Host::new();
    let file = host.topology("shared", &text(20, 100));
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
        let file = host.topology("shared", &text(hosts, count));
        let done = host.vethpath(format!("up {file} --json")).ok().json();
        let of_routes =
            done["changes"].as_array().expect("a list").iter().filter(|change| change["kind"] == "route");
        assert_eq!(of_routes.count(), changes, "{hosts} {count}");
        for namespace in (0..hosts).map(|n| format!("h{n}")) {
            assert_eq!(routes(&namespace), count, "{namespace}");
        }
        let _ = host.vethpath(format!("plan {file}")).ok().prints("nothing to change");
    }
    let _ = host.vethpath("down shared").ok();
    host.finish();
}
