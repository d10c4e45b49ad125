//! Charts as SVG files.

use vethpath_figures::charts::{
    self, Bar, Ink, Row, Series, bars, cumulative, dark_mode, density, forest, rounds,
};

use super::{
    results::{PATHS, Raw, first},
    tables::LABS,
};
use crate::error::Error;

const INKS: [Ink; 3] = [Ink::Cable, Ink::Bridge, Ink::Fast];

/// Median round trips through one bridge and through eight.
pub(super) fn paths(raw: &Raw) -> Result<String, Error> {
    let (one, eight) = (first(raw, "one-bridge")?, first(raw, "eight-bridges")?);
    let bar = |name: &str, ink, value: Option<f64>| {
        let value = value.ok_or_else(|| Error::Figures(format!("{name} was not measured")))?;
        let words = format!("{value:.2} us");
        Ok::<_, Error>(Bar { name: name.to_owned(), ink, value, interval: None, dots: Vec::new(), words })
    };
    let all = [
        bar("cable", Ink::Cable, one.figure("cable"))?,
        bar("1 bridge", Ink::Bridge, one.figure("bridge"))?,
        bar("fast path", Ink::Fast, one.figure("fast"))?,
        bar("8 bridges", Ink::Bridge, eight.figure("bridge"))?,
        bar("fast path", Ink::Fast, eight.figure("fast"))?,
    ];
    alone(bars(&all, "microseconds", |us| format!("{us}")), "Median UDP round trips")
}

/// The part of the bridges' overhead that is removed.
pub(super) fn overhead(raw: &Raw) -> Result<String, Error> {
    let mut rows = Vec::new();
    for (source, bridges, netfilter) in LABS {
        let Some(removed) = first(raw, source)?.overhead_removed else { continue };
        let netfilter = if netfilter.starts_with('1') { ", netfilter called" } else { "" };
        let plural = if bridges == "1" { "" } else { "s" };
        let name = format!("{bridges} bridge{plural}{netfilter}");
        rows.push(Row { name, figure: removed, ink: Ink::Fast });
    }
    alone(forest(&rows), "Overhead removed, with 95 % intervals")
}

/// The cumulative distribution of round trips through one bridge.
pub(super) fn cdf(raw: &Raw) -> Result<String, Error> {
    alone(spread(raw, cumulative)?, "UDP round trips through one bridge that took no longer")
}

/// The same as a histogram.
pub(super) fn histogram(raw: &Raw) -> Result<String, Error> {
    alone(spread(raw, density)?, "UDP round trips through one bridge that took so long")
}

/// The ratio of the fast path to the bridge, by round.
pub(super) fn ratios(raw: &Raw) -> Result<String, Error> {
    let case = first(raw, "one-bridge")?;
    let (fast, bridge) = (case.by_round("fast"), case.by_round("bridge"));
    let ratios: Vec<_> = fast.iter().zip(&bridge).map(|(fast, bridge)| fast / bridge).collect();
    alone(rounds(&ratios, case.fast_to_bridge), "Fast path as a part of the plain bridge, in each round")
}

/// A chart, or the error.
type Drawn = Result<String, charts::Error>;

fn spread(raw: &Raw, draw: fn(&[Series<'_>]) -> Drawn) -> Result<Drawn, Error> {
    let case = first(raw, "one-bridge")?;
    let histograms = PATHS.map(|(path, _)| case.histogram(path));
    let series = PATHS.iter().zip(INKS).zip(&histograms);
    let series = series.map(|(((_, name), ink), histogram)| Series { name, ink, histogram });
    Ok(draw(&series.collect::<Vec<_>>()))
}

/// A standalone SVG: with a title, and colours for dark mode.
fn alone(svg: Drawn, title: &str) -> Result<String, Error> {
    let svg = svg.map_err(|error: charts::Error| Error::Figures(error.to_string()))?;
    let (tag, rest) = svg.split_once('>').unwrap_or((&svg, ""));
    let style = format!("svg{{font-family:system-ui,sans-serif}}{}", dark_mode());
    Ok(format!("{tag}><title>{title}</title><style>{style}</style>{rest}"))
}
