//! Rates between two accounts of a lab.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{Count, Pair, Stats};

/// Packets and bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Packets per second.
    pub packets: f64,
    /// Bytes per second.
    pub bytes: f64,
}

impl Rate {
    /// The growth from one count to another, which are `seconds` apart. A counter that decreased, because its interface
    /// was created again, has the rate 0.
    #[must_use]
    pub fn between(then: Count, now: Count, seconds: f64) -> Self {
        Self {
            packets: per_second(then.packets, now.packets, seconds),
            bytes: per_second(then.bytes, now.bytes, seconds),
        }
    }

    /// The sum of two rates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

/// The rates of one pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairRates {
    /// Sent by the namespace.
    pub tx: Rate,
    /// Received by the namespace.
    pub rx: Rate,
    /// Sent by the fast path.
    pub fast: Rate,
    /// Packets per second that were sent by the bridge, by reason. Reasons without growth are left out.
    pub slow: BTreeMap<&'static str, f64>,
}

impl PairRates {
    /// Packets per second that were sent by the bridge.
    #[must_use]
    pub fn slow_packets(&self) -> f64 {
        // The sum of no floating-point numbers is -0.
        self.slow.values().fold(0.0, |sum, rate| sum + rate)
    }

    /// The sum of both directions.
    #[must_use]
    pub fn traffic(&self) -> Rate {
        self.tx.plus(self.rx)
    }

    fn between(then: &Pair, now: &Pair, seconds: f64) -> Self {
        let (then, now) = (&then.traffic, &now.traffic);
        let slow = now.slow.iter().filter_map(|(reason, packets)| {
            let before = then.slow.get(reason).copied().unwrap_or_default();
            let rate = per_second(before, *packets, seconds);
            (rate > 0.0).then_some((*reason, rate))
        });
        Self {
            tx: Rate::between(then.tx, now.tx, seconds),
            rx: Rate::between(then.rx, now.rx, seconds),
            fast: Rate::between(then.fast.tx, now.fast.tx, seconds),
            slow: slow.collect(),
        }
    }
}

/// The rates of the pairs, by name.
pub type Growth = HashMap<String, PairRates>;

/// The rates of the pairs between two accounts that are `elapsed` apart. A pair that the first account lacks has none.
#[must_use]
pub fn rates(before: &Stats, after: &Stats, elapsed: Duration) -> Growth {
    let seconds = elapsed.as_secs_f64();
    let then: HashMap<&str, &Pair> = before.pairs.iter().map(|pair| (pair.name.as_str(), pair)).collect();
    let rates = |now: &Pair| {
        let then = then.get(now.name.as_str())?;
        Some((now.name.clone(), PairRates::between(then, now, seconds)))
    };
    after.pairs.iter().filter_map(rates).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a rate is read to three digits")]
fn per_second(then: u64, now: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { now.saturating_sub(then) as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{output::samples, stats::Traffic};

    #[test]
    fn a_rate_is_growth_by_time() {
        let traffic = |packets| Traffic {
            tx: Count { frames: packets, packets, bytes: packets * 100 },
            slow: [("arp", 6), ("port", packets)].into(),
            ..Traffic::default()
        };
        let (mut before, mut after) = (samples::stats(), samples::stats());
        before.pairs[0].traffic = traffic(100);
        after.pairs[0].traffic = traffic(400);
        before.pairs[1].traffic = traffic(400);
        after.pairs[1].traffic = traffic(100);
        let growth = rates(&before, &after, Duration::from_secs(2));
        let expected = PairRates {
            tx: Rate { packets: 150.0, bytes: 15_000.0 },
            slow: [("port", 150.0)].into(),
            ..PairRates::default()
        };
        assert_eq!(growth["ns0:eth0"], expected);
        assert_eq!(growth["ns0:eth0"].slow_packets(), 150.0);
        assert_eq!(growth["ns1:eth0"], PairRates::default(), "its interface was created again");
        let none = rates(&before, &after, Duration::ZERO);
        assert_eq!(none["ns0:eth0"], PairRates::default(), "no time, no rate");
    }
}
