//! Programs of the lab's users at the inner ends work, whichever way frames come and go.
//!
//! What they transmit (`XDP_TX`), the port must take: veth drops what it has no NAPI for, and leaves lying
//! what it has no XDP program for (`veth_xdp_xmit`, `veth_xdp_flush`). By XDP there is one; by tc and on a
//! plain bridge the user puts one there, which may do no more than pass.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    socket::RawSocket,
    users::{Onward, User},
};
use crate::{
    harness::{Answer, At, Host, Lab, SLACK, XDP_PASS, wait_until},
    hazards::common::{B, C, mac_bytes, number_of, numbered},
};

const DATAPATHS: [&str; 3] = ["bridge", "tc", "xdp"];

/// The lab of three hosts by any datapath, whose ports take what programs transmit while the programs live.
fn lab<'h>(host: &'h Host, datapath: &str) -> (Lab<'h>, Vec<Answer>) {
    let lab = host.lab("three-hosts").with("\"tc\"", &format!("\"{datapath}\"")).up();
    lab.reaches("ns0", B);
    lab.reaches("ns0", C);
    lab.reaches("ns1", C);
    let mut programs = Vec::new();
    for pair in ["ns0:eth0", "ns1:eth0", "ns2:eth0"] {
        if datapath == "xdp" {
            lab.says_of(pair, "armed");
        } else {
            programs.push(Answer::attach(&host.netns(), &lab.port(pair), At::NativeXdp, XDP_PASS));
        }
    }
    (lab, programs)
}

/// What it sends back is from itself, and found by who asked.
#[test]
fn a_program_that_transmits_back() {
    for datapath in DATAPATHS {
        let host = Host::new();
        let (lab, ports) = lab(&host, datapath);
        let _ = lab.run("ns1", "sysctl -q -w net.ipv4.icmp_echo_ignore_all=1").ok();
        assert!(!lab.pings("ns0", B), "its stack does not answer");
        let user = User::attach(&lab.netns("ns1"), "eth0", "answer");
        lab.reaches_within(SLACK, "ns0", B);
        let before = user.taken();
        lab.reaches("ns0", B);
        assert_eq!(user.taken() - before, 3, "{datapath}");
        if datapath != "bridge" {
            lab.is_fast("ns0:eth0", B);
            lab.is_fast("ns0:eth0", C);
            let fast = lab.stats().pair("ns1:eth0").fast.tx.packets;
            lab.reaches("ns0", B);
            assert!(
                lab.stats().pair("ns1:eth0").fast.tx.packets >= fast + 3,
                "{datapath}: its answers are fast"
            );
        }
        drop((user, ports));
        lab.down();
        host.finish();
    }
}

/// A host that hands on what it gets, by the interface it came in by, to a third.
#[test]
fn a_program_that_redirects() {
    for datapath in DATAPATHS {
        let host = Host::new();
        let (lab, ports) = lab(&host, datapath);
        let (to, from) = (mac_bytes(&lab, "ns2"), mac_bytes(&lab, "ns1"));
        let ifindex =
            lab.netns("ns1").run(|| nix::net::if_::if_nametoindex("eth0")).expect("entered").expect("there");
        let user = User::forwarding(&lab.netns("ns1"), "eth0", "forward", Onward { ifindex, to, from });
        // For ns1 by its address, and for ns2 in the end, which takes it by its IP address.
        let _ =
            lab.run("ns0", format!("ip neigh replace {C} lladdr {} dev eth0 nud permanent", mac(from))).ok();
        lab.reaches_within(SLACK, "ns0", C);
        let before = user.taken();
        lab.reaches("ns0", C);
        assert_eq!(user.taken() - before, 3, "{datapath}");
        if datapath != "bridge" {
            let fast = || lab.stats().pair("ns1:eth0").fast.tx.packets;
            wait_until(SLACK, || {
                let before = fast();
                lab.reaches("ns0", C);
                if fast() >= before + 3 {
                    Ok(())
                } else {
                    Err(format!("{datapath}: what it hands on is slow"))
                }
            });
        }
        drop((user, ports));
        lab.down();
        host.finish();
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// AF_XDP from ns0 to ns1 and back, as fast as they can for a second: frames are what they were, and as good
/// as all of what was sent at a pace comes.
#[test]
fn af_xdp_sockets_send_and_receive() {
    for datapath in DATAPATHS {
        let host = Host::new();
        let (lab, ports) = lab(&host, datapath);
        let ends = ["ns0", "ns1"].map(|namespace| {
            let netns = lab.netns(namespace);
            let mut user = User::attach(&netns, "eth0", "to_socket");
            let socket = RawSocket::on(&netns, "eth0");
            user.give_to(0, &socket);
            (user, socket)
        });
        let macs = ["ns0", "ns1"].map(|namespace| mac_bytes(&lab, namespace));
        let [(_one, mut a), (_other, mut b)] = ends;
        // One by one, both ways.
        let armed = |pair: &str| datapath == "bridge" || lab.state(pair) == "armed";
        wait_until(SLACK, || {
            if armed("ns0:eth0") && armed("ns1:eth0") { Ok(()) } else { Err("not armed".to_owned()) }
        });
        for number in 1..=200 {
            crosses(&mut a, &mut b, &numbered(macs[1], macs[0], number));
            crosses(&mut b, &mut a, &numbered(macs[0], macs[1], number));
        }
        // At rate: what is lost on the way is lost where a ring is full, and is counted there.
        let (frame, begun) = (numbered(macs[1], macs[0], 7777), Instant::now());
        let (mut sent, mut came) = (0, 0);
        while begun.elapsed() < Duration::from_secs(1) {
            sent += a.send(&frame, 32);
            came += b.receive().iter().filter(|frame| number_of(frame) == Some(7777)).count();
        }
        let end = Instant::now();
        while came < sent && end.elapsed() < Duration::from_millis(300) {
            came += b.receive().iter().filter(|frame| number_of(frame) == Some(7777)).count();
        }
        eprintln!("{datapath}: {sent} frames sent in a second, {came} came");
        assert!(sent > 1000 && came * 10 >= sent * 9, "{datapath}: {came} of {sent} came");
        if datapath != "bridge" {
            let fast = lab.stats().pair("ns0:eth0").fast.tx.frames;
            assert!(fast * 10 >= sent as u64 * 9, "{datapath}: {fast} of {sent} were fast");
        }
        drop((a, b, ports));
        lab.down();
        host.finish();
    }
}

/// Sends one frame, and waits for it as it was sent.
#[track_caller]
fn crosses(from: &mut RawSocket, to: &mut RawSocket, frame: &[u8]) {
    let begun = Instant::now();
    while from.send(frame, 1) == 0 {
        assert!(begun.elapsed() < SLACK, "it cannot be sent");
    }
    loop {
        // Others, such as IPv6's discovery, come too.
        if to.receive().iter().any(|came| came == frame) {
            return;
        }
        assert!(begun.elapsed() < SLACK, "a frame does not come");
        thread::yield_now();
    }
}
