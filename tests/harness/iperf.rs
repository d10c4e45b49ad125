//! iperf3 between two namespaces.

use std::time::Duration;

use serde_json::Value;

use super::{Lab, Process, SLACK, wait_until};

/// A running iperf3 client and its server.
pub(crate) struct Iperf {
    server: Process,
    client: Process,
}

impl Iperf {
    /// Starts a server in `to` and a client in `from`, with more command-line options.
    #[track_caller]
    pub(crate) fn start(lab: &Lab<'_>, from: &str, (to, address): (&str, &str), options: &str) -> Self {
        let server = lab.spawn(to, "iperf3 --server --one-off --forceflush");
        wait_until(SLACK, || {
            let output = server.output();
            if output.contains("Server listening") { Ok(()) } else { Err(format!("iperf3 says {output:?}")) }
        });
        let client = lab.spawn(from, format!("iperf3 --client {address} --json {options}"));
        Self { server, client }
    }

    /// Waits for its end and returns the client's report.
    #[track_caller]
    pub(crate) fn report(self) -> Value {
        let report = self.client.wait(Duration::from_secs(60)).ok().json();
        let _ = self.server.wait(SLACK).ok();
        report
    }
}

/// Runs iperf3 to its end and returns the client's report.
#[track_caller]
pub(crate) fn iperf(lab: &Lab<'_>, from: &str, to: (&str, &str), options: &str) -> Value {
    Iperf::start(lab, from, to, options).report()
}

/// Bytes that arrived, from a TCP report.
#[track_caller]
pub(crate) fn received(report: &Value) -> u64 {
    report["end"]["sum_received"]["bytes"].as_u64().unwrap_or_else(|| panic!("no TCP report: {report}"))
}
