//! Transmit queues: a frame leaves a port by the queue that it has at the inner end (`netdev_pick_tx` in
//! net/core/dev.c, `veth_xmit` in drivers/net/veth.c).

use super::super::common::{A_SECOND, B, fast_lab, goes_by_port, on_both};
use crate::harness::{Host, Lab, wait_for};

/// Has ns1 drop all frames whose queue mapping (`SKF_AD_QUEUE`) is not 0, or all others.
fn lose(lab: &Lab<'_>, (not_zero, others): (u8, u8)) {
    let bytecode = format!("4,32 0 0 4294963224,21 {others} {not_zero} 0,6 0 0 4294967295,6 0 0 0");
    let filter = format!("bpf bytecode '{bytecode}' action mirred egress redirect dev lo");
    for command in
        ["tc qdisc replace dev eth0 clsact", &format!("tc filter replace dev eth0 ingress pref 1 {filter}")]
    {
        let _ = lab.run("ns1", ["bash", "-c", command]).ok();
    }
}

/// The sender's choice of a queue ends at its port: the bridge chooses again, here among one.
#[test]
fn the_queue_of_the_sender_is_not_the_receivers() {
    on_both(|_, lab, fast| {
        let queues = "/sys/class/net/eth0/queues";
        let second =
            format!("ethtool -L eth0 tx 2; echo 0 > {queues}/tx-0/xps_cpus; echo 3 > {queues}/tx-1/xps_cpus");
        let _ = lab.run("ns0", ["bash", "-c", &second]).ok();
        lose(lab, (0, 1));
        if fast {
            lab.is_fast("ns0:eth0", B);
        }
        lab.reaches("ns0", B);
        lose(lab, (1, 0));
        assert!(!lab.pings("ns0", B), "nothing is lost: the filter does not match");
        let _ = lab.run("ns1", "tc qdisc del dev eth0 clsact").ok();
    });
}

#[test]
fn frames_go_by_a_port_that_has_several() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    for (count, by_port) in [(1, false), (2, true), (1, false)] {
        let _ = host.run(format!("ethtool -L {port} tx {count}")).succeeded();
        wait_for(A_SECOND, "frames take the other way", || goes_by_port(&host, &lab) == by_port);
        lab.is_fast("ns0:eth0", B);
    }
    lab.down();
    host.finish();
}

#[test]
fn bridges_forward_across_a_trunk_that_has_several() {
    let host = Host::new();
    let lab = host.lab("trunk").up();
    let port = lab.stats().trunk("left - middle").port.clone();
    let state = || lab.stats().trunk("left - middle").state.clone();
    let _ = host.run(format!("ethtool -L {port} tx 2")).ok();
    wait_for(A_SECOND, "the trunk is armed", || state().contains("several transmit queues"));
    lab.reaches("ns0", "10.3.0.11");
    let _ = host.run(format!("ethtool -L {port} tx 1")).ok();
    wait_for(A_SECOND, "the trunk is not armed", || state() == "armed");
    lab.down();
    host.finish();
}
