//! The metrics: their processes, what they serve, and who else may ask.

mod clients;
mod prometheus;
mod serving;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::harness::{Host, TIMEOUT};

/// Where the labs of these tests serve.
const ADDRESS: &str = "127.0.0.1:9466";

/// The key in front of a file.
const KEY: &str = "metrics = \"127.0.0.1:9466\"\n";

/// The samples of a text, by name and labels as they are written.
type Samples = BTreeMap<String, f64>;

/// A connection to an address of the host.
fn connect(host: &Host, address: &str) -> TcpStream {
    let stream = host.netns().run(|| TcpStream::connect(address)).expect("it can be entered");
    let stream = stream.unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream
}

/// The header and the body of the response to a request.
fn request(host: &Host, address: &str, request: &str) -> (String, String) {
    let mut stream = connect(host, address);
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response).expect("it responds");
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no header: {response:?}"));
    (head.to_owned(), body.to_owned())
}

/// The metrics as text.
fn text(host: &Host, address: &str) -> String {
    let (head, body) = request(host, address, "GET /metrics HTTP/1.1\r\nHost: lab\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    body
}

/// The samples of the metrics.
fn samples(host: &Host, address: &str) -> Samples {
    parse(&text(host, address))
}

fn parse(text: &str) -> Samples {
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// Where `show` says that the metrics of a lab are served: `listen`, `pid`, `reader`.
fn shown(host: &Host, lab: &str) -> Value {
    host.vethpath(format!("show {lab} --json")).ok().json()["metrics"].clone()
}

/// A pid of `show`.
fn pid(shown: &Value, of: &str) -> i32 {
    let pid = shown[of].as_i64().unwrap_or_else(|| panic!("no {of}: {shown}"));
    i32::try_from(pid).expect("a pid")
}
