//! Labs with groups, meshes and chains.

use crate::harness::Host;

const GROUP_AND_MESH: &str = "
[bridge.br0]
addresses = [\"10.0.0.1/16\"]

[group.h]
count = 10
bridge = \"br0\"
subnet = \"10.0.0.0/16\"

[mesh.r]
count = 4
subnet = [\"10.1.0.0/24\", \"fd00:1::/64\"]
";

#[test]
fn a_group_and_a_mesh() {
    let host = Host::new();
    let lab = host.lab("empty").and(GROUP_AND_MESH).up();
    assert_eq!(host.namespaces().len(), 14);
    for to in ["10.0.0.1", "10.0.0.3", "10.0.0.11"] {
        lab.reaches("h0", to);
    }
    // Each of the six cables, in both families.
    for (from, to) in [
        ("r0", 1),
        ("r0", 3),
        ("r0", 5 + 2),
        ("r1", 5),
        ("r1", 9),
        ("r2", 11),
        ("r3", 6),
        ("r3", 8),
        ("r3", 10),
    ] {
        lab.reaches(from, &format!("10.1.0.{to}"));
        lab.reaches(from, &format!("fd00:1::{to:x}"));
    }
    let _ = lab.run("r0", "ip -o link show r3").ok().prints("r3@");
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().prints("nothing to change");
    let _ = host.vethpath("show").ok().prints("h9");
    lab.down();
    host.finish();
}

#[test]
fn plan_shows_what_a_shorthand_stands_for_and_what_growth_adds() {
    let host = Host::new();
    let plan = |text: &str| {
        let file = host.lab("empty").and(text).write();
        host.vethpath(format!("plan {file}")).ok().stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let first = plan(GROUP_AND_MESH);
    for line in [
        "+ create namespace h9",
        "+ create pair h9:eth0",
        "+ create cable r2:r3 - r3:r2",
        "+ create address 10.0.0.11/16 on h9:eth0",
    ] {
        assert!(first.iter().any(|told| told == line), "no {line:?} in {first:#?}");
    }
    let grown = plan(&GROUP_AND_MESH.replace("count = 10", "count = 11"));
    assert!(first.iter().all(|line| grown.contains(line)), "{grown:#?}");
    let more: Vec<_> = grown.iter().filter(|line| !first.contains(line)).collect();
    // A port's name does not contain that of its host.
    let is_new = |line: &str| line.contains("h10") || line.contains(" interface host:vp");
    assert!(!more.is_empty() && more.iter().all(|line| is_new(line)), "{more:#?}");
    host.finish();
}

#[test]
fn a_group_spread_over_a_chain_is_one_segment() {
    let host = Host::new();
    let text = "[chain.sw]\nbridges = 4\naddresses = [\"10.0.0.1/24\"]\n[group.h]\ncount = 6\nchain = \"sw\"\nsubnet = \"10.0.0.0/24\"\n";
    let lab = host.lab("empty").and(text).up();
    let _ = host.run("bridge link show").ok().prints("master sw3");
    lab.reaches("h3", "10.0.0.1");
    lab.reaches("h0", "10.0.0.5");
    lab.is_fast("h0:eth0", "10.0.0.5");
    lab.down();
    host.finish();
}

#[test]
fn validate_writes_a_shorthand_out() {
    let host = Host::new();
    let file = host.lab("empty").and(GROUP_AND_MESH).write();
    let written =
        host.vethpath(format!("validate --expand {file}")).ok().prints("[namespace.h9.interface.eth0]");
    let plain = host.topology("empty", &written.stdout);
    let again = host.vethpath(format!("validate --expand {plain}")).ok();
    assert_eq!(again.stdout, written.stdout);
    host.finish();
}
