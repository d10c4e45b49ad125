//! tcx programs of others: they see every frame, keep their position, and are never detached.

use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType, links::PinnedLink};

use super::super::common::{A_SECOND, B, C, fast_lab, on_all, sink};
use crate::harness::{Answer, At, Host, TC_DROP, TC_NEXT, TIMEOUT, holds_for, requires};

/// Ids of the programs at the ingress of a device, in order.
fn programs(host: &Host, device: &str) -> Vec<u32> {
    let asked = host.netns().run(|| SchedClassifier::query_tcx(device, TcAttachType::Ingress));
    let (_, found) = asked.expect("it can be entered").expect("the kernel has tcx");
    found.iter().map(aya::programs::ProgramInfo::id).collect()
}

#[test]
fn somebodys_tcx_program_drops_what_it_would_drop_on_a_plain_bridge() {
    requires("tcx");
    on_all(|host, lab, fast| {
        for (pair, at) in [("ns0:eth0", At::Ingress), ("ns1:eth0", At::Egress)] {
            let program = Answer::attach(&host.netns(), &lab.port(pair), at, TC_DROP);
            lab.loses_within(A_SECOND, "ns0", B);
            if fast {
                lab.says_of(pair, "a foreign tc program on the port");
            }
            lab.reaches("ns2", if pair == "ns0:eth0" { B } else { "172.17.0.101" });
            drop(program);
            lab.reaches_within(A_SECOND, "ns0", B);
        }
    });
}

/// `up` attaches our program again behind those that were added meanwhile, and detaches none.
#[test]
fn somebodys_tcx_program_keeps_its_place_when_ours_is_put_back() {
    requires("tcx");
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns0:eth0");
    let order = || programs(&host, &port);
    let ours = order()[0];
    let theirs = Answer::attach(&host.netns(), &port, At::Ingress, TC_NEXT);
    let both = order();
    assert_eq!((both.len(), both[0]), (2, ours), "{both:?}");
    // Our program is detached by hand, and `up` attaches it again.
    let _ =
        host.run(["sh", "-c", &format!("rm $(find /sys/fs/bpf/vethpath/three-hosts -name '*{port}*')")]).ok();
    lab.says_of("ns0:eth0", "the program is not attached");
    assert_eq!(order(), both[1..]);
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    assert_eq!(order(), [both[1], ours], "theirs came first");
    lab.says_of("ns0:eth0", "a foreign tc program on the port");
    lab.reaches("ns0", B);
    // What the other program drops stays dropped, before ours and behind it.
    drop(theirs);
    let dropping = Answer::attach(&host.netns(), &port, At::Ingress, TC_DROP);
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
fn somebodys_tcx_program_on_another_device_survives_down() {
    requires("tcx");
    let mut host = Host::new();
    sink(&mut host);
    let theirs = Answer::attach(&host.netns(), "sink0", At::Ingress, TC_NEXT);
    let count = || programs(&host, "sink0").len();
    assert_eq!(count(), 1);
    let lab = fast_lab(&host);
    let on_port = Answer::attach(&host.netns(), &lab.port("ns0:eth0"), At::Ingress, TC_NEXT);
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
    lab.says_of("ns0:eth0", "armed");
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}
