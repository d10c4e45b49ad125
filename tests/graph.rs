//! `graph`: the picture of a file, and of a lab that is up. An XML parser reads it.

use serde_json::Value;

use crate::harness::{Host, SLACK, wait_until};

/// The links of `graph --json`, by name.
#[track_caller]
fn link(host: &Host, arguments: &str, name: &str) -> Value {
    let graph = host.vethpath(format!("graph {arguments} --json")).ok().json();
    let links = graph["links"].as_array().expect("a list");
    links.iter().find(|link| link["name"] == name).unwrap_or_else(|| panic!("no {name} in {graph:#}")).clone()
}

/// The number of elements of a class.
fn count(svg: &str, class: &str) -> usize {
    let document = roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    document.descendants().filter(|node| node.attribute("class") == Some(class)).count()
}

#[test]
fn a_file_is_drawn_whether_it_is_up_or_not() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let svg = host.vethpath(format!("graph {file}")).ok().stdout;
    assert_eq!((count(&svg, "card bridge"), count(&svg, "card"), count(&svg, "wire")), (1, 3, 3), "{svg}");
    let _ = host.vethpath(format!("graph {file} --format dot")).ok().stdout_has("graph \"three-hosts\" {");
    let _ = host.vethpath(format!("graph {file} --format mermaid")).ok().stdout_has("flowchart TB");
    assert_eq!(link(&host, &file, "ns0:eth0")["target_interface"], "ns0-eth0");
    let _ = host.vethpath("graph three-hosts").fails(1).stderr_has("no lab `three-hosts` is up");
    let _ = host.vethpath(format!("graph {file} --live")).fails(1).stderr_has("no lab `three-hosts` is up");
    let lab = host.lab("three-hosts").up();
    assert_eq!(host.vethpath("graph").ok().stdout, svg);
    assert_eq!(host.vethpath("graph three-hosts").ok().stdout, svg);
    lab.down();
    host.finish();
}

#[test]
fn live_links_have_the_state_and_the_rate_of_the_kernel() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", "172.17.0.102");
    let _ = host.run(format!("ip link set {} down", lab.port("ns2:eth0"))).ok();
    let flood = lab.spawn("ns0", "ping -q -i 0.01 172.17.0.102");
    wait_until(SLACK, || {
        let live = &link(&host, "--live", "ns0:eth0")["live"];
        let (state, packets) = (&live["state"], live["packets"].as_f64().unwrap_or_default());
        // A hundred requests a second, and as many replies.
        if state == "up" && packets > 50.0 { Ok(()) } else { Err(format!("{live:#}")) }
    });
    let down = &link(&host, "--live", "ns2:eth0")["live"];
    assert_eq!((&down["state"], &down["packets"]), (&"down".into(), &0.0.into()), "{down:#}");
    let svg = host.vethpath("graph --live").ok().stdout;
    // Of the picture, and of its legend.
    assert_eq!(count(&svg, "wire down"), 2, "{svg}");
    drop(flood);
    lab.down();
    host.finish();
}
