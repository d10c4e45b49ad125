//! Clients that the server of metrics does not know: wrong, slow, and too many.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use super::{ADDRESS, KEY, connect, pid, request, samples, shown};
use crate::harness::{Host, Lab, SLACK, wait_for};

fn lab(host: &Host) -> Lab<'_> {
    host.lab("three-hosts").with("[bridge.docker0]", &format!("{KEY}[bridge.docker0]")).up()
}

/// The resident memory of a process in KiB.
fn memory(host: &Host, pid: i32) -> u64 {
    let status = fs::read_to_string(host.path(&format!("/proc/{pid}/status"))).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn what_is_no_request_for_metrics_is_refused() {
    let host = Host::new();
    let lab = lab(&host);
    for (text, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("GET /metrics HTTP/1.0\r\n\r\n", "200"),
        ("GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("GET /other HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "405"),
        ("nonsense\r\n\r\n", "400"),
        ("GET /metrics HTTP/7.7\r\n\r\n", "400"),
    ] {
        let (head, body) = request(&host, ADDRESS, text);
        assert_eq!(head.split(' ').nth(1), Some(status), "{text:?}: {head}");
        assert!(
            head.starts_with("HTTP/1") && (status != "405" || head.contains("allow: GET, HEAD")),
            "{head}"
        );
        assert!(!text.starts_with("HEAD") || body.is_empty(), "{body}");
    }
    let openmetrics =
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n";
    let (head, body) = request(&host, ADDRESS, openmetrics);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    // A header without an end is cut off: the connection is closed, with an error or without one.
    let mut stream = connect(&host, ADDRESS);
    let endless = [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let _ = stream.write_all(&endless);
    let _ = stream.shutdown(Shutdown::Write);
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    assert!(!response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
    assert!(!samples(&host, ADDRESS).is_empty());
    lab.down();
    host.finish();
}

#[test]
fn a_thousand_slow_clients_keep_nobody_waiting_and_cost_little() {
    let host = Host::new();
    let lab = lab(&host);
    let server = pid(&shown(&host, "three-hosts"), "pid");
    assert!(!samples(&host, ADDRESS).is_empty());
    let before = memory(&host, server);
    // Some say nothing, some half of a request, some all of it and read nothing.
    let kinds = ["", "GET /metrics HTTP/1.1\r\nHo", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"];
    let mut clients: Vec<TcpStream> = Vec::new();
    for number in 0..1000 {
        let mut client = connect(&host, ADDRESS);
        // The server may have closed it already.
        let _ = client.write_all(kinds[number % kinds.len()].as_bytes());
        clients.push(client);
        if number % 100 == 99 {
            assert!(!samples(&host, ADDRESS).is_empty(), "after {number}");
        }
    }
    assert!(!samples(&host, ADDRESS).is_empty());
    let now = memory(&host, server);
    assert!(now < before + (16 << 10), "{before} KiB, then {now}");
    let open = fs::read_dir(host.path(&format!("/proc/{server}/fd"))).expect("it lives").count();
    assert!(open < 300, "{open} descriptors");
    // They go, by their time or as they are pushed out.
    wait_for(SLACK, "they stay", || {
        let open = fs::read_dir(host.path(&format!("/proc/{server}/fd"))).expect("it lives").count();
        open < 20
    });
    assert_eq!(pid(&shown(&host, "three-hosts"), "pid"), server, "it is the same process");
    assert!(!samples(&host, ADDRESS).is_empty());
    drop(clients);
    lab.down();
    host.finish();
}
