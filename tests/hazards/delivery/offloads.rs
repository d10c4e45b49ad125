//! Checksums and segments that are left to the device: `CHECKSUM_PARTIAL` and TSO.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use super::super::common::{A_SECOND, B, fast_lab, on_all};
use crate::{
    harness::{Host, Lab, SLACK, wait_for},
    programs::Random,
};

/// A bridge computes the checksum where the egress port cannot offload it.
#[test]
fn offloads_switched_off_on_a_port_are_honoured() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let capture = lab.spawn("ns1", "tcpdump -l -n -vv --immediate-mode -i eth0 udp port 9");
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    let send = || lab.run("ns0", ["bash", "-c", &format!("echo hello > /dev/udp/{B}/9")]).ok();
    let _ = send();
    wait_for(SLACK, "the checksum is left to the receiver", || capture.output().contains("bad udp cksum"));
    let _ = host.run(format!("ethtool -K {} tx off", lab.port("ns1:eth0"))).ok();
    wait_for(A_SECOND, "the checksum is made", || {
        let _ = send();
        capture.output().contains("udp sum ok")
    });
    drop(capture);
    lab.down();
    host.finish();
}

/// Offloads that are switched off in turn, at either inner end and at either port.
const OFF: [(&str, &str, &str); 8] = [
    ("ns0", "eth0", "tx off"),
    ("ns0", "eth0", "tso off gso off"),
    ("ns1", "eth0", "rx off"),
    ("ns1", "eth0", "tx off sg off"),
    ("ns1", "eth0", "gro on"),
    ("", "ns1:eth0", "tx off"),
    ("", "ns1:eth0", "tso off gso off"),
    ("", "ns0:eth0", "rx off tx off"),
];

/// TCP in both directions, with each offload off in turn, and then with all off: every byte arrives as it was sent.
#[test]
fn tcp_is_whole_whatever_is_left_to_the_devices() {
    on_all(|host, lab, fast| {
        transfer(lab);
        for (namespace, link, what) in OFF {
            if namespace.is_empty() {
                let _ = host.run(format!("ethtool -K {} {what}", lab.port(link))).ok();
            } else {
                let _ = lab.run(namespace, format!("ethtool -K {link} {what}")).ok();
            }
            transfer(lab);
        }
        let wrong = ["ns0", "ns1"].map(|n| lab.run(n, "nstat -asz TcpInCsumErrors").ok().stdout);
        assert!(wrong.iter().all(|text| text.contains("TcpInCsumErrors                 0 ")), "{wrong:?}");
        if fast {
            lab.is_fast("ns0:eth0", B);
        }
    });
}

/// Sends bytes from ns0 to ns1 and back, and compares.
#[track_caller]
pub(crate) fn transfer(lab: &Lab<'_>) {
    const LENGTH: usize = 4 << 20;
    let mut random = Random(17);
    let sent = random.bytes(LENGTH);
    let listener = lab.netns("ns1").run(|| TcpListener::bind((B, 0))).expect("entered").expect("a socket");
    let to = listener.local_addr().expect("it has one");
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = vec![0; LENGTH];
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)
    });
    let stream = lab.netns("ns0").run(|| TcpStream::connect_timeout(&to, SLACK)).expect("entered");
    let mut stream = stream.expect("a connection");
    stream.set_read_timeout(Some(SLACK)).expect("not zero");
    stream.write_all(&sent).expect("it takes them");
    let mut came = vec![0; LENGTH];
    stream.read_exact(&mut came).expect("they come back");
    echo.join().expect("no panic").expect("it echoes");
    assert!(came == sent, "bytes were changed on the way");
}
