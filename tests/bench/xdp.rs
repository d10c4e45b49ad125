//! `bench --xdp`: measures the same path on XDP, in a second lab that is removed afterwards.

use super::{armed, has_warning, stop_while_detached};
use crate::harness::{Host, TIMEOUT, wait_for};

#[test]
fn xdp_is_measured_beside_the_lab_and_the_lab_is_left_alone() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let (namespaces, links_before) = (host.namespaces(), links(&host));
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let command = "bench --xdp --work udp-rr,udp-rate --cores same --seconds 3 --json";
    let report = host.vethpath(format!("{command} --html {}", page.display())).ok().json();
    for mode in ["cable", "bridge", "fast", "xdp"] {
        assert!(report["udp_rr"][mode]["n"].as_u64().is_some_and(|n| n > 0), "{mode}: {report:#}");
        let rate = &report["cases"][1]["rate"][mode];
        assert!(rate["median"].as_f64().is_some_and(|rate| rate > 0.0), "{mode}: {report:#}");
    }
    let ratio = &report["cases"][0]["xdp_to_bridge"];
    assert!(ratio["low"].as_f64() <= ratio["high"].as_f64() && ratio["value"].is_number(), "{report:#}");
    assert!(has_warning(&report, "sockets-on-xdp"), "{report:#}");
    assert_eq!((&report["from"], &report["bridges"]), (&"ns0".into(), &1.into()));
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains("data-path=\"XDP\""), "{page}");
    assert_eq!((host.namespaces(), links(&host), armed(&host)), (namespaces, links_before, 3));
    lab.reaches("ns0", "172.17.0.102");
    lab.down();
    host.finish();
}

#[test]
fn labs_made_by_bench_have_an_xdp_lab_beside_them() {
    let host = Host::new();
    for (shape, bridges) in [("--chain 3", 3), ("--hosts 4", 1)] {
        let command = format!("bench {shape} --xdp --work udp-rr --cores same --seconds 1 --json");
        let report = host.vethpath(command).ok().json();
        assert_eq!(report["bridges"], bridges, "{report:#}");
        assert!(report["udp_rr"]["xdp"]["n"].as_u64().is_some_and(|n| n > 0), "{report:#}");
    }
    let first = host.vethpath("bench --chain 1 --xdp --work udp-rr --cores same --seconds 1").ok().stdout;
    assert!(first.lines().next().is_some_and(|line| line.contains(", XDP ")), "{first}");
    assert_eq!(host.vethpath("list --json").ok().json(), serde_json::json!([]));
    host.finish();
}

/// Over IPv6, with large frames, where the measured lab has no fast path.
#[test]
fn the_lab_beside_has_the_addresses_and_frames_of_the_measured_one() {
    let host = Host::new();
    let file = host.lab("three-hosts").with("datapath = \"tc\"", "datapath = \"bridge\"");
    let with = |number: u8| format!("\"fd77::{number}/64\", \"172.17.0.10{number}/16\"]\nmtu = 9000");
    let file = file.with("\"172.17.0.101/16\"]", &with(1));
    let lab = file.with("\"172.17.0.102/16\"]", &with(2)).up();
    let command = "bench --from ns0 --to ns1 --xdp --work udp-rr --size 8000 --cores same --seconds 2 --json";
    let report = host.vethpath(command).ok().json();
    let latency = &report["cases"][0]["latency"];
    assert!(
        latency["xdp"]["n"].as_u64().is_some_and(|n| n > 0) && latency.get("fast").is_none(),
        "{report:#}"
    );
    lab.down();
    host.finish();
}

#[test]
fn the_lab_beside_is_gone_when_it_is_interrupted() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let namespaces = host.namespaces();
    let bench = host.spawn_vethpath(format!("bench {} --xdp --seconds 60", lab.name));
    stop_while_detached(&host, &lab, &bench);
    assert_eq!(host.vethpath("list --json").ok().json().as_array().map(Vec::len), Some(2));
    bench.interrupt();
    bench.resume();
    let _ = bench.wait(TIMEOUT).fails(130).stderr_has("interrupted");
    wait_for(TIMEOUT, "the lab is armed again", || armed(&host) == 3);
    assert_eq!(host.namespaces(), namespaces);
    lab.down();
    host.finish();
}

#[test]
fn a_lab_on_xdp_is_reported_as_such() {
    let host = Host::new();
    let lab = host.lab("three-hosts").with("datapath = \"tc\"", "datapath = \"xdp\"").up();
    let report = host.vethpath("bench --work udp-rr --cores same --seconds 1 --json").ok().json();
    assert!(has_warning(&report, "fast-is-xdp"), "{report:#}");
    lab.down();
    host.finish();
}

/// The links of the bridge's namespace.
fn links(host: &Host) -> String {
    host.run("ip -o link").ok().stdout
}
