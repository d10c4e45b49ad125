//! `bench --html`: one page with all results, which needs no network.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use vethpath_figures::charts::{
    Bar, Error, Ink, Row, Series, bars, cumulative, dark_mode, density, forest, rounds,
};

use super::{
    super::format::{count, grouped},
    compare::{CAUTION, rows},
    text::{comparison, figure, headline},
};
use crate::bench::{
    Case, Comparison, Distribution, Interval, Mode, PerMode, Rate, Report, Results, Unit, Why,
};

const STYLE: &str = include_str!("style.css");

/// Renders the page.
///
/// # Errors
/// A chart cannot be drawn. This is not expected.
pub fn html(report: &Report, comparison: Option<&Comparison>) -> Result<String, Error> {
    let Report { lab, from, to, bridges, warnings, .. } = report;
    let cases = report.cases.iter().enumerate().map(|(number, case)| case_section(number, case));
    let cases = cases.collect::<Result<Vec<_>, _>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "vethpath bench: " (lab) ", " (from) " to " (to) }
                style { (PreEscaped(STYLE)) (PreEscaped(dark_mode())) }
            }
            body {
                header {
                    p.kicker { "vethpath bench" }
                    h1 { (headline(report)) }
                    p { "Lab " b { (lab) } ", from " b { (from) } " to " b { (to) } ", through " (count(*bridges, "bridge")) ". " (report.machine.date) }
                }
                main {
                    @if !warnings.is_empty() {
                        section #warnings {
                            h2 { "Mind when you read this" }
                            @for warning in warnings {
                                p.warning { b { (warning.message) } " " span { "What to do: " (warning.advice) "." } }
                            }
                        }
                    }
                    (overhead(report)?)
                    @for case in &cases { (case) }
                    @if let Some(comparison) = comparison { (compared(comparison)) }
                    (facts(report))
                }
            }
        }
    };
    Ok(page.into_string())
}

/// The removed part of the bridge's overhead, for all cases on one axis.
fn overhead(report: &Report) -> Result<Markup, Error> {
    let row = |name: String, figure: Interval, mode: Mode| Row { name, figure, ink: ink(mode) };
    let mut rows = Vec::new();
    for case in &report.cases {
        let name = case.spec().name();
        let by_xdp = format!("{name}, by XDP");
        rows.extend(case.overhead_removed.map(|removed| row(name, removed, Mode::Fast)));
        rows.extend(case.xdp_overhead_removed.map(|removed| row(by_xdp, removed, Mode::Xdp)));
    }
    if rows.is_empty() {
        return Ok(html! {});
    }
    let svg = forest(&rows)?;
    Ok(html! {
        section #overhead {
            h2 { "Overhead removed" }
            p { "The part of the plain bridge's overhead over a cable that the fast path removes: "
                code { "(bridge - fast) / (bridge - cable)" } ", from the medians of each round, with 95 % intervals." }
            (chart("overhead removed, each case with its interval", &svg))
        }
    })
}

/// A chart with an alternative text.
fn chart(about: &str, svg: &str) -> Markup {
    html! { figure role="img" aria-label=(about) { (PreEscaped(svg)) } }
}

fn compared(comparison: &Comparison) -> Markup {
    html! {
        section #compare {
            h2 { "Compared with the run of " (comparison.then) }
            @for difference in &comparison.differences {
                p.warning { b { "Not the same: " (difference.what) } " " span { (difference.then) " then, " (difference.now) " now." } }
            }
            @for case in &comparison.cases {
                h3 { (case.spec.name()) }
                div.wide { table {
                    thead { tr { @for heading in ["", "then", "now", "now/then", "change"] { th { (heading) } } } }
                    tbody { @for row in rows(case) { tr { @for cell in row { td { (cell) } } } } }
                } }
            }
            @for (specs, when) in [(&comparison.only_then, "now"), (&comparison.only_now, "then")] {
                @for spec in specs { p { "Not measured " (when) ": " (spec.name()) "." } }
            }
            p.faint { (CAUTION) }
        }
    }
}

/// The colour of a path.
const fn ink(mode: Mode) -> Ink {
    match mode {
        Mode::Cable => Ink::Cable,
        Mode::Bridge => Ink::Bridge,
        Mode::Fast => Ink::Fast,
        Mode::Xdp => Ink::Xdp,
    }
}

/// The section of a case.
fn case_section(number: usize, case: &Case) -> Result<Markup, Error> {
    let name = case.spec().name();
    let latency = match &case.results {
        Results::Latency(latency) => Some(latency),
        Results::Rate(_) => None,
    };
    let placement = case.placement;
    Ok(html! {
        section id=(format!("case-{number}")) {
            h2 { (name) }
            p { (comparison(case)) ". From CPU " (placement.from_cpu) " to CPU " (placement.to_cpu) "." }
            h3 { @if latency.is_some() { "Median round trip" } @else { "Rate" } }
            (chart(&format!("{name}: each path"), &paths(case)?))
            p.faint { "Bars: " @if latency.is_some() { "the median of the rounds' medians" } @else { "the median of the rounds" }
                "; dots: each round, at the edge where it lies beyond; whiskers: the 95 % interval of the rounds' median. "
                @if case.unit == Unit::Microseconds { "Shorter is better." } @else { "Longer is better." } }
            @if let Some(latency) = latency { (distributions(&name, latency)?) }
            (ratios(&name, case)?)
            div.wide { @match &case.results {
                Results::Latency(latency) => (latencies(latency)),
                Results::Rate(rate) => (rates(case.unit, rate)),
            } }
        }
    })
}

fn paths(case: &Case) -> Result<String, Error> {
    let by_round = case.by_round();
    let bar = |(mode, &value): (Mode, &f64)| Bar {
        name: mode.name().to_owned(),
        ink: ink(mode),
        value,
        interval: case.interval(mode),
        dots: by_round.get(mode).map(|rounds| rounds.to_vec()).unwrap_or_default(),
        words: exact(case.unit, value),
    };
    let figures = case.figures();
    let all: Vec<_> = figures.iter().map(bar).collect();
    let (unit, short): (_, fn(f64) -> String) = match case.unit {
        Unit::Microseconds => ("microseconds", |value| format!("{value}")),
        Unit::PerSecond => ("a second", |value| figure(Unit::PerSecond, value).replace("/s", "")),
        Unit::BitsPerSecond => {
            ("bits a second", |value| figure(Unit::BitsPerSecond, value).replace("bit/s", ""))
        }
    };
    bars(&all, unit, short)
}

/// A figure with as many digits as in the table.
fn exact(unit: Unit, value: f64) -> String {
    if unit == Unit::Microseconds { format!("{value:.2} us") } else { figure(unit, value) }
}

fn distributions(name: &str, latency: &PerMode<Distribution>) -> Result<Markup, Error> {
    let series = latency.iter().filter(|(_, d)| !d.histogram.is_empty());
    let series =
        series.map(|(mode, d)| Series { name: mode.name(), ink: ink(mode), histogram: &d.histogram });
    let series: Vec<_> = series.collect();
    if series.is_empty() {
        return Ok(html! {});
    }
    let (cdf, histogram) = (cumulative(&series)?, density(&series)?);
    Ok(html! {
        h3 { "What part of the round trips took no longer than a time" }
        (chart(&format!("{name}: cumulative distribution"), &cdf))
        h3 { "How many took how long" }
        (chart(&format!("{name}: histogram"), &histogram))
        p.faint { "Both over a logarithmic axis up to the slowest path's p99; the table has the rest." }
    })
}

fn ratios(name: &str, case: &Case) -> Result<Markup, Error> {
    let ratios = case.ratios();
    if ratios.is_empty() {
        return Ok(html! {});
    }
    let svg = rounds(&ratios, case.fast_to_bridge)?;
    Ok(html! {
        h3 { "Fast path as a part of the plain bridge, in each round" }
        (chart(&format!("{name}: fast path to plain bridge by round"), &svg))
        p.faint { "Dots: rounds. Line and band: their median and its 95 % interval." }
    })
}

fn latencies(latency: &PerMode<Distribution>) -> Markup {
    html! { table {
        thead { tr { @for heading in ["microseconds", "p50", "p90", "p99", "p99.9", "least", "most", "mean", "n", "lost"] { th { (heading) } } } }
        tbody { @for (mode, d) in latency.iter() { tr data-path=(mode.name()) {
            td { (mode.name()) }
            @for us in [d.p50_us, d.p90_us, d.p99_us, d.p99_9_us, d.min_us, d.max_us, d.mean_us] { td { (format!("{us:.2}")) } }
            td { (grouped(d.n)) } td { (grouped(d.lost)) }
        } } }
    } }
}

fn rates(unit: Unit, rates: &PerMode<Rate>) -> Markup {
    html! { table {
        thead { tr { @for heading in ["", "median", "sent", "received", "lost"] { th { (heading) } } } }
        tbody { @for (mode, rate) in rates.iter() { tr data-path=(mode.name()) {
            td { (mode.name()) }
            td { (figure(unit, rate.median)) } td { (grouped(rate.sent)) } td { (grouped(rate.received)) }
            td { (format!("{:.2} %", 100.0 * rate.loss)) }
        } } }
    } }
}

/// The last section: machine, method and command of the measurement.
fn facts(report: &Report) -> Markup {
    let machine = &report.machine;
    let unknown = || "unknown".to_owned();
    let calls = machine.bridge_nf_call.iter();
    let calls: Vec<_> =
        calls.map(|(name, on)| format!("{name} {}", if *on { "on" } else { "off" })).collect();
    let facts = [
        ("CPU", machine.cpu.clone().unwrap_or_else(unknown)),
        ("CPUs", machine.cpus.to_string()),
        ("frequency governor", machine.governor.clone().unwrap_or_else(|| "none".to_owned())),
        ("kernel", machine.kernel.clone().unwrap_or_else(unknown)),
        ("programs attached by", machine.hook.map_or_else(unknown, |hook| hook.name().to_owned())),
        ("bridge-nf-call", if calls.is_empty() { "not there".to_owned() } else { calls.join(", ") }),
        ("congestion control", machine.congestion_control.clone().unwrap_or_else(unknown)),
        ("vethpath", machine.vethpath.clone()),
        ("measured", machine.date.clone()),
        ("rounds", format!("{}; {}", report.rounds, ended(report))),
    ];
    html! {
        section #machine {
            h2 { "The machine" }
            div.wide { table.facts { tbody {
                @for (name, fact) in facts { tr { th { (name) } td { (fact) } } }
            } } }
            h2 { "Do it again" }
            pre { code { (machine.command) } }
            p.faint {
                "Cable: a veth pair and nothing else. Plain bridge: the lab's own, its programs detached. Fast path: the \
                 programs attached, both pairs armed. The paths took turns in random order within each round; the \
                 programs' own counters had to show that the frames took the path. Ratios are the median of the rounds' \
                 ratios; intervals are by bootstrap over rounds."
                @if has_xdp(report) {
                    " XDP: the same way in a lab of its own with `datapath = \"xdp\"`; the drivers' counters had to show \
                     that XDP redirected the frames."
                }
            }
        }
    }
}

fn has_xdp(report: &Report) -> bool {
    report.cases.iter().any(|case| case.figures().get(Mode::Xdp).is_some())
}

fn ended(report: &Report) -> &'static str {
    match report.ended.why {
        Why::Narrow => "it ended when the first case's interval was narrow enough",
        Why::Time => "it ended when the time was over",
    }
}

/// Parses the page of a fixed report as XML.
#[cfg(test)]
mod tests {
    use roxmltree::{Document, Node};

    use super::*;
    use crate::bench::{Caveat, samples};

    /// The body. It is valid XML, since every element has an end tag.
    fn body(page: &str) -> &str {
        let (start, end) = (page.find("<body>").expect("a body"), page.find("</body>").expect("its end"));
        &page[start..end + "</body>".len()]
    }

    fn section<'a>(page: &'a Document<'a>, id: &str) -> Node<'a, 'a> {
        page.descendants().find(|node| node.attribute("id") == Some(id)).unwrap_or_else(|| panic!("no {id}"))
    }

    fn text_of(node: Node<'_, '_>) -> String {
        node.descendants().filter_map(|node| node.text().filter(|_| node.is_text())).collect()
    }

    fn charts(node: Node<'_, '_>) -> usize {
        node.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "svg"))).count()
    }

    #[test]
    fn each_case_has_its_charts() {
        let report = samples::report();
        let page = html(&report, None).unwrap();
        let page = Document::parse(body(&page)).unwrap();
        assert_eq!(charts(section(&page, "overhead")), 1);
        assert_eq!(charts(section(&page, "case-0")), 4, "bars, CDF, histogram, rounds");
        assert_eq!(charts(section(&page, "case-1")), 2, "bars, rounds");
        let figures = page.descendants().filter(|node| node.has_tag_name("figure"));
        for figure in figures {
            assert_eq!(charts(figure), 1);
            assert!(figure.attribute("aria-label").is_some_and(|label| !label.is_empty()));
        }
    }

    #[test]
    fn the_numbers_are_the_reports() {
        let report = samples::report();
        let page = html(&report, None).unwrap();
        let page = Document::parse(body(&page)).unwrap();
        assert!(text_of(page.root()).contains(&headline(&report)));
        let row = |id: &str, path: &str| {
            let row = section(&page, id).descendants().find(|node| node.attribute("data-path") == Some(path));
            row.expect("a row").children().map(text_of).collect::<Vec<_>>()
        };
        let fast = ["fast path", "10.60", "11.60", "19.60", "30.60", "9.60", "110.60", "10.85", "2,000", "0"];
        assert_eq!(row("case-0", "fast path"), fast);
        assert_eq!(row("case-1", "plain bridge"), ["plain bridge", "400k/s", "5,000", "5,000", "0.00 %"]);
        let bars = text_of(section(&page, "case-0"));
        for figure in ["10.20 us", "13.00 us", "10.70 us", "overhead removed 0.82 (0.78 to 0.86)"] {
            assert!(bars.contains(figure), "{figure}: {bars}");
        }
        assert!(text_of(section(&page, "overhead")).contains("0.82 (0.78 to 0.86)"));
    }

    #[test]
    fn xdp_is_a_path_like_the_others() {
        let report = samples::with_xdp();
        let page = html(&report, None).unwrap();
        let page = Document::parse(body(&page)).unwrap();
        let case = section(&page, "case-0");
        assert!(case.descendants().any(|node| node.attribute("data-path") == Some("XDP")));
        assert!(text_of(case).contains("overhead removed by XDP 0.14 (0.12 to 0.16)"), "{}", text_of(case));
        assert!(text_of(section(&page, "overhead")).contains("on one CPU, by XDP"));
        assert!(text_of(section(&page, "machine")).contains("XDP redirected the frames"));
        let without = samples::report();
        assert!(
            !html(&without, None).unwrap().contains("XDP"),
            "where nobody asked for it nobody hears of it"
        );
    }

    #[test]
    fn nothing_is_loaded_from_anywhere() {
        let report = samples::report();
        let page = html(&report, Some(&Comparison::of(&report, &report))).unwrap();
        let (head, _) = page.split_once("<body>").unwrap();
        for load in ["<link", "<script", "@import", "url(", "<base"] {
            assert!(!head.contains(load), "{load}");
        }
        let page = Document::parse(body(&page)).unwrap();
        for node in page.descendants().filter(Node::is_element) {
            let name = node.tag_name().name();
            assert!(!["script", "img", "image", "iframe", "object", "link", "use"].contains(&name), "{name}");
            for attribute in node.attributes() {
                let name = attribute.name();
                assert!(!name.starts_with("on") && !["src", "href", "style"].contains(&name), "{name}");
            }
        }
    }

    #[test]
    fn what_the_report_says_is_text_and_never_markup() {
        let mut report = samples::report();
        let hostile = "<script>alert('1')</script>\"&";
        report.lab = hostile.to_owned();
        report.machine.command = hostile.to_owned();
        report.machine.kernel = Some(hostile.to_owned());
        let text = hostile.to_owned();
        report.warnings = vec![Caveat { kind: text.clone(), message: text.clone(), advice: text }];
        let mut then = report.clone();
        then.machine.date = hostile.to_owned();
        let page = html(&report, Some(&Comparison::of(&then, &report))).unwrap();
        assert!(!page.contains("<script"), "{page}");
        let page = Document::parse(body(&page)).unwrap();
        assert!(text_of(section(&page, "machine")).contains(hostile));
    }

    #[test]
    fn a_comparison_has_a_section_of_its_own() {
        let report = samples::report();
        let page = html(&report, Some(&Comparison::of(&report, &report))).unwrap();
        let page = Document::parse(body(&page)).unwrap();
        assert!(text_of(section(&page, "compare")).contains("no change distinguishable from noise"));
    }

    #[test]
    fn a_page_of_nothing_is_a_page() {
        let report = Report { cases: Vec::new(), overhead_removed: None, udp_rr: None, ..samples::report() };
        let page = html(&report, None).unwrap();
        let page = Document::parse(body(&page)).unwrap();
        assert!(text_of(page.root()).contains("nothing was measured"));
    }

    /// The position of an interval's label in its chart of 1000 units, and on which side of that point it is.
    fn words_of((low, high): (f64, f64)) -> (f64, String) {
        let figure = Interval { value: 0.8, low, high };
        let svg = forest(&[Row { name: "a case".to_owned(), figure, ink: Ink::Fast }]).unwrap();
        let svg = Document::parse(&svg).unwrap();
        let mut texts = svg.descendants().filter(|node| node.tag_name().name() == "text");
        let text = texts.find(|text| text_of(*text).trim().starts_with("0.80 (")).unwrap();
        let attribute = |name| text.attribute(name).unwrap().to_owned();
        (attribute("x").parse().unwrap(), attribute("text-anchor"))
    }

    #[test]
    fn words_have_room_beside_any_interval() {
        let (x, anchor) = words_of((0.1, 0.2));
        assert!(x < 500.0 && anchor == "start", "{x} {anchor}");
        let (x, anchor) = words_of((0.8, 0.9));
        assert!(x > 500.0 && anchor == "end", "{x} {anchor}");
        for everything in [(0.0, 1.0), (-72.3, 1.02), (0.3, 19.3)] {
            let (x, anchor) = words_of(everything);
            assert_eq!((x, anchor.as_str()), (964.0, "end"), "{everything:?}");
        }
    }
}
