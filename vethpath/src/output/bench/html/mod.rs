//! `bench --html`: one page with all results, which needs no network.

mod case;
mod facts;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use vethpath_figures::charts::{self, Error, Ink, Row, dark_mode, forest};

use self::{case::case, facts::facts};
use super::{
    super::count,
    compare::{CAUTION, rows},
    text::answer,
};
use crate::bench::{Comparison, Interval, Mode, Report};

const STYLE: &str = include_str!("style.css");

/// Renders the page.
///
/// # Errors
/// A chart cannot be drawn. This is not expected.
pub fn html(report: &Report, comparison: Option<&Comparison>) -> Result<String, Error> {
    let Report { lab, from, to, bridges, warnings, .. } = report;
    let cases = report.cases.iter().enumerate().map(|(number, one)| case(number, one));
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
                    h1 { (answer(report)) }
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
    let row = |name: String, removed: Interval, mode: Mode| {
        let words = format!("{:.2} ({:.2} to {:.2})", removed.value, removed.low, removed.high);
        Row { name, value: removed.value, interval: (removed.low, removed.high), words, ink: ink(mode) }
    };
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
    let svg = forest(&rows, (0.0, 1.0), ("0: as the plain bridge", "1: as a cable"))?;
    Ok(html! {
        section #overhead {
            h2 { "Overhead removed" }
            p { "The part of the plain bridge's overhead over a cable that the fast path removes: "
                code { "(bridge - fast) / (bridge - cable)" } ", from the medians of each round, with 95 % intervals." }
            (figure("overhead removed, each case with its interval", &svg))
        }
    })
}

/// A chart with an alternative text.
fn figure(about: &str, svg: &str) -> Markup {
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

#[cfg(test)]
mod tests;
