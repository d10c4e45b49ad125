//! Which pairs a table shows, and in which order.

use std::cmp::Ordering;

use super::{Growth, Pair, PairRates};

/// The order of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SortKey {
    /// As in the file, and then guest ports.
    File,
    /// Most bytes per second in both directions first, then most bytes.
    Traffic,
    /// Most slow packets per second first, then most slow packets.
    Slow,
    /// By name.
    Name,
}

impl SortKey {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Traffic => "traffic",
            Self::Slow => "slow",
            Self::Name => "name",
        }
    }
}

/// Whether a pair's name, or that of its port or bridge, or what is behind it, or its state has this text in it, in
/// upper or lower case.
#[must_use]
pub fn matches(pair: &Pair, text: &str) -> bool {
    let text = text.to_lowercase();
    let has = |field: &str| field.to_lowercase().contains(&text);
    text.is_empty()
        || has(&pair.name)
        || has(pair.port.as_str())
        || has(pair.bridge.as_str())
        || pair.behind.as_deref().is_some_and(has)
        || has(&pair.state.to_string())
}

/// The indices of the pairs for which `is_wanted` holds, in this order. Pairs that are equal stay in the file's order.
#[must_use]
pub fn order(pairs: &[Pair], growth: &Growth, key: SortKey, is_wanted: impl Fn(&Pair) -> bool) -> Vec<usize> {
    let rates = |pair: &Pair| growth.get(&pair.name);
    let rate = |pair: &Pair| match key {
        SortKey::Traffic => rates(pair).map_or(0.0, |rates| rates.traffic().bytes),
        SortKey::Slow => rates(pair).map_or(0.0, PairRates::slow_packets),
        SortKey::File | SortKey::Name => 0.0,
    };
    let total = |pair: &Pair| match key {
        SortKey::Traffic => pair.traffic.tx.bytes.saturating_add(pair.traffic.rx.bytes),
        SortKey::Slow => pair.traffic.slow.values().sum(),
        SortKey::File | SortKey::Name => 0,
    };
    let mut found: Vec<(usize, f64, u64)> = pairs
        .iter()
        .enumerate()
        .filter(|(_, pair)| is_wanted(pair))
        .map(|(index, pair)| (index, rate(pair), total(pair)))
        .collect();
    found.sort_by(|(a, a_rate, a_total), (b, b_rate, b_total)| match key {
        SortKey::Name => natural(&pairs[*a].name, &pairs[*b].name),
        _ => b_rate.total_cmp(a_rate).then(b_total.cmp(a_total)),
    });
    found.into_iter().map(|(index, ..)| index).collect()
}

/// The order of names in which `h9` comes before `h10`.
fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match (digits(one), digits(other)) {
            (0, _) | (_, 0) => match (one.chars().next(), other.chars().next()) {
                (Some(a), Some(b)) if a == b => {
                    (one, other) = (&one[a.len_utf8()..], &other[b.len_utf8()..]);
                }
                (a, b) => return a.cmp(&b),
            },
            (a, b) => {
                let (left, right) = (one[..a].trim_start_matches('0'), other[..b].trim_start_matches('0'));
                let by_value = left.len().cmp(&right.len()).then(left.cmp(right));
                if by_value.is_ne() {
                    return by_value;
                }
                (one, other) = (&one[a..], &other[b..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{output::samples, stats::Rate};

    fn names(growth: &Growth, key: SortKey, text: &str) -> Vec<String> {
        let pairs = samples::stats().pairs;
        let order = order(&pairs, growth, key, |pair| matches(pair, text));
        order.into_iter().map(|index| pairs[index].name.clone()).collect()
    }

    #[test]
    fn rates_come_before_totals() {
        let none = Growth::new();
        assert_eq!(names(&none, SortKey::Traffic, ""), ["ns0:eth0", "ns1:eth0", "ns2:eth0"]);
        assert_eq!(names(&none, SortKey::Slow, ""), ["ns1:eth0", "ns0:eth0", "ns2:eth0"]);
        let rates = PairRates { rx: Rate { packets: 1.0, bytes: 60.0 }, ..PairRates::default() };
        let growth = Growth::from([("ns2:eth0".to_owned(), rates)]);
        assert_eq!(names(&growth, SortKey::Traffic, ""), ["ns2:eth0", "ns0:eth0", "ns1:eth0"]);
    }

    #[test]
    fn a_text_is_looked_for_in_names_and_states() {
        let none = Growth::new();
        assert_eq!(names(&none, SortKey::File, "NS1"), ["ns1:eth0"]);
        assert_eq!(names(&none, SortKey::File, "packet socket"), ["ns1:eth0"]);
        assert_eq!(names(&none, SortKey::File, "docker").len(), 3);
        assert!(names(&none, SortKey::File, "ns7").is_empty());
    }

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = ["h10:eth0", "h9:eth0", "h09:eth1", "a", "h", "h9"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "h", "h9", "h9:eth0", "h09:eth1", "h10:eth0"]);
    }
}
