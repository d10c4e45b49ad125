//! Programs and qdiscs that others have added keep working: tc and tcx at ports, XDP at inner ends.

use std::time::Duration;

use aya::programs::links::PinnedLink;

use crate::{
    harness::{
        At, Host, SLACK, TC_DROP, TC_NEXT, TIMEOUT, VerdictProgram, XDP_DROP, XDP_PASS, holds_for, iperf,
        received, requires, wait_for, wait_until,
    },
    hazards::{A_SECOND, B, C, add_sink, fast_lab, on_all, tcx_programs},
};

#[test]
fn a_shaper_shapes() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    let _ = host.run(format!("tc qdisc add dev {port} root tbf rate 8mbit burst 20kb latency 50ms")).ok();
    let through = || {
        let qdiscs = host.json(format!("tc -s -j qdisc show dev {port} root"));
        qdiscs[0]["packets"].as_u64().expect("a counter")
    };
    wait_until(A_SECOND, || {
        let before = through();
        lab.reaches("ns0", B);
        let passed = through() - before;
        if passed >= 3 { Ok(()) } else { Err(format!("{passed} of 3 pings went through the shaper")) }
    });
    let report = iperf(&lab, "ns0", ("ns1", B), "--time 2");
    // 8 Mbit/s for two seconds are 2 MB. A fast path around the shaper would carry gigabytes.
    assert!(received(&report) < 8_000_000, "{:#}", report["end"]);
    let qdiscs = host.json(format!("tc -j qdisc show dev {port} root"));
    assert_eq!(qdiscs[0]["kind"], "tbf");
    let _ = host.run(format!("tc qdisc del dev {port} root")).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

#[test]
fn a_foreign_filter_at_the_egress_of_a_port_takes_effect() {
    let mut host = Host::new();
    add_sink(&mut host);
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    filter(&host, &port, "egress", "mirred egress redirect dev sink0");
    // They are redirected: ns1 does not receive them.
    lab.loses_within(A_SECOND, "ns0", B);
    lab.reaches("ns0", "172.17.0.103");
    let _ = host.run(format!("tc filter show dev {port} egress")).ok().stdout_has("mirred");
    let _ = host.run(format!("tc qdisc del dev {port} clsact")).ok();
    lab.reaches_within(A_SECOND, "ns0", B);
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}

#[test]
fn a_foreign_filter_at_the_ingress_of_a_port_takes_effect() {
    let mut host = Host::new();
    add_sink(&mut host);
    let lab = fast_lab(&host);
    let port = lab.port("ns0:eth0");
    // The qdisc alone does nothing to frames.
    let _ = host.run(format!("tc qdisc replace dev {port} clsact")).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(lab.state("ns0:eth0"), "armed");
    filter(&host, &port, "ingress", "mirred egress mirror dev sink0");
    let mirrored = || {
        let link = host.json("ip -s -j link show dev sink1");
        link[0]["stats64"]["rx"]["packets"].as_u64().expect("a counter")
    };
    wait_until(A_SECOND, || {
        let before = mirrored();
        lab.reaches("ns0", B);
        let copies = mirrored() - before;
        if copies >= 3 { Ok(()) } else { Err(format!("{copies} of 3 pings were mirrored")) }
    });
    let _ = host.run(format!("tc qdisc del dev {port} clsact")).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// Another program's filter for frames to ns1.
fn filter(host: &Host, port: &str, direction: &str, action: &str) {
    let _ = host.run(format!("tc qdisc replace dev {port} clsact")).ok();
    let matching = "protocol ip u32 match ip dst 172.17.0.102/32";
    let _ = host.run(format!("tc filter add dev {port} {direction} {matching} action {action}")).ok();
}

/// Under clsact our filter is identified by its priority and handle. A single ingress filter of another program is
/// not taken for it.
#[test]
fn a_foreign_clsact_filter_is_not_taken_for_ours() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let _ = host.vethpath(format!("up {file} --hook clsact")).ok().stderr_has("3 of 3 pairs armed");
    let lab_stats = || {
        let output = host.vethpath("stats --json").ok();
        let pairs = output.json()["pairs"].clone();
        (pairs[0]["port"].as_str().expect("a port").to_owned(), pairs[0]["state"].as_str().map(str::to_owned))
    };
    let (port, _) = lab_stats();
    let _ = host.run(format!("tc filter del dev {port} ingress")).ok();
    let program = "/sys/fs/bpf/vethpath/three-hosts/port_ingress_0";
    let add = format!(
        "tc filter add dev {port} ingress prio 5 protocol all bpf direct-action object-pinned {program}"
    );
    let _ = host.run(add).ok();
    wait_for(SLACK, "somebody else's filter is not seen", || {
        lab_stats().1.is_some_and(|state| state != "armed")
    });
    // It stays so after the agent's next check.
    std::thread::sleep(Duration::from_secs(2));
    assert_ne!(lab_stats().1.as_deref(), Some("armed"));
    let _ = host.vethpath("down").ok();
    host.finish();
}

#[test]
fn a_foreign_tcx_program_drops_as_on_a_plain_bridge() {
    requires("tcx");
    on_all(|host, lab, fast| {
        for (pair, at) in [("ns0:eth0", At::Ingress), ("ns1:eth0", At::Egress)] {
            let program = VerdictProgram::attach(&host.netns(), &lab.port(pair), at, TC_DROP);
            lab.loses_within(A_SECOND, "ns0", B);
            if fast {
                lab.wait_for_state(pair, "a foreign tc program on the port");
            }
            lab.reaches("ns2", if pair == "ns0:eth0" { B } else { "172.17.0.101" });
            drop(program);
            lab.reaches_within(A_SECOND, "ns0", B);
        }
    });
}

/// `up` attaches our program again behind those that were added meanwhile, and detaches none.
#[test]
fn a_foreign_tcx_program_keeps_its_position_when_ours_is_reattached() {
    requires("tcx");
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns0:eth0");
    let order = || tcx_programs(&host, &port);
    let ours = order()[0];
    let theirs = VerdictProgram::attach(&host.netns(), &port, At::Ingress, TC_NEXT);
    let both = order();
    assert_eq!((both.len(), both[0]), (2, ours), "{both:?}");
    // Our program is detached by hand, and `up` attaches it again.
    let _ =
        host.run(["sh", "-c", &format!("rm $(find /sys/fs/bpf/vethpath/three-hosts -name '*{port}*')")]).ok();
    lab.wait_for_state("ns0:eth0", "the program is not attached");
    assert_eq!(order(), both[1..]);
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    assert_eq!(order(), [both[1], ours], "theirs came first");
    lab.wait_for_state("ns0:eth0", "a foreign tc program on the port");
    lab.reaches("ns0", B);
    // What the other program drops stays dropped, before ours and behind it.
    drop(theirs);
    let dropping = VerdictProgram::attach(&host.netns(), &port, At::Ingress, TC_DROP);
    lab.loses_within(A_SECOND, "ns0", B);
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    assert_eq!(order().len(), 2);
    assert!(!lab.pings("ns0", C));
    drop(dropping);
    lab.reaches_within(A_SECOND, "ns0", B);
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}

/// `down` removes ports, and their programs with them. On other devices programs stay.
#[test]
fn a_foreign_tcx_program_on_another_device_survives_down() {
    requires("tcx");
    let mut host = Host::new();
    add_sink(&mut host);
    let theirs = VerdictProgram::attach(&host.netns(), "sink0", At::Ingress, TC_NEXT);
    let count = || tcx_programs(&host, "sink0").len();
    assert_eq!(count(), 1);
    let lab = fast_lab(&host);
    let on_port = VerdictProgram::attach(&host.netns(), &lab.port("ns0:eth0"), At::Ingress, TC_NEXT);
    lab.down();
    assert_eq!(count(), 1);
    drop((theirs, on_port));
    host.finish();
}

/// A detached program stays on its port until the kernel has released its link: `up` waits for that.
#[test]
fn a_link_of_the_labs_own_that_is_not_released_yet_is_waited_for() {
    requires("tcx");
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns0:eth0");
    let pin = host.path(&format!("/sys/fs/bpf/vethpath/three-hosts/link_{port}"));
    let link = PinnedLink::from_pin(&pin).expect("it is pinned");
    std::fs::remove_file(&pin).expect("it is there");
    let mut up = host.spawn_vethpath(format!("up {}", lab.file));
    holds_for(Duration::from_millis(700), "`up` does not wait", || !up.has_ended());
    drop(link);
    let _ = up.wait(TIMEOUT).ok();
    assert!(pin.exists());
    lab.wait_for_state("ns0:eth0", "armed");
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}

#[test]
fn a_native_xdp_program_on_an_inner_end_sees_the_frames() {
    xdp_program_sees_frames(At::NativeXdp);
}

#[test]
fn a_generic_xdp_program_on_an_inner_end_sees_the_frames() {
    xdp_program_sees_frames(At::GenericXdp);
}

fn xdp_program_sees_frames(at: At) {
    on_all(|_, lab, fast| {
        let netns = lab.netns("ns1");
        for _ in 0..2 {
            let dropping = VerdictProgram::attach(&netns, "eth0", at, XDP_DROP);
            lab.loses_within(A_SECOND, "ns0", B);
            // From then on not one frame bypasses it.
            for _ in 0..3 {
                assert!(!lab.pings("ns0", B), "{at:?}");
            }
            lab.reaches("ns0", C);
            drop(dropping);
            lab.reaches_within(A_SECOND, "ns0", B);
        }
        // A program that passes everything is no reason for the slow path.
        let passing = VerdictProgram::attach(&netns, "eth0", at, XDP_PASS);
        lab.reaches_within(A_SECOND, "ns0", B);
        if fast {
            lab.is_fast("ns0:eth0", B);
            let _ = lab.assert_counters_match();
        }
        let _ = lab.run("ns0", format!("ping -n -q -c 3 -l 3 -W 5 -s 9000 {B}")).ok();
        drop(passing);
        lab.reaches("ns0", B);
    });
}

/// A program on the sender's inner end is not on the path of the frames that it sends.
#[test]
fn an_xdp_program_on_a_sender_changes_nothing_for_what_it_sends() {
    on_all(|_, lab, fast| {
        let netns = lab.netns("ns0");
        let program = VerdictProgram::attach(&netns, "eth0", At::NativeXdp, XDP_PASS);
        lab.reaches_within(A_SECOND, "ns0", B);
        if fast {
            lab.is_fast("ns0:eth0", B);
        }
        drop(program);
    });
}
