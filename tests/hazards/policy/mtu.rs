//! MTUs that differ between ports, or change: what gets through is what a plain bridge lets through.

use super::super::common::{A_SECOND, B, fast_lab, plain_lab};
use crate::harness::{Host, Lab, wait_for, wait_until};

/// Whether a packet with this much data gets from ns0 to ns1, and is answered within some seconds.
fn passes(lab: &Lab<'_>, size: u32, seconds: u32) -> bool {
    lab.run("ns0", format!("ping -n -q -c 1 -W {seconds} -M do -s {size} {B}")).succeeded()
}

#[test]
fn an_inner_end_gets_a_smaller_mtu() {
    let host = Host::new();
    for datapath in ["\"bridge\"", "\"tc\""] {
        let lab = host.lab("three-hosts").with("\"tc\"", datapath).up();
        let ping = |size: u32| passes(&lab, size, 5);
        assert!(ping(1472), "{datapath}");
        let _ = lab.run("ns1", "ip link set eth0 mtu 1300").ok();
        wait_for(A_SECOND, "ns1 still gets 1500 bytes", || !ping(1472));
        assert!(ping(1200), "{datapath}");
        let _ = lab.run("ns1", "ip link set eth0 mtu 1500").ok();
        wait_for(A_SECOND, "ns1 does not get 1500 bytes again", || ping(1472));
        lab.down();
    }
    host.finish();
}

/// Where the MTU is changed: a namespace (or the host), and what is there.
const CHANGES: [(&str, &str, u32); 7] = [
    ("ns1", "eth0", 1300),
    ("ns1", "eth0", 4000),
    ("", "port of ns1", 1300),
    ("", "port of ns1", 4000),
    ("", "docker0", 1300),
    ("ns0", "eth0", 4000),
    ("", "port of ns0", 4000),
];

/// Which packets from ns0 to ns1 get through, one after another, after each change; ns0 may send 4000.
fn outcomes(lab: &Lab<'_>, host: &Host, expected: Option<&Vec<Vec<bool>>>) -> Vec<Vec<bool>> {
    let sizes = [1200, 1400, 1472, 1600, 3900];
    let through = || sizes.map(|size| passes(lab, size, 1)).to_vec();
    // Once, it may be a loaded machine that keeps an answer back.
    let at_last = || sizes.map(|size| (0..3).any(|_| passes(lab, size, 1))).to_vec();
    let mut found = Vec::new();
    for (number, (namespace, link, mtu)) in CHANGES.into_iter().enumerate() {
        let link = match link.strip_prefix("port of ") {
            Some(of) => lab.port(&format!("{of}:eth0")),
            None => link.to_owned(),
        };
        let place = if namespace.is_empty() { String::new() } else { format!("-n {namespace} ") };
        let _ = host.run(format!("ip {place}link set {link} mtu {mtu}")).ok();
        found.push(match expected {
            None => at_last(),
            Some(plain) => wait_until(A_SECOND, || {
                let now = through();
                let same = now == plain[number];
                if same {
                    Ok(now)
                } else {
                    Err(format!("{namespace} {link} {mtu}: {now:?}, plain {plain:?}"))
                }
            }),
        });
    }
    found
}

#[test]
fn mtus_that_differ_or_change_let_through_what_a_plain_bridge_does() {
    let host = Host::new();
    let lab = plain_lab(&host);
    let plain = outcomes(&lab, &host, None);
    lab.down();
    assert!(
        plain.iter().any(|sizes| sizes.contains(&false)) && plain.iter().any(|sizes| sizes.contains(&true))
    );
    let lab = fast_lab(&host);
    assert_eq!(outcomes(&lab, &host, Some(&plain)), plain);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}
