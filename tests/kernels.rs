//! Features that Debian's kernels have as modules and others lack. They treat frames the same on a plain bridge and on
//! each fast path. `cargo xtask test --kernel` runs these tests in guests.

use crate::{
    harness::{Host, Lab, Netlink, SLACK, lacks, wait_for, wait_until},
    hazards::{A, A_SECOND, B, C, mac, mac_bytes, on_all, set_port},
};

#[ignore = "needs a kernel with VLAN filtering"]
#[test]
fn a_bridge_that_filters_vlans_keeps_them_apart() {
    on_all(|host, lab, fast| {
        let [a, b] = ["ns0:eth0", "ns1:eth0"].map(|pair| lab.port(pair));
        let _ = host.run("ip link set docker0 type bridge vlan_filtering 1").ok();
        if fast {
            lab.wait_for_state("ns0:eth0", "bridge option vlan_filtering");
        }
        lab.reaches_within(A_SECOND, "ns0", B);
        let _ = host.run(format!("bridge vlan add dev {b} vid 10 pvid untagged")).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("bridge vlan add dev {a} vid 10 pvid untagged")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
        lab.loses_within(A_SECOND, "ns0", C);
        for port in [a, b] {
            let _ = host.run(format!("bridge vlan del dev {port} vid 10")).ok();
            let _ = host.run(format!("bridge vlan add dev {port} vid 1 pvid untagged")).ok();
        }
        let _ = host.run("ip link set docker0 type bridge vlan_filtering 0").ok();
        lab.reaches_within(A_SECOND, "ns0", C);
    });
}

/// A bridge that filters looks addresses up in a VLAN. On others, only entries without one are used.
#[ignore = "needs a kernel with VLAN filtering"]
#[test]
fn up_adds_entries_in_vlans_where_the_bridge_filters() {
    let host = Host::new();
    for (option, in_vlans) in [("vlan_filtering = true", true), ("", false)] {
        let lab = host.lab("three-hosts").with("datapath = \"tc\"", option).up();
        let (port, mac) = (lab.port("ns0:eth0"), mac(&lab, "ns0"));
        let entries = host.json(format!("bridge -j fdb show brport {port}"));
        let entries = entries.as_array().expect("a list").iter().filter(|entry| entry["mac"] == mac);
        let vlans: Vec<_> = entries.filter_map(|entry| entry["vlan"].as_u64()).collect();
        assert_eq!(!vlans.is_empty(), in_vlans, "{option:?}: {vlans:?}");
        lab.down();
    }
    host.finish();
}

/// The bridge forwards tagged frames. Untagged frames of the same hosts stay fast.
#[ignore = "needs a kernel with VLAN devices"]
#[test]
fn vlan_devices_of_hosts_reach_each_other() {
    on_all(|_, lab, fast| {
        for (namespace, address) in [("ns0", "10.5.0.1/24"), ("ns1", "10.5.0.2/24")] {
            for command in [
                "ip link add link eth0 name eth0.5 type vlan id 5",
                &format!("ip addr add {address} dev eth0.5"),
                "ip link set eth0.5 up",
            ] {
                let _ = lab.run(namespace, command).ok();
            }
        }
        lab.reaches_within(A_SECOND, "ns0", "10.5.0.2");
        let tagged = lab.stats().pair("ns0:eth0").slow("tagged");
        lab.reaches("ns0", "10.5.0.2");
        if fast {
            assert!(lab.stats().pair("ns0:eth0").slow("tagged") >= tagged + 3, "{:#?}", lab.stats());
            lab.is_fast("ns0:eth0", B);
        }
        for namespace in ["ns0", "ns1"] {
            let _ = lab.run(namespace, "ip link del eth0.5").ok();
        }
    });
}

#[ignore = "needs a kernel with netem"]
#[test]
fn netem_delays_and_loses() {
    on_all(|host, lab, _| {
        let port = lab.port("ns1:eth0");
        let _ = host.run(format!("tc qdisc add dev {port} root netem delay 300ms")).ok();
        wait_until(A_SECOND, || {
            let least = round_trip(lab);
            if least >= 300.0 { Ok(()) } else { Err(format!("a ping came back within {least} ms")) }
        });
        let _ = host.run(format!("tc qdisc change dev {port} root netem loss 100%")).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("tc qdisc del dev {port} root")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

/// The shortest of three round trips from ns0 to ns1, in milliseconds.
fn round_trip(lab: &Lab<'_>) -> f64 {
    let output = lab.run("ns0", format!("ping -n -q -c 3 -i 0.2 -W 5 {B}")).ok();
    let times = output.stdout.rsplit_once("= ").expect("a summary").1;
    times.split('/').next().and_then(|least| least.parse().ok()).expect("a number")
}

#[ignore = "needs a kernel with VRF"]
#[test]
fn an_interface_in_a_vrf_is_reached_there() {
    on_all(|_, lab, fast| {
        for command in
            ["ip link add red type vrf table 10", "ip link set red up", "ip link set eth0 master red"]
        {
            let _ = lab.run("ns1", command).ok();
        }
        lab.reaches_within(A_SECOND, "ns0", B);
        let _ = lab.run("ns1", format!("ping -n -q -c 3 -l 3 -W 5 -I red {A}")).ok();
        // The main table has no route any more.
        let _ = lab.run("ns1", format!("ip route get {A}")).fails(2);
        if fast {
            lab.is_fast("ns0:eth0", B);
        }
        let _ = lab.run("ns1", "ip link del red").ok();
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

#[ignore = "needs a kernel with flower"]
#[test]
fn a_flower_filter_at_the_egress_of_a_port_drops() {
    on_all(|host, lab, _| {
        let port = lab.port("ns1:eth0");
        let _ = host.run(format!("tc qdisc replace dev {port} clsact")).ok();
        let filter =
            format!("tc filter add dev {port} egress protocol ip prio 7 flower src_ip {A} action drop");
        let _ = host.run(filter).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns2", B);
        let _ = host.run(format!("tc qdisc del dev {port} clsact")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

/// With MAC authentication bypass, a locked port adds a locked FDB entry for the source and drops the frame.
#[ignore = "needs a kernel with MAC authentication bypass"]
#[test]
fn a_locked_port_with_mab_adds_a_locked_entry() {
    on_all(|host, lab, _| {
        let (port, mac) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        set_port(host, &port, "learning on");
        set_port(host, &port, "locked on");
        let netlink = Netlink::route(&host.netns());
        let b = mac_bytes(lab, "ns1");
        let is_locked = || netlink.fdb().iter().any(|entry| entry.mac == b && entry.is_locked());
        if !netlink.set_mab(&port, true) {
            lacks("MAC authentication bypass");
        }
        let _ = host.run(format!("bridge fdb del {mac} dev {port} master"));
        lab.loses_within(A_SECOND, "ns1", A);
        lab.loses_within(A_SECOND, "ns0", B);
        wait_for(SLACK, "the bridge has no locked entry", || {
            let _ = lab.pings("ns1", A);
            is_locked()
        });
        // A static entry unlocks the station.
        let _ = host.run(format!("bridge fdb replace {mac} dev {port} master static")).ok();
        assert!(!is_locked());
        lab.reaches_within(A_SECOND, "ns1", A);
        let _ = netlink.set_mab(&port, false);
        set_port(host, &port, "locked off");
        let _ = host.run(format!("bridge fdb replace {mac} dev {port} master dynamic")).ok();
    });
}

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
    lab.reaches_within(SLACK, "c", "10.0.0.3");
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let macs = lab.run("r", "ip -br link show master bond0").ok().stdout;
    let macs: std::collections::BTreeSet<_> =
        macs.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(macs.len(), 1, "{macs:?}");
    let _ = lab.run("r", "ip link set eth0 down").ok();
    lab.reaches_within(SLACK, "c", "10.0.0.3");
    lab.down();
    host.finish();
}
