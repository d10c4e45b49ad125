//! MTUs that differ between ports, or change: packets get through if they do on a plain bridge.

use super::super::common::{A_SECOND, B, fast_lab, plain_lab};
use crate::harness::{Host, Lab, TIMEOUT, wait_for, wait_until};

#[test]
fn an_inner_end_gets_a_smaller_mtu() {
    let host = Host::new();
    for datapath in ["\"bridge\"", "\"tc\""] {
        let lab = host.lab("three-hosts").with("\"tc\"", datapath).up();
        let ping =
            |size: u32| lab.run("ns0", format!("ping -n -q -c 1 -W 0.3 -M do -s {size} {B}")).succeeded();
        wait_for(A_SECOND, "ns1 does not get 1500 bytes", || ping(1472));
        let _ = lab.run("ns1", "ip link set eth0 mtu 1300").ok();
        wait_for(A_SECOND, "ns1 still gets 1500 bytes", || !ping(1472));
        wait_for(A_SECOND, "ns1 does not get 1200 bytes", || ping(1200));
        let _ = lab.run("ns1", "ip link set eth0 mtu 1500").ok();
        wait_for(A_SECOND, "ns1 does not get 1500 bytes again", || ping(1472));
        lab.down();
    }
    host.finish();
}

/// Where the MTU is changed: a namespace (or the host), and the link there.
const CHANGES: [(&str, &str, u32); 7] = [
    ("ns1", "eth0", 1300),
    ("ns1", "eth0", 4000),
    ("", "port of ns1", 1300),
    ("", "port of ns1", 4000),
    ("", "docker0", 1300),
    ("ns0", "eth0", 4000),
    ("", "port of ns0", 4000),
];

const SIZES: [u32; 5] = [1200, 1400, 1472, 1600, 3900];

/// Which packets from ns0 to ns1 get through, of these sizes, all sent at once.
fn through(lab: &Lab<'_>, wait: f32) -> [bool; 5] {
    let pings = SIZES.map(|size| lab.spawn("ns0", format!("ping -n -q -c 1 -W {wait} -M do -s {size} {B}")));
    pings.map(|ping| ping.wait(TIMEOUT).succeeded())
}

#[test]
fn mtus_that_differ_or_change_let_through_what_a_plain_bridge_does() {
    let hosts = [Host::new(), Host::new()];
    let [plain, fast] = [plain_lab(&hosts[0]), fast_lab(&hosts[1])];
    let mut all = Vec::new();
    for (namespace, link, mtu) in CHANGES {
        for (host, lab) in hosts.iter().zip([&plain, &fast]) {
            let link = match link.strip_prefix("port of ") {
                Some(of) => lab.port(&format!("{of}:eth0")),
                None => link.to_owned(),
            };
            let place = if namespace.is_empty() { String::new() } else { format!("-n {namespace} ") };
            let _ = host.run(format!("ip {place}link set {link} mtu {mtu}")).ok();
        }
        // The plain bridge has applied the change. Replies that a loaded machine delays are waited for.
        let expected = through(&plain, 1.0);
        wait_until(A_SECOND, || {
            let now = through(&fast, 0.3);
            if now == expected {
                Ok(())
            } else {
                Err(format!("{namespace} {link} {mtu}: {now:?}, plain {expected:?}"))
            }
        });
        all.extend(expected);
    }
    assert!(all.contains(&false) && all.contains(&true), "{all:?}");
    let _ = fast.accounts_balance();
    plain.down();
    fast.down();
    hosts.into_iter().for_each(Host::finish);
}
