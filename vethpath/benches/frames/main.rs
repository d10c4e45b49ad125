//! Frames per second through one bridge and through eight in a row, and socket throughput and latency, by datapath. All
//! paths are measured in one run, interleaved, on one CPU. The median of the rounds counts.
//!
//! As root: `cargo bench --bench frames`. The labs are in private namespaces, which end with the benchmark. It prints
//! Markdown rows; discarded rounds are also reported on standard error.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]
#![expect(unsafe_code, reason = "BPF_PROG_TEST_RUN with live frames is more than aya offers")]

mod live;
mod machine;
mod private;
mod rounds;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../../tests/raw_frames/socket.rs"]
mod socket;
mod sockets;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../../tests/raw_frames/users.rs"]
mod users;

use std::process::ExitCode;

use machine::{DATAPATHS, Lab, Machine};
use rounds::{Short, Table};

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let machine = Machine::new();
    let mut table = Table::start();
    for bridges in [1, 8] {
        let labs = DATAPATHS.map(|datapath| machine.up(datapath, bridges));
        live::prepare(&labs);
        for netfilter in [false, true] {
            machine.netfilter(netfilter);
            machine::settle(&labs);
            table.rows(bridges, netfilter, "live frames, Mpps", &labs, live::rate);
        }
        live::end(&labs);
        // From here on bridges call netfilter.
        let mut rows = |what: &str, measure: fn(&Lab) -> Result<f64, Short>| {
            table.rows(bridges, true, what, &labs, measure);
        };
        sockets::prepare(&labs);
        rows("AF_XDP, Mpps", sockets::af_xdp);
        sockets::end(&labs);
        rows("UDP round trip, us", sockets::round_trip);
        rows("TCP, Gbit/s", sockets::bulk);
        labs.iter().for_each(|lab| machine.down(lab));
    }
    table.end()
}
