//! An inner end in the same namespace as its port, by the file or moved there by hand. `bpf_redirect_peer` would drop
//! frames there.

use super::super::common::{A, A_SECOND, B, arrived, is_found, mac_bytes, numbered, on_both};
use crate::harness::{Host, OneCpu, Wire, wait_until};

#[test]
fn a_bridge_may_be_in_the_namespace_of_one_of_its_hosts() {
    for datapath in ["bridge", "tc"] {
        let host = Host::new();
        let place = "namespace = \"ns0\"";
        let lab = host.lab("same-namespace").with(place, &format!("{place}\ndatapath = \"{datapath}\"")).up();
        lab.reaches("ns1", "10.5.0.10");
        lab.reaches("ns0", "10.5.0.11");
        let _ = lab.run("ns1", "ping -n -q -c 3 -l 3 -W 5 -s 9000 10.5.0.10").ok().prints(" 0% packet loss");
        if datapath == "tc" {
            lab.is_fast("ns1:eth0", "10.5.0.10");
            lab.is_fast("ns0:eth0", "10.5.0.11");
            let _ = lab.accounts_balance();
        }
        lab.down();
        host.finish();
    }
}

#[test]
fn an_inner_end_moved_into_its_ports_namespace_gets_its_frames() {
    on_both(|host, lab, fast| {
        let (a, b) = (mac_bytes(lab, "ns0"), mac_bytes(lab, "ns1"));
        let _ = lab.run("ns1", "ip link set eth0 netns 1").ok();
        let _ = host.run("sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=1").ok();
        let _ = host.run("ip link set eth0 up").ok();
        let from = lab.wire("ns0:eth0");
        let moved =
            host.netns().run(|| Wire::on("eth0")).expect("it can be entered").expect("a packet socket");
        is_found(lab, &from, &moved, [a, b], fast);
        // All of a hundred frames arrive, none twice.
        let sent: Vec<u64> = (1000..1100).collect();
        let stay = OneCpu::stay();
        sent.iter().for_each(|n| from.send(&numbered(b, a, *n)));
        drop(stay);
        let mut came = Vec::new();
        wait_until(A_SECOND, || {
            came.extend(arrived(&moved).into_iter().filter(|n| *n >= 1000));
            if came == sent { Ok(()) } else { Err(format!("{came:?}")) }
        });
        drop(moved);
        // Moved back.
        let _ = host.run("ip link set eth0 netns ns1").ok();
        for command in ["ip link set eth0 up", "ip addr replace 172.17.0.102/16 dev eth0"] {
            let _ = lab.run("ns1", command).ok();
        }
        let _ = host.run("sysctl -q -w net.ipv6.conf.default.disable_ipv6=0").ok();
        lab.reaches_within(A_SECOND, "ns1", A);
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}
