//! The page of `bench --html` in a browser without a network: everything is drawn, at any width.

use std::path::Path;

use serde::Deserialize;

use crate::harness::Host;

/// A script that measures what was drawn, and appends the result to the page.
const JUDGE: &str = include_str!("judge.js");

/// Widths of a phone on its side and of a screen, in pixels.
const WIDTHS: [u32; 2] = [500, 1400];

/// What the script has measured.
#[derive(Debug, Deserialize)]
struct Judged {
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
fn a_browser_draws_every_chart_whole_and_loads_nothing() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let asked = "bench --work udp-rr,udp-rate --cores same --seconds 1";
    let _ = host.vethpath(format!("{asked} --html {}", page.display())).ok();
    lab.down();
    let text = std::fs::read_to_string(&page).expect("the page");
    let charts = text.matches("<svg").count();
    // Bars, distribution, histogram and rounds for round trips; bars and rounds for a rate. Overhead is left out
    // where noise hides it.
    assert!([6, 7].contains(&charts), "{charts}");
    let (body, rest) = text.split_once("</body>").expect("the end of the body");
    std::fs::write(&page, format!("{body}<script>{JUDGE}</script></body>{rest}")).expect("a file");
    for width in WIDTHS {
        let judged = opened(&host, &page, folder.path(), width);
        assert_eq!(judged.loaded, 0, "{judged:#?}");
        assert!(judged.over <= 0.0, "{width}: {judged:#?}");
        assert_eq!(judged.charts.len(), charts, "{judged:#?}");
        for chart in &judged.charts {
            let fits = chart.width > 200.0 && chart.width <= f64::from(width) && chart.height > 50.0;
            let is_whole = chart.drawn > 5 && chart.words > 5 && chart.outside.is_empty();
            assert!(fits && is_whole, "{width}: {chart:#?}");
        }
    }
    host.finish();
}

/// Opens the page in a window of this width.
fn opened(host: &Host, page: &Path, folder: &Path, width: u32) -> Judged {
    let profile = folder.join("browser");
    let browser = "chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                   --disable-background-networking --disable-component-update --disable-sync";
    let window = format!("--user-data-dir={} --window-size={width},900 --dump-dom", profile.display());
    let done = host.run(format!("{browser} {window} file://{}", page.display())).ok();
    let (_, told) = done.stdout.split_once("<pre id=\"judged\">").unwrap_or_else(|| panic!("{done}"));
    let (told, _) = told.split_once("</pre>").expect("its end");
    serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {told}"))
}
