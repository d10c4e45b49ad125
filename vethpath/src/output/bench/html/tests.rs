//! Parses the page of a fixed report as XML.

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

fn words(node: Node<'_, '_>) -> String {
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
    assert!(words(page.root()).contains(&answer(&report)));
    let row = |id: &str, path: &str| {
        let row = section(&page, id).descendants().find(|node| node.attribute("data-path") == Some(path));
        row.expect("a row").children().map(words).collect::<Vec<_>>()
    };
    let fast = ["fast path", "10.60", "11.60", "19.60", "30.60", "9.60", "110.60", "10.85", "2,000", "0"];
    assert_eq!(row("case-0", "fast path"), fast);
    assert_eq!(row("case-1", "plain bridge"), ["plain bridge", "400k/s", "5,000", "5,000", "0.00 %"]);
    let bars = words(section(&page, "case-0"));
    for figure in ["10.20 us", "13.00 us", "10.70 us", "overhead removed 0.82 (0.78 to 0.86)"] {
        assert!(bars.contains(figure), "{figure}: {bars}");
    }
    assert!(words(section(&page, "overhead")).contains("0.82 (0.78 to 0.86)"));
}

#[test]
fn xdp_is_a_path_like_the_others() {
    let report = samples::with_xdp();
    let page = html(&report, None).unwrap();
    let page = Document::parse(body(&page)).unwrap();
    let case = section(&page, "case-0");
    assert!(case.descendants().any(|node| node.attribute("data-path") == Some("XDP")));
    assert!(words(case).contains("overhead removed by XDP 0.14 (0.12 to 0.16)"), "{}", words(case));
    assert!(words(section(&page, "overhead")).contains("on one CPU, by XDP"));
    assert!(words(section(&page, "machine")).contains("XDP redirected the frames"));
    let without = samples::report();
    assert!(!html(&without, None).unwrap().contains("XDP"), "where nobody asked for it nobody hears of it");
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
    assert!(words(section(&page, "machine")).contains(hostile));
}

#[test]
fn a_comparison_has_a_section_of_its_own() {
    let report = samples::report();
    let page = html(&report, Some(&Comparison::of(&report, &report))).unwrap();
    let page = Document::parse(body(&page)).unwrap();
    assert!(words(section(&page, "compare")).contains("no change that could be told from noise"));
}

#[test]
fn a_page_of_nothing_is_a_page() {
    let report = Report { cases: Vec::new(), overhead_removed: None, udp_rr: None, ..samples::report() };
    let page = html(&report, None).unwrap();
    let page = Document::parse(body(&page)).unwrap();
    assert!(words(page.root()).contains("nothing was measured"));
}

/// The position of an interval's label in its chart of 1000 units, and on which side of that point it is.
fn words_of(interval: (f64, f64)) -> (f64, String) {
    let words = "0.80 (these)".to_owned();
    let row = Row { name: "a case".to_owned(), value: 0.8, interval, words, ink: Ink::Fast };
    let svg = forest(&[row], (0.0, 1.0), ("bridge", "cable")).unwrap();
    let svg = Document::parse(&svg).unwrap();
    let mut texts = svg.descendants().filter(|node| node.tag_name().name() == "text");
    let text = texts.find(|text| self::words(*text).trim() == "0.80 (these)").unwrap();
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
