//! A ring that is full drops frames, as a backlog does: they are counted and shown, and no reason to
//! disarm the pair.

use std::time::{Duration, Instant};

use super::{driver_count, socket::RawSocket, users::User, xdp_lab};
use crate::{
    harness::{Host, SLACK, wait_until},
    hazards::common::{B, mac_bytes, numbered},
};

/// Every frame that was redirected to an inner end has come to it, or is counted as dropped there.
#[test]
fn what_a_full_ring_drops_is_counted() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    lab.is_fast("ns0:eth0", B);
    let mut user = User::attach(&lab.netns("ns1"), "eth0", "sink");
    lab.says_of("ns1:eth0", "armed");
    let (taken, before) = (user.taken(), lab.stats());
    let mut socket = RawSocket::on(&lab.netns("ns0"), "eth0");
    let frame = numbered(mac_bytes(&lab, "ns1"), mac_bytes(&lab, "ns0"), 1);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let _ = socket.send(&frame, 32);
    }
    eprintln!("{:.2} million frames a second", user.rate());
    let dropped = |stats: &crate::harness::Stats| stats.pair("ns1:eth0").dropped.expect("it is by XDP").rx;
    wait_until(SLACK, || {
        let now = lab.stats();
        let redirected = now.pair("ns1:eth0").fast.rx.frames - before.pair("ns1:eth0").fast.rx.frames;
        let (came, lost) = (user.taken() - taken, dropped(&now) - dropped(&before));
        // Those that the bridge brings meanwhile are not redirected.
        if came + lost >= redirected && came + lost <= redirected + 100 && redirected > 10_000 {
            return Ok(());
        }
        Err(format!("{redirected} redirected, {came} came, {lost} were lost"))
    });
    assert_eq!(driver_count(&host, &lab.port("ns1:eth0"), "_xdp_xmit_errors"), dropped(&lab.stats()));
    assert_eq!(lab.state("ns1:eth0"), "armed");
    drop((socket, user));
    lab.down();
    host.finish();
}
