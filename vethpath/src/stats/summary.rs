//! What a person wants to know first: how much is fast, why the rest is not, and which ports are not armed.

use std::collections::BTreeMap;

use super::{Growth, State, Stats};

/// Ports that are not armed for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotArmed {
    /// The reason.
    pub reason: String,
    /// The names of the pairs, in the account's order. At least one.
    pub pairs: Vec<String>,
}

/// The summary of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Whether the figures are packets per second; otherwise they are packets since the lab came up.
    pub is_rate: bool,
    /// All that the namespaces sent.
    pub sent: f64,
    /// The part that took the fast path.
    pub fast: f64,
    /// The most frequent reason for the rest, with its part.
    pub main_reason: Option<(&'static str, f64)>,
    /// The number of pairs.
    pub pairs: usize,
    /// Ports that are not armed, by reason, the most frequent first.
    pub not_armed: Vec<NotArmed>,
}

impl Summary {
    /// The summary of the present rates if there are any and something is sent, or else of the totals.
    #[must_use]
    pub fn of(stats: &Stats, growth: Option<&Growth>) -> Self {
        let rates = growth.map(|growth| {
            let pairs = || stats.pairs.iter().filter_map(|pair| growth.get(&pair.name));
            let slow = pairs().flat_map(|rates| rates.slow.iter().map(|(reason, rate)| (*reason, *rate)));
            let sum = pairs()
                .fold((0.0, 0.0), |(sent, fast), rates| (sent + rates.tx.packets, fast + rates.fast.packets));
            Self::with(stats, true, sum.0, sum.1, slow)
        });
        rates.filter(|summary| summary.sent > 0.0).unwrap_or_else(|| Self::of_totals(stats))
    }

    #[expect(clippy::cast_precision_loss, reason = "a summary is read to four digits")]
    fn of_totals(stats: &Stats) -> Self {
        let traffic = || stats.pairs.iter().map(|pair| &pair.traffic).chain(&stats.former);
        let slow = traffic()
            .flat_map(|traffic| traffic.slow.iter().map(|(reason, packets)| (*reason, *packets as f64)));
        let sent = traffic().map(|traffic| traffic.tx.packets).sum::<u64>() as f64;
        let fast = traffic().map(|traffic| traffic.fast.tx.packets).sum::<u64>() as f64;
        Self::with(stats, false, sent, fast, slow)
    }

    fn with(
        stats: &Stats,
        is_rate: bool,
        sent: f64,
        fast: f64,
        slow: impl Iterator<Item = (&'static str, f64)>,
    ) -> Self {
        let mut reasons: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (reason, packets) in slow {
            *reasons.entry(reason).or_default() += packets;
        }
        let main_reason = reasons.into_iter().max_by(|(_, one), (_, other)| one.total_cmp(other));
        let mut not_armed: Vec<NotArmed> = Vec::new();
        for pair in &stats.pairs {
            let State::NotArmed(reason) = &pair.state else { continue };
            match not_armed.iter_mut().find(|group| group.reason == *reason) {
                Some(group) => group.pairs.push(pair.name.clone()),
                None => {
                    not_armed.push(NotArmed { reason: reason.clone(), pairs: vec![pair.name.clone()] });
                }
            }
        }
        not_armed.sort_by_key(|group| std::cmp::Reverse(group.pairs.len()));
        let main_reason = main_reason.filter(|(_, packets)| *packets > 0.0);
        Self { is_rate, sent, fast, main_reason, pairs: stats.pairs.len(), not_armed }
    }
}
