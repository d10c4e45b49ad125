//! The machine's neighbour tables, which all namespaces share.

use crate::harness::Host;

/// A lab of hosts that are distributed over bridges, with their gateway on the machine.
fn text(hosts: usize) -> String {
    let bridges = hosts.div_ceil(1000);
    let names: Vec<_> = (0..bridges).map(|n| format!("\"br{n}\"")).collect();
    let mut text = format!(
        "name = \"crowd\"\n[group.h]\ncount = {hosts}\nbridges = [{}]\nsubnet = \"10.0.0.0/16\"\n\
         [bridge.br0]\naddresses = [\"10.0.0.1/16\"]\ntrunks = [{}]\n",
        names.join(", "),
        names[1..].join(", ")
    );
    (1..bridges).for_each(|n| text += &format!("[bridge.br{n}]\n"));
    text
}

#[test]
fn a_lab_that_overflows_them_is_warned_of_before_it_is_made() {
    let limit =
        std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").expect("IPv4 is there");
    let limit: usize = limit.trim().parse().expect("a number");
    let host = Host::new();
    // Each host has an entry for the gateway, and the gateway one for each host.
    let hosts = limit / 2 + 1;
    assert!(hosts <= 4096, "no lab is as large as this machine's limit of {limit}");
    let file = host.topology("crowd", &text(hosts));
    let done = host.vethpath(format!("plan {file}")).ok();
    let need = format!(
        "lab crowd needs {} entries of the IPv4 neighbour table: bridge br0 has {hosts} neighbours",
        2 * hosts
    );
    let done = done
        .says(&need)
        .says(&format!("share {limit}, "))
        .says("hint: `sysctl -w net.ipv4.neigh.default.gc_thresh3=");
    assert!(!done.stdout.contains("neighbour"), "{done}");

    let fine = host.topology("crowd", &text(4));
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
