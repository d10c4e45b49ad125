//! Overruns of the agent's netlink socket (`ENOBUFS`): it voids everything, does a full resync, and arms again.

use std::{fmt::Write, thread};

use crate::{
    harness::{Host, SLACK, sized, wait_for, wait_until},
    hazards::{A, A_SECOND, B, C, fast_lab, has_fdb_entry, mac},
};

/// FDB events: enough to fill the agent's buffer several times.
const ROUNDS: usize = 30;
const ADDRESSES: u32 = 1000;

#[test]
fn events_lost_in_a_storm_cause_a_full_resync() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let agent = lab.pid();
    let (b, home, elsewhere) = (mac(&lab, "ns1"), lab.port("ns1:eth0"), lab.port("ns2:eth0"));
    let _ = host.run(format!("kill -STOP {agent}")).ok();

    storm(&host, &elsewhere);
    // After the burst, when its event cannot be received: ns1's address is pinned behind ns2's port.
    let _ = host.run(format!("bridge fdb replace {b} dev {elsewhere} master static sticky")).ok();
    // Meanwhile the lease expires, and the bridge follows the new entry.
    lab.loses_within(A_SECOND + std::time::Duration::from_secs(3), "ns0", B);
    lab.reaches("ns0", C);

    let _ = host.run(format!("kill -CONT {agent}")).ok();
    wait_until(SLACK, || {
        assert!(!lab.pings("ns0", B), "a frame went where the bridge would not send it");
        let events = host.vethpath("events three-hosts").ok().stdout;
        if events.contains("lease") { Ok(()) } else { Err(events) }
    });
    lab.is_fast("ns0:eth0", C);
    assert!(!lab.pings("ns0", B));
    assert_eq!(lab.pid(), agent);

    let _ = host.run(format!("bridge fdb del {b} dev {elsewhere} master")).ok();
    lab.reaches_within(A_SECOND, "ns0", B);
    wait_for(A_SECOND, "ns1 is not learned at home", || {
        lab.pings("ns1", C) && has_fdb_entry(&host, &home, &b)
    });
    lab.is_fast("ns0:eth0", B);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// The kernel's dump skips entries when others are deleted during the dump. Hosts that were skipped are found again,
/// although no event reports them.
#[test]
fn hosts_that_were_skipped_in_a_storm_are_found_again() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let agent = lab.pid();
    let port = lab.port("ns2:eth0");
    for _ in 0..sized(2, 10) {
        let _ = host.run(format!("kill -STOP {agent}")).ok();
        let lease = || lab.stats().pair("ns0:eth0").slow("lease");
        let before = lease();
        wait_for(SLACK, "the lease does not run out", || lab.pings("ns0", B) && lease() > before);
        // A long dump, whose head is deleted while the agent reads it. There are too few events for an overrun.
        let _ = host.run_with_input("bridge -batch -", &batch("add", &port, 8000)).ok();
        thread::scope(|scope| {
            scope
                .spawn(|| host.run_with_input("bridge -batch -", &reversed(&batch("del", &port, 8000))).ok());
            let _ = host.run(format!("kill -CONT {agent}")).ok();
        });
        for (pair, to) in [("ns0:eth0", B), ("ns1:eth0", C), ("ns2:eth0", A)] {
            lab.is_fast(pair, to);
        }
    }
    lab.down();
    host.finish();
}

/// Adds and deletes addresses behind a port, enough for an overrun.
fn storm(host: &Host, port: &str) {
    let both = batch("add", port, ADDRESSES) + &batch("del", port, ADDRESSES);
    let _ = host.run_with_input("bridge -batch -", &both.repeat(ROUNDS)).ok();
}

/// Reverses the commands: the latest entries are at the head of the kernel's list.
fn reversed(batch: &str) -> String {
    batch.lines().rev().flat_map(|line| [line, "\n"]).collect()
}

/// Commands with which `bridge` adds addresses behind a port, or deletes them.
fn batch(verb: &str, port: &str, addresses: u32) -> String {
    let mut batch = String::new();
    for address in 0..addresses {
        let mac = format!("02:11:22:33:{:02x}:{:02x}", address >> 8, address & 0xff);
        writeln!(batch, "fdb {verb} {mac} dev {port} master static").expect("a string takes anything");
    }
    batch
}
