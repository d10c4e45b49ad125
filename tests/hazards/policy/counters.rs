//! The kernel's counters of a receiving port do not include fast frames. Ours do, and together they add up.

use super::super::common::{A, B, C, fast_lab, figure};
use crate::harness::{Host, SLACK, iperf, wait_until};

#[test]
fn counters_of_the_receiving_port_and_ours_add_up_to_what_was_sent() {
    let host = Host::new();
    let lab = fast_lab(&host);
    for (from, to) in [("ns0", B), ("ns1", C), ("ns2", A), ("ns0", "172.17.0.1")] {
        lab.reaches(from, to);
    }
    let _ = iperf(&lab, "ns0", ("ns1", B), "--time 1");
    let pairs: Vec<_> = lab.stats().pairs.iter().map(|pair| (pair.name.clone(), pair.port.clone())).collect();
    wait_until(std::time::Duration::from_secs(20) + SLACK, || {
        for (name, port) in &pairs {
            let (namespace, interface) = name.split_once(':').expect("namespace:interface");
            let by_the_bridge = figure(&host, "", port, ("tx", "packets"));
            let by_us = lab.stats().pair(name).fast.rx.frames;
            let received = figure(&host, namespace, interface, ("rx", "packets"));
            if by_the_bridge + by_us != received || by_us == 0 {
                return Err(format!(
                    "{name}: {by_the_bridge} by the bridge, {by_us} fast, {received} received"
                ));
            }
        }
        Ok(())
    });
    // What was sent is what others received: nothing in between counts twice.
    let stats = lab.accounts_balance();
    let total = |way: fn(&crate::harness::Pair) -> u64| stats.pairs.iter().map(way).sum::<u64>();
    assert_eq!(total(|pair| pair.fast.tx.frames), total(|pair| pair.fast.rx.frames));
    assert_eq!(total(|pair| pair.fast.tx.bytes), total(|pair| pair.fast.rx.bytes));
    lab.down();
    host.finish();
}

#[test]
fn an_inner_end_is_counted_wherever_and_whatever_it_is_now() {
    let host = Host::new();
    let lab = fast_lab(&host);
    for (from, to) in [("ns0", B), ("ns1", C), ("ns1", A)] {
        lab.reaches(from, to);
    }
    let is_counted = |namespace: &str, interface: &str| {
        wait_until(std::time::Duration::from_secs(20) + SLACK, || {
            let kernel = ["tx", "rx"].map(|way| figure(&host, namespace, interface, (way, "packets")));
            let stats = lab.stats();
            let pair = stats.pair("ns1:eth0");
            let ours = [pair.tx.frames, pair.rx.frames];
            if ours == kernel && !ours.contains(&0) { Ok(()) } else { Err(format!("{kernel:?}, {ours:?}")) }
        });
    };
    is_counted("ns1", "eth0");
    let _ = lab.run("ns1", "ip link set eth0 name other").ok();
    is_counted("ns1", "other");
    let _ = lab.run("ns1", "ip link set other netns ns2").ok();
    is_counted("ns2", "other");
    let _ = host.run("ip -n ns2 link set other netns ns1 name eth0").ok();
    is_counted("ns1", "eth0");
    // While no agent tracks where it is.
    let pid = lab.pid();
    let _ = host.run(format!("kill -STOP {pid}")).ok();
    is_counted("ns1", "eth0");
    let _ = host.run(format!("kill -CONT {pid}")).ok();
    lab.down();
    host.finish();
}
