//! `bench` judged by other tools: iperf3 and ping find the same figures, and a browser draws the page of `--html`.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Host, Lab, iperf};

/// Compares the best figures of each tool so far, all on one CPU. Other load on the machine may disturb one of them:
/// then both run again.
#[test]
fn iperf3_and_ping_agree_with_bench() {
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

/// A script that measures what was drawn, and appends the result to the page.
const SCRIPT: &str = include_str!("judge.js");

/// Widths of a phone on its side and of a screen, in pixels.
const WIDTHS: [u32; 2] = [500, 1400];

/// What the script has measured.
#[derive(Debug, Deserialize)]
struct Measured {
    /// Number of files that the page has loaded.
    loaded: usize,
    /// Pixels by which the page is wider than the window, less a scroll bar.
    over: f64,
    charts: Vec<Chart>,
}

/// One chart.
#[derive(Debug, Deserialize)]
struct Chart {
    width: f64,
    height: f64,
    /// Number of visible lines, bars and areas.
    drawn: usize,
    words: usize,
    /// Words that are cut off.
    outside: Vec<String>,
}

#[test]
fn a_browser_draws_all_charts_and_loads_nothing() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let command = "bench --work udp-rr,udp-rate --cores same --seconds 1";
    let _ = host.vethpath(format!("{command} --html {}", page.display())).ok();
    lab.down();
    let text = std::fs::read_to_string(&page).expect("the page");
    let charts = text.matches("<svg").count();
    // Bars, distribution, histogram and rounds for round trips; bars and rounds for a rate. Overhead is left out
    // where noise hides it.
    assert!([6, 7].contains(&charts), "{charts}");
    let (body, rest) = text.split_once("</body>").expect("the end of the body");
    std::fs::write(&page, format!("{body}<script>{SCRIPT}</script></body>{rest}")).expect("a file");
    for width in WIDTHS {
        let measured = measure_page(&host, &page, folder.path(), width);
        assert_eq!(measured.loaded, 0, "{measured:#?}");
        assert!(measured.over <= 0.0, "{width}: {measured:#?}");
        assert_eq!(measured.charts.len(), charts, "{measured:#?}");
        for chart in &measured.charts {
            let fits = chart.width > 200.0 && chart.width <= f64::from(width) && chart.height > 50.0;
            let is_whole = chart.drawn > 5 && chart.words > 5 && chart.outside.is_empty();
            assert!(fits && is_whole, "{width}: {chart:#?}");
        }
    }
    host.finish();
}

/// Opens the page in a window of this width.
fn measure_page(host: &Host, page: &Path, folder: &Path, width: u32) -> Measured {
    let profile = folder.join("browser");
    let browser = "chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                   --disable-background-networking --disable-component-update --disable-sync";
    let window = format!("--user-data-dir={} --window-size={width},900 --dump-dom", profile.display());
    let output = host.run(format!("{browser} {window} file://{}", page.display())).ok();
    let (_, json) = output.stdout.split_once("<pre id=\"judged\">").unwrap_or_else(|| panic!("{output}"));
    let (json, _) = json.split_once("</pre>").expect("its end");
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}
