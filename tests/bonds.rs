//! A bond that a user makes of interfaces in a namespace.

use crate::harness::Host;

/// A bond gives both members one MAC. With their own, the backup member could not take over. The plan is also tested
/// without a kernel: `what_a_bond_has_changed_of_its_member_is_no_drift`.
#[test]
#[ignore = "needs a kernel with bonding"]
fn up_leaves_the_members_of_a_bond_to_it() {
    let host = Host::new();
    let text = "[bridge.br0]\naddresses = [\"10.0.0.1/24\"]\n[namespace.r.interface.eth0]\nlink = \"br0\"\n\
        [namespace.r.interface.eth1]\nlink = \"br0\"\n[namespace.c.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.2/24\"]\n";
    let lab = host.lab("empty").named("bonded").and(text).up();
    for command in [
        "ip link add bond0 type bond mode active-backup miimon 100",
        "ip link set eth0 down",
        "ip link set eth1 down",
        "ip link set eth0 master bond0",
        "ip link set eth1 master bond0",
        "ip link set bond0 up",
        "ip addr add 10.0.0.3/24 dev bond0",
    ] {
        let _ = lab.run("r", command).ok();
    }
    lab.reaches_within(crate::harness::SLACK, "c", "10.0.0.3");
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().prints("nothing to change");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let macs = lab.run("r", "ip -br link show master bond0").ok().stdout;
    let macs: std::collections::BTreeSet<_> =
        macs.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(macs.len(), 1, "{macs:?}");
    let _ = lab.run("r", "ip link set eth0 down").ok();
    lab.reaches_within(crate::harness::SLACK, "c", "10.0.0.3");
    lab.down();
    host.finish();
}
