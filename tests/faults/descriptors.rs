//! An agent that gets no descriptors: frames take the bridge, and the fast path resumes when it gets some.

use crate::{
    harness::{Host, SLACK, wait_until},
    hazards::common::{B, fast_lab},
};

#[test]
fn an_agent_without_descriptors_goes_on_when_it_gets_some() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let agent = lab.pid();
    let limit = |soft: &str| drop(host.run(format!("prlimit --pid {agent} --nofile={soft}:")).ok());
    limit("0");
    let slow = || {
        let stats = lab.stats();
        let of = |reason| stats.pair("ns0:eth0").slow(reason);
        of("stale") + of("lease")
    };
    let before = slow();
    wait_until(SLACK, || {
        lab.reaches("ns0", B);
        if slow() >= before + 3 { Ok(()) } else { Err("frames are fast".to_owned()) }
    });
    host.lives(agent);
    limit("4096");
    lab.is_fast("ns0:eth0", B);
    assert_eq!(lab.pid(), agent, "it is the same agent");
    wait_until(SLACK, || {
        let told = host.vethpath("events three-hosts --json").ok().stdout;
        let is_told =
            told.lines().any(|line| line.contains("\"agent-retries\"") && line.contains("os error 24"));
        if is_told { Ok(()) } else { Err(told) }
    });
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}
