//! A full ring drops frames, as a backlog does. The drops are counted and shown, and do not disarm the pair.

use std::time::{Duration, Instant};

use super::{driver_count, socket::RawSocket, users::User, xdp_lab};
use crate::{
    harness::{Host, SLACK, Stats, wait_until},
    hazards::common::{B, mac_bytes, numbered},
};

/// Every frame that was redirected to an inner end has arrived there, or is counted as dropped.
#[test]
fn what_a_full_ring_drops_is_counted() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    lab.is_fast("ns0:eth0", B);
    let mut user = User::attach(&lab.netns("ns1"), "eth0", "sink");
    lab.says_of("ns1:eth0", "armed");
    let mut socket = RawSocket::on(&lab.netns("ns0"), "eth0");
    let frame = numbered(mac_bytes(&lab, "ns1"), mac_bytes(&lab, "ns0"), 1);
    let (taken, before) = lab.with_a_lease(|| {
        let before = (user.taken(), lab.stats());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            let _ = socket.send(&frame, 32);
        }
        before
    });
    eprintln!("{:.2} million frames a second", user.rate());
    let dropped = |stats: &Stats| stats.pair("ns1:eth0").dropped.expect("it is by XDP").rx;
    let since = |of: &dyn Fn(&Stats) -> u64, now: &Stats| of(now) - of(&before);
    wait_until(SLACK, || {
        let now = lab.stats();
        let redirected = since(&|stats| stats.pair("ns0:eth0").fast.tx.frames, &now);
        let (came, lost) = (user.taken() - taken, since(&dropped, &now));
        // Dropped frames are not received.
        let received = since(&|stats| stats.pair("ns1:eth0").rx.frames, &now);
        let fast = since(&|stats| stats.pair("ns1:eth0").fast.rx.frames, &now);
        // Frames from the bridge may arrive between two reads.
        if received.abs_diff(came) > 100 || fast > received || fast + lost < redirected {
            return Err(format!(
                "{received} received, {fast} fast, and {came} came; {lost} of {redirected} lost"
            ));
        }
        // Frames that the bridge delivers meanwhile are not redirected.
        if came + lost >= redirected && came + lost <= redirected + 100 && redirected > 10_000 {
            return Ok(());
        }
        Err(format!("{redirected} redirected, {came} came, {lost} were lost"))
    });
    let port = lab.port("ns1:eth0");
    let refused = host.json(format!("ip -s -j link show dev {port}"))[0]["stats64"]["tx"]["dropped"].as_u64();
    // This includes the drops of a full ring.
    assert!(refused >= Some(driver_count(&host, &port, "_xdp_xmit_errors")), "{refused:?}");
    assert_eq!(refused, Some(dropped(&lab.stats())));
    let _ = lab.accounts_balance();
    assert_eq!(lab.state("ns1:eth0"), "armed");
    drop((socket, user));
    lab.down();
    host.finish();
}
