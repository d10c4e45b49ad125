//! Flags of bridge ports: flags that are honoured leave a port on the fast path. Others disarm it, with the reason.
//! The result is that of a plain bridge.

use crate::{
    harness::{CpuPin, Host, wait_for, wait_until},
    hazards::{
        A, A_SECOND, B, BROADCAST, C, capture, fast_lab, has_fdb_entry, mac, mac_bytes, numbered, on_all,
        received_numbers, receives, set_port, wait_for_frame,
    },
};

#[test]
fn isolated() {
    on_all(|host, lab, _| {
        let (a, b) = (lab.port("ns0:eth0"), lab.port("ns1:eth0"));
        set_port(host, &a, "isolated on");
        lab.reaches("ns0", B);
        set_port(host, &b, "isolated on");
        lab.loses_within(A_SECOND, "ns0", B);
        lab.loses_within(A_SECOND, "ns1", A);
        lab.reaches("ns0", C);
        lab.reaches("ns2", B);
        lab.reaches("ns0", "172.17.0.1");
        set_port(host, &b, "isolated off");
        lab.reaches_within(A_SECOND, "ns0", B);
        set_port(host, &a, "isolated off");
    });
}

#[test]
fn learning_off() {
    on_all(|host, lab, _| {
        let (port, mac) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        set_port(host, &port, "learning off");
        let _ = host.run(format!("bridge fdb del {mac} dev {port} master"));
        lab.reaches("ns0", B);
        lab.reaches("ns1", C);
        // A bridge that may not learn has no entry, and floods.
        assert!(!has_fdb_entry(host, &port, &mac));
        set_port(host, &port, "learning on");
        lab.reaches("ns1", A);
        wait_for(A_SECOND, "the bridge does not learn again", || {
            lab.pings("ns1", A) && has_fdb_entry(host, &port, &mac)
        });
    });
}

#[test]
fn hairpin_on() {
    on_all(|host, lab, _| {
        let port = lab.port("ns0:eth0");
        set_port(host, &port, "hairpin on");
        // Broadcasts of ns0 come back to it.
        let own = format!("inbound and arp and ether src {}", mac(lab, "ns0"));
        let capture = capture(lab, "ns0", "eth0", &own);
        wait_until(A_SECOND, || {
            let _ = lab.run("ns0", "ping -n -q -c 1 -W 1 172.17.0.250");
            let seen = capture.output();
            if seen.contains("172.17.0.250") { Ok(()) } else { Err(format!("nothing came back: {seen}")) }
        });
        lab.reaches("ns0", B);
        lab.reaches("ns2", A);
        drop(capture);
        // A second address behind the same port: the bridge sends its frames back.
        let _ = host.run("ip netns add second").ok();
        let second = "link eth0 address 02:00:00:00:11:11 type macvlan mode vepa";
        let _ = lab.run("ns0", format!("ip link add second {second}")).ok();
        let _ = lab.run("ns0", "ip link set second netns second").ok();
        let _ = host.run("ip -n second addr add 172.17.0.111/16 dev second").ok();
        let _ = host.run("ip -n second link set second up").ok();
        lab.reaches_within(A_SECOND, "ns0", "172.17.0.111");
        let _ = host.run("ip netns del second").ok();
        set_port(host, &port, "hairpin off");
    });
}

#[test]
fn locked_on() {
    on_all(|host, lab, _| {
        let (port, mac) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        set_port(host, &port, "locked on");
        let _ = host.run(format!("bridge fdb del {mac} dev {port} master"));
        lab.loses_within(A_SECOND, "ns1", A);
        lab.loses_within(A_SECOND, "ns0", B);
        // A host with a static entry is let in.
        let _ = host.run(format!("bridge fdb replace {mac} dev {port} master static")).ok();
        lab.reaches_within(A_SECOND, "ns1", A);
        set_port(host, &port, "locked off");
        let _ = host.run(format!("bridge fdb replace {mac} dev {port} master dynamic")).ok();
    });
}

/// Flags that are not honoured, and what `stats` reports. Each is set on ns1's port.
const NOT_HONOURED: [(&str, &str, &str); 6] = [
    ("learning off", "learning on", "port flag learning off"),
    ("neigh_suppress on", "neigh_suppress off", "port flag neigh_suppress"),
    ("mcast_to_unicast on", "mcast_to_unicast off", "port flag mcast_to_unicast"),
    ("proxy_arp on", "proxy_arp off", "port flag proxy_arp"),
    ("proxy_arp_wifi on", "proxy_arp_wifi off", "port flag proxy_arp"),
    ("locked on", "locked off", "port flag locked"),
];

#[test]
fn flags_that_are_not_honoured_disarm_the_port_with_a_reason() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    for (on, off, reason) in NOT_HONOURED {
        let _ = host.run(format!("ip link set dev {port} type bridge_slave {on}")).ok();
        lab.wait_for_state("ns1:eth0", reason);
        assert_eq!(lab.state("ns0:eth0"), "armed", "{on}");
        lab.reaches("ns0", B);
        let _ = host.run(format!("ip link set dev {port} type bridge_slave {off}")).ok();
        lab.wait_for_state("ns1:eth0", "armed");
    }
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}

/// Flags about frames that are slow anyway: the port stays armed, and the flags take effect.
#[test]
fn flood_flags_off() {
    on_all(|host, lab, fast| {
        let (port, b) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        let [from, at_b, at_c] = ["ns0:eth0", "ns1:eth0", "ns2:eth0"].map(|end| lab.wire(end));
        let (a, group) = (mac_bytes(lab, "ns0"), [0x01, 0, 0x5e, 1, 2, 3]);
        let unknown = [0x02, 0, 0, 0, 0xee, 0xee];
        let mut number = 0;
        for (flag, to) in [("flood", unknown), ("mcast_flood", group), ("bcast_flood", BROADCAST)] {
            for on in [false, true] {
                set_port(host, &port, &format!("{flag} {}", if on { "on" } else { "off" }));
                number += 2;
                let pin = CpuPin::new();
                from.send(&numbered(to, a, number));
                // It is flooded to all ports at once. A frame to ns1 shows that the first one has had time to arrive.
                let _ = wait_for_frame(&at_c, number);
                from.send(&numbered(mac_bytes(lab, "ns1"), a, number + 1));
                drop(pin);
                let mut seen = Vec::new();
                wait_until(A_SECOND, || {
                    seen.extend(received_numbers(&at_b));
                    if seen.contains(&(number + 1)) { Ok(()) } else { Err(format!("{b}: {seen:?}")) }
                });
                assert_eq!(seen.contains(&number), on, "{flag}");
                assert!(!fast || lab.state("ns1:eth0") == "armed", "{flag}");
                lab.reaches("ns0", B);
            }
        }
    });
}

/// With a backup port, frames for a port without carrier leave by the other.
#[test]
fn backup_port() {
    on_all(|host, lab, fast| {
        let (port, backup) = (lab.port("ns1:eth0"), lab.port("ns2:eth0"));
        set_port(host, &port, &format!("backup_port {backup}"));
        if fast {
            lab.wait_for_state("ns1:eth0", "port flag backup_port");
        }
        lab.reaches("ns0", B);
        let (b, a) = (mac_bytes(lab, "ns1"), mac_bytes(lab, "ns0"));
        let [from, aside] = ["ns0:eth0", "ns2:eth0"].map(|end| lab.wire(end));
        let _ = lab.run("ns1", "ip link set eth0 down").ok();
        let mut number = 0;
        wait_until(A_SECOND, || {
            number += 2;
            if receives(&from, &numbered(b, a, number), number, &[&aside])[0] {
                Ok(())
            } else {
                Err("the backup port does not send it".to_owned())
            }
        });
        let _ = lab.run("ns1", "ip link set eth0 up").ok();
        set_port(host, &port, "nobackup_port");
        lab.reaches_within(A_SECOND, "ns1", A);
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}
