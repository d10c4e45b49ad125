//! Users' programs at the inner ends work with every datapath.
//!
//! The port must receive what they transmit (`XDP_TX`). veth drops the frames if the port has no NAPI, and leaves them
//! in the ring if it has no XDP program (`veth_xdp_xmit`, `veth_xdp_flush`). With XDP there is one. With tc and on a
//! plain bridge the user attaches one, which may just pass.

use std::{
    thread,
    time::{Duration, Instant},
};

use vethpath::show::TAKES_NO_XDP_TX;

use super::{
    driver_count,
    socket::RawSocket,
    users::{Forwarding, User},
};
use crate::{
    harness::{At, Host, Lab, SLACK, VerdictProgram, XDP_PASS, format_mac, parse_mac, wait_until},
    hazards::{A, B, C, mac_bytes, numbered},
};

const DATAPATHS: [&str; 3] = ["bridge", "tc", "xdp"];
/// Frames that one AF_XDP socket must receive from another.
const MANY: u64 = 20_000;
/// The most frames in flight when more are sent.
const WINDOW: u64 = 128;
/// Frames in flight are lost if none arrives for this long.
const STILL: Duration = Duration::from_secs(5);

/// The lab of three hosts with a datapath. Its ports receive what programs transmit while the returned ones exist.
fn lab<'h>(host: &'h Host, datapath: &str) -> (Lab<'h>, Vec<VerdictProgram>) {
    let lab = host.lab("three-hosts").with("\"tc\"", &format!("\"{datapath}\"")).up();
    lab.reaches("ns0", B);
    lab.reaches("ns0", C);
    lab.reaches("ns1", C);
    let mut programs = Vec::new();
    for pair in ["ns0:eth0", "ns1:eth0", "ns2:eth0"] {
        if datapath == "xdp" {
            lab.wait_for_state(pair, "armed");
        } else {
            programs.push(VerdictProgram::attach(&host.netns(), &lab.port(pair), At::NativeXdp, XDP_PASS));
        }
    }
    (lab, programs)
}

/// Its answers have its own address as the source, and reach the host that asked.
#[test]
fn a_program_that_transmits_back() {
    for datapath in DATAPATHS {
        let host = Host::new();
        let (lab, ports) = lab(&host, datapath);
        let _ = lab.run("ns1", "sysctl -q -w net.ipv4.icmp_echo_ignore_all=1").ok();
        assert!(!lab.pings("ns0", B), "its stack does not answer");
        let user = User::attach(&lab.netns("ns1"), "eth0", "answer");
        lab.reaches_within(SLACK, "ns0", B);
        let before = user.received();
        lab.reaches("ns0", B);
        assert_eq!(user.received() - before, 3, "{datapath}");
        if datapath != "bridge" {
            lab.is_fast("ns0:eth0", B);
            lab.is_fast("ns0:eth0", C);
            let fast = lab.with_a_lease(|| {
                let fast = || lab.stats().pair("ns1:eth0").fast.tx.packets;
                let before = fast();
                lab.reaches("ns0", B);
                fast() - before
            });
            assert!(fast >= 3, "{datapath}: its answers are fast");
        }
        drop(ports);
        // Without a program at the port the answers are lost, and `show` has a note. With XDP there is ours.
        let shown = || host.vethpath(format!("show {} --json", lab.name)).ok().json()["bridges"][0].clone();
        let port = lab.port("ns1:eth0");
        let note = shown()["ports"].as_array().and_then(|ports| {
            let of_port = ports.iter().find(|shown| shown["name"] == port.as_str())?;
            Some(of_port["note"].as_str()? == TAKES_NO_XDP_TX)
        });
        assert_eq!(note, (datapath != "xdp").then_some(true), "{:#}", shown());
        drop(user);
        lab.down();
        host.finish();
    }
}

/// A host that forwards what it receives to a third, by the interface on which it arrived.
#[test]
fn a_program_that_redirects() {
    for datapath in DATAPATHS {
        let host = Host::new();
        let (lab, ports) = lab(&host, datapath);
        let (to, from) = (mac_bytes(&lab, "ns2"), mac_bytes(&lab, "ns1"));
        let ifindex =
            lab.netns("ns1").run(|| nix::net::if_::if_nametoindex("eth0")).expect("entered").expect("there");
        let user = User::forwarding(&lab.netns("ns1"), "eth0", "forward", Forwarding { ifindex, to, from });
        // Addressed to ns1 by MAC, and to ns2 by IP, which accepts the frame in the end.
        let _ = lab
            .run("ns0", format!("ip neigh replace {C} lladdr {} dev eth0 nud permanent", format_mac(from)))
            .ok();
        lab.reaches_within(SLACK, "ns0", C);
        let before = user.received();
        lab.reaches("ns0", C);
        assert_eq!(user.received() - before, 3, "{datapath}");
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

/// A router of XDP programs: frames arrive by one of its interfaces and leave by the other, to another bridge.
#[test]
fn programs_that_redirect_from_one_interface_to_another() {
    const FAR: &str = "172.17.0.104";
    for datapath in DATAPATHS {
        let host = Host::new();
        let file = host.lab("three-hosts").with("\"tc\"", &format!("\"{datapath}\""));
        let file = file.and(&format!(
            "\n[bridge.br1]\ndatapath = \"{datapath}\"\n[namespace.ns1.interface.eth1]\nlink = \"br1\"\n\
             [namespace.ns3.interface.eth0]\nlink = \"br1\"\naddresses = [\"{FAR}/16\"]\n"
        ));
        let lab = file.up();
        let address = |namespace: &str, interface: &str| {
            let file = format!("cat /sys/class/net/{interface}/address");
            lab.run(namespace, file).ok().stdout.trim().to_owned()
        };
        let near = [address("ns0", "eth0"), address("ns1", "eth0")];
        let far = [address("ns3", "eth0"), address("ns1", "eth1")];
        for (namespace, to, router) in [("ns0", FAR, &near[1]), ("ns3", A, &far[1])] {
            let _ = lab
                .run(namespace, format!("ip neigh replace {to} lladdr {router} dev eth0 nud permanent"))
                .ok();
        }
        // The bridges learn the hosts and the router's interfaces.
        let wires = ["ns0:eth0", "ns1:eth0", "ns1:eth1", "ns3:eth0"].map(|end| (end, lab.wire(end)));
        for ((_, wire), from) in wires.iter().zip([&near[0], &near[1], &far[1], &far[0]]) {
            wire.send(&numbered([0xff; 6], parse_mac(from), 1));
        }
        let ports: Vec<_> = wires
            .iter()
            .filter(|_| datapath != "xdp")
            .map(|(end, _)| VerdictProgram::attach(&host.netns(), &lab.port(end), At::NativeXdp, XDP_PASS))
            .collect();
        drop(wires);
        let netns = lab.netns("ns1");
        let user = |at: &str, out: &str, [to, from]: &[String; 2]| {
            let ifindex = netns.run(|| nix::net::if_::if_nametoindex(out)).expect("entered").expect("there");
            let onward = Forwarding { ifindex, to: parse_mac(to), from: parse_mac(from) };
            User::forwarding(&netns, at, "forward", onward)
        };
        let users = [user("eth0", "eth1", &far), user("eth1", "eth0", &near)];
        lab.reaches_within(SLACK, "ns0", FAR);
        let received = || users.each_ref().map(User::received);
        let before = received();
        lab.reaches("ns0", FAR);
        assert_eq!(received(), before.map(|before| before + 3), "{datapath}");
        if datapath != "bridge" {
            let fast = || ["ns1:eth0", "ns1:eth1"].map(|pair| lab.stats().pair(pair).fast.tx.packets);
            wait_until(SLACK, || {
                let before = fast();
                lab.reaches("ns0", FAR);
                let now = fast();
                let are_fast = now.iter().zip(before).all(|(now, before)| *now >= before + 3);
                if are_fast { Ok(()) } else { Err(format!("{datapath}: what they hand on is slow")) }
            });
        }
        drop((users, ports));
        lab.down();
        host.finish();
    }
}

/// AF_XDP from ns0 to ns1 and back, one by one and at full rate: frames are unchanged, nearly all arrive, and they take
/// the datapath of the file.
#[test]
fn af_xdp_sockets_send_and_receive() {
    for datapath in DATAPATHS {
        let host = Host::new();
        let (lab, ports) = lab(&host, datapath);
        let ends = ["ns0", "ns1"].map(|namespace| {
            let netns = lab.netns(namespace);
            let mut user = User::attach(&netns, "eth0", "to_socket");
            let socket = RawSocket::on(&netns, "eth0");
            user.attach_socket(0, &socket);
            (user, socket)
        });
        let macs = ["ns0", "ns1"].map(|namespace| mac_bytes(&lab, namespace));
        let [(_first, mut a), (_second, mut b)] = ends;
        // One by one, in both directions.
        let armed = |pair: &str| datapath == "bridge" || lab.state(pair) == "armed";
        wait_until(SLACK, || {
            if armed("ns0:eth0") && armed("ns1:eth0") { Ok(()) } else { Err("not armed".to_owned()) }
        });
        for number in 1..=200 {
            send_and_wait(&mut a, &mut b, &numbered(macs[1], macs[0], number));
            send_and_wait(&mut b, &mut a, &numbered(macs[0], macs[1], number));
        }
        // At full rate: frames are lost only where a ring is full, and are counted there.
        let pairs = ["ns0:eth0", "ns1:eth0"];
        for turn in 0..2 {
            let (from, to) = if turn == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
            let (sender, receiver) = (pairs[turn], pairs[1 - turn]);
            let frame = numbered(macs[1 - turn], macs[turn], 7777);
            let fast = || lab.stats().pair(sender).fast.tx.frames;
            let by_xdp = || driver_count(&host, &lab.port(receiver), "_xdp_xmit");
            let (sent, arrived, fast, by_xdp) = lab.with_a_lease(|| {
                let (fast_before, by_xdp_before) = (fast(), by_xdp());
                let (sent, arrived) = send_at_full_rate(from, to, &frame);
                (sent, arrived, fast() - fast_before, by_xdp() - by_xdp_before)
            });
            eprintln!("{datapath}: {arrived} of {sent} frames came");
            assert!(arrived * 10 >= sent * 9, "{datapath}: {arrived} of {sent} came");
            if datapath != "bridge" {
                assert!(fast * 10 >= sent * 9, "{datapath}: {fast} of {sent} were fast");
            }
            let is_by_it = if datapath == "xdp" { by_xdp * 10 >= sent * 9 } else { by_xdp == 0 };
            assert!(is_by_it, "{datapath}: {by_xdp} of {sent} were redirected by XDP");
        }
        drop((a, b, ports));
        lab.down();
        host.finish();
    }
}

/// Sends a frame repeatedly for a second, and until `MANY` have arrived. Returns the numbers sent and received.
/// Keeps no more in flight than the rings of a receiver hold that is not scheduled.
#[track_caller]
fn send_at_full_rate(from: &mut RawSocket, to: &mut RawSocket, frame: &[u8]) -> (u64, u64) {
    let receive =
        |to: &mut RawSocket| to.receive().iter().filter(|received| received[..] == *frame).count() as u64;
    let (start, mut sent, mut arrived, mut lost) = (Instant::now(), 0_u64, 0, 0);
    // Frames that have not arrived by `STILL` after this are lost.
    let mut last = Instant::now();
    loop {
        let is_still = last.elapsed() > STILL;
        let new = receive(to);
        arrived += new;
        if new > 0 {
            last = Instant::now();
        } else if is_still {
            lost = sent.saturating_sub(arrived);
        }
        let continues = start.elapsed() < Duration::from_secs(1) || arrived < MANY;
        if continues && sent.saturating_sub(arrived + lost) <= WINDOW {
            assert!(start.elapsed() < SLACK, "{arrived} of {sent} frames came");
            sent += from.send(frame, 32) as u64;
        } else if !continues && sent <= arrived + lost {
            return (sent, arrived);
        }
    }
}

/// Sends one frame, and waits until it arrives unchanged.
#[track_caller]
fn send_and_wait(from: &mut RawSocket, to: &mut RawSocket, frame: &[u8]) {
    let start = Instant::now();
    while from.send(frame, 1) == 0 {
        assert!(start.elapsed() < SLACK, "it cannot be sent");
    }
    loop {
        // Others, such as IPv6 discovery, arrive too.
        if to.receive().iter().any(|received| received == frame) {
            return;
        }
        assert!(start.elapsed() < SLACK, "a frame does not come");
        thread::yield_now();
    }
}
