//! `bench` compared with iperf3 and ping.

use serde_json::Value;

use crate::harness::{Host, Lab, iperf};

/// Compares the best figures of each tool so far, all on one CPU. Other load on the machine may disturb one of them:
/// then both run again.
#[test]
fn iperf3_and_ping_find_what_bench_finds() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let mut best = Best { stream: (0.0, 0.0), trip: (f64::MAX, f64::MAX) };
    for _ in 0..TURNS {
        best.turn(&host, &lab);
        if best.agree() {
            break;
        }
    }
    assert!(best.agree(), "{best:#?}");
    lab.down();
    host.finish();
}

/// Enough turns for any machine, however busy.
const TURNS: usize = 20;

/// The best figures, ours first.
#[derive(Debug)]
struct Best {
    /// Bits a second: of a slice, and of an iperf3 interval of the same length.
    stream: (f64, f64),
    /// Microseconds: the median of a slice, and a round trip of a flood ping.
    trip: (f64, f64),
}

impl Best {
    fn turn(&mut self, host: &Host, lab: &Lab<'_>) {
        let bench = "bench --work tcp-stream,udp-rr --cores same --seconds 1 --json";
        let report = host.vethpath(bench).ok().json();
        let cpu = &report["cases"][0]["placement"]["from_cpu"];
        let pinned = format!("--time 1 --interval 0.1 --congestion cubic --affinity {cpu},{cpu}");
        let iperf = iperf(lab, "ns0", ("ns1", "172.17.0.102"), &pinned);
        // A flood ping sends as soon as the reply is there.
        let ping = lab.run("ns0", format!("taskset -c {cpu} ping -f -q -c 1000 172.17.0.102")).ok().stdout;
        let (_, gap) = ping.split_once("ipg/ewma ").unwrap_or_else(|| panic!("{ping}"));
        let gap = gap.split('/').next().and_then(|gap| gap.parse::<f64>().ok()).expect("milliseconds");
        let all = |rounds: &Value| {
            let rounds = rounds.as_array().expect("a list").iter();
            rounds.map(|figure| figure.as_f64().expect("a number")).collect::<Vec<_>>()
        };
        let times = iperf["intervals"].as_array().expect("a list").iter();
        let theirs = times.filter_map(|time| time["sum"]["bits_per_second"].as_f64());
        let ours = all(&report["cases"][0]["rate"]["fast"]["rounds"]);
        self.stream = (ours.into_iter().fold(self.stream.0, f64::max), theirs.fold(self.stream.1, f64::max));
        let ours = all(&report["udp_rr"]["fast"]["round_p50_us"]);
        self.trip = (ours.into_iter().fold(self.trip.0, f64::min), self.trip.1.min(1000.0 * gap));
    }

    /// Round trips of ping are shorter: the kernel itself replies, while `bench` has to wake a process.
    fn agree(&self) -> bool {
        (0.3..3.0).contains(&(self.stream.0 / self.stream.1))
            && (0.3..6.0).contains(&(self.trip.0 / self.trip.1))
    }
}
