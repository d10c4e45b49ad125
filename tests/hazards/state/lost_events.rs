//! Netlink events that the agent loses (`ENOBUFS`): it notices, voids everything, looks anew, arms again.

use std::fmt::Write;

use super::super::common::{A_SECOND, B, C, fast_lab, knows, mac};
use crate::harness::{Host, SLACK, wait_for, wait_until};

/// FDB events: as many as fill the agent's buffer several times.
const ROUNDS: u32 = 60;
const ADDRESSES: u32 = 1000;

#[test]
fn events_lost_in_a_storm_are_noticed_and_everything_is_looked_at_anew() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let agent = lab.stats().agent.pid.expect("it is there");
    let (b, home, elsewhere) = (mac(&lab, "ns1"), lab.port("ns1:eth0"), lab.port("ns2:eth0"));
    let log = || std::fs::read_to_string(host.path("/run/vethpath/three-hosts/agent.log")).expect("a log");
    let _ = host.run(format!("kill -STOP {agent}")).ok();

    storm(&host, &elsewhere);
    // After the storm, where no event of it can be heard: ns1's address is pinned behind ns2's port.
    let _ = host.run(format!("bridge fdb replace {b} dev {elsewhere} master static sticky")).ok();
    // Meanwhile the lease runs out, and the bridge does as it is told.
    lab.loses_within(A_SECOND + std::time::Duration::from_secs(3), "ns0", B);
    lab.reaches("ns0", C);

    let _ = host.run(format!("kill -CONT {agent}")).ok();
    wait_until(SLACK, || {
        assert!(!lab.pings("ns0", B), "a frame went where the bridge would not send it");
        if log().contains("looking at everything anew") { Ok(()) } else { Err(log()) }
    });
    lab.is_fast("ns0:eth0", C);
    assert!(!lab.pings("ns0", B));
    assert_eq!(lab.stats().agent.pid, Some(agent));

    let _ = host.run(format!("bridge fdb del {b} dev {elsewhere} master")).ok();
    lab.reaches_within(A_SECOND, "ns0", B);
    wait_for(A_SECOND, "ns1 is not learned at home", || lab.pings("ns1", C) && knows(&host, &home, &b));
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

/// Addresses come and go behind a port.
fn storm(host: &Host, port: &str) {
    let mut batch = String::new();
    for round in 0..ROUNDS {
        for address in 0..ADDRESSES {
            let verb = if round % 2 == 0 { "add" } else { "del" };
            let mac = format!("02:11:22:33:{:02x}:{:02x}", address >> 8, address & 0xff);
            writeln!(batch, "fdb {verb} {mac} dev {port} master static").expect("a string takes anything");
        }
    }
    let _ = host.feed("bridge -batch -", &batch).ok();
}
