//! Rounds, and the table of their figures. A round measures every lab once. If too few frames arrive in one lab, the
//! whole round is discarded: a ratio needs figures that were measured in sequence.

use std::process::ExitCode;

use crate::machine::{self, DATAPATHS, Lab};

/// Valid rounds per figure.
const ROUNDS: usize = 11;
/// Attempts at most.
const TRIES: usize = 2 * ROUNDS;
/// With fewer valid rounds there is no figure.
const ENOUGH: usize = ROUNDS / 2 + 1;

/// Too few frames arrived: where, and how many.
pub(crate) struct Short(pub(crate) String);

/// The table, printed row by row.
pub(crate) struct Table {
    /// Figures without enough rounds.
    missing: Vec<String>,
}

/// Rounds of one figure.
struct Rounds {
    /// The valid ones, with a figure of each lab.
    good: Vec<[f64; DATAPATHS.len()]>,
    /// How many were discarded.
    aside: usize,
}

impl Table {
    pub(crate) fn start() -> Self {
        println!(
            "| bridges | bridge-nf-call-iptables | what | datapath | median | lower quartile | upper quartile \
             | times the bridge | least times | rounds | put aside |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|");
        Self { missing: Vec::new() }
    }

    /// Measures and prints one figure of each lab.
    pub(crate) fn rows(
        &mut self,
        bridges: usize,
        netfilter: bool,
        what: &str,
        labs: &[Lab; DATAPATHS.len()],
        measure: impl Fn(&Lab) -> Result<f64, Short>,
    ) {
        let netfilter = u8::from(netfilter);
        let name = format!("{what}, bridges: {bridges}, bridge-nf-call-iptables: {netfilter}");
        let Rounds { good, aside } = Rounds::take(&name, labs, measure);
        if good.len() < ENOUGH {
            self.missing.push(format!("{name}: {} good rounds of {}", good.len(), good.len() + aside));
            return;
        }
        let plain = quartile(good.iter().map(|round| round[0]), 2);
        for (which, datapath) in DATAPATHS.iter().enumerate() {
            let [low, median, high] =
                [1, 2, 3].map(|part| quartile(good.iter().map(|round| round[which]), part));
            let least = quartile(good.iter().map(|round| round[which] / round[0]), 0);
            println!(
                "| {bridges} | {netfilter} | {what} | {datapath} | {median:.3} | {low:.3} | {high:.3} \
                 | {:.3} | {least:.3} | {} | {aside} |",
                median / plain,
                good.len(),
            );
        }
    }

    /// Reports missing figures.
    pub(crate) fn end(self) -> ExitCode {
        for figure in &self.missing {
            eprintln!("too few rounds in which enough arrived: {figure}");
        }
        if self.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Rounds {
    fn take(name: &str, labs: &[Lab; DATAPATHS.len()], measure: impl Fn(&Lab) -> Result<f64, Short>) -> Self {
        let mut rounds = Self { good: Vec::new(), aside: 0 };
        while rounds.good.len() < ROUNDS && rounds.good.len() + rounds.aside < TRIES {
            match round(rounds.good.len(), labs, &measure) {
                Ok(figures) => rounds.good.push(figures),
                Err(Short(why)) => {
                    rounds.aside += 1;
                    eprintln!("put aside: a round of {name}: {why}");
                    machine::settle(labs);
                }
            }
        }
        rounds
    }
}

/// Measures every lab once. The first lab rotates from round to round.
fn round(
    number: usize,
    labs: &[Lab; DATAPATHS.len()],
    measure: impl Fn(&Lab) -> Result<f64, Short>,
) -> Result<[f64; DATAPATHS.len()], Short> {
    let mut figures = [0.0; DATAPATHS.len()];
    for turn in 0..labs.len() {
        let which = (number + turn) % labs.len();
        figures[which] = measure(&labs[which])?;
    }
    Ok(figures)
}

fn quartile(figures: impl Iterator<Item = f64>, part: usize) -> f64 {
    let mut sorted: Vec<_> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * part / 4]
}
