//! One case on the page: bars, distributions, rounds, and a table of the figures.

use maud::{Markup, html};

use super::{
    super::text::{comparison, figure as say},
    charts::{Band, Bar, Error, Series, bars, cumulative, density, rounds},
    figure, ink,
};
use crate::{
    bench::{Case, Distribution, Mode, PerMode, Rate, Results, Unit},
    output::number::grouped,
};

/// The section of a case.
pub(super) fn case(number: usize, case: &Case) -> Result<Markup, Error> {
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
            (figure(&format!("{name}: each path"), &paths(case)?))
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
        interval: case.interval(mode).map(|interval| (interval.low, interval.high)),
        dots: by_round.get(mode).map(|rounds| rounds.to_vec()).unwrap_or_default(),
        words: exact(case.unit, value),
    };
    let figures = case.figures();
    let all: Vec<_> = figures.iter().map(bar).collect();
    let (unit, short): (_, fn(f64) -> String) = match case.unit {
        Unit::Microseconds => ("microseconds", |value| format!("{value}")),
        Unit::PerSecond => ("a second", |value| say(Unit::PerSecond, value).replace("/s", "")),
        Unit::BitsPerSecond => {
            ("bits a second", |value| say(Unit::BitsPerSecond, value).replace("bit/s", ""))
        }
    };
    bars(&all, unit, short)
}

/// A figure with as many digits as in the table.
fn exact(unit: Unit, value: f64) -> String {
    if unit == Unit::Microseconds { format!("{value:.2} us") } else { say(unit, value) }
}

fn distributions(name: &str, latency: &PerMode<Distribution>) -> Result<Markup, Error> {
    let series = latency.iter().filter(|(_, d)| !d.histogram.is_empty());
    let series =
        series.map(|(mode, d)| Series { name: mode.name(), ink: ink(mode), histogram: &d.histogram });
    let series: Vec<_> = series.collect();
    if series.is_empty() {
        return Ok(html! {});
    }
    let (cdf, histogram) = (cumulative(&series, "microseconds")?, density(&series, "microseconds")?);
    Ok(html! {
        h3 { "What part of the round trips took no longer than a time" }
        (figure(&format!("{name}: cumulative distribution"), &cdf))
        h3 { "How many took how long" }
        (figure(&format!("{name}: histogram"), &histogram))
        p.faint { "Both over a logarithmic axis up to the slowest path's p99; the table has the rest." }
    })
}

fn ratios(name: &str, case: &Case) -> Result<Markup, Error> {
    let ratios = case.ratios();
    if ratios.is_empty() {
        return Ok(html! {});
    }
    let band = case.fast_to_bridge.map(|i| Band { value: i.value, interval: (i.low, i.high) });
    let svg = rounds(&ratios, band, 1.0)?;
    Ok(html! {
        h3 { "Fast path as a part of the plain bridge, in each round" }
        (figure(&format!("{name}: fast path to plain bridge by round"), &svg))
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
            td { (say(unit, rate.median)) } td { (grouped(rate.sent)) } td { (grouped(rate.received)) }
            td { (format!("{:.2} %", 100.0 * rate.loss)) }
        } } }
    } }
}
