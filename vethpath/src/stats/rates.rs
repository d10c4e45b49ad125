//! Rates between two accounts. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::Stats;

/// Packets and bytes per second of one pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Packets sent.
    pub tx_packets: f64,
    /// Bytes sent.
    pub tx_bytes: f64,
    /// Packets received.
    pub rx_packets: f64,
    /// Bytes received.
    pub rx_bytes: f64,
}

/// The rates of the pairs between two accounts that are `elapsed` apart, by the pair's name. A counter that
/// decreased, because its interface was created again, has the rate 0.
#[must_use]
pub fn rates(before: &Stats, after: &Stats, elapsed: Duration) -> BTreeMap<String, Rates> {
    let seconds = elapsed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate is read to three digits")]
    let rate = |then: u64, now: u64| {
        if seconds > 0.0 { now.saturating_sub(then) as f64 / seconds } else { 0.0 }
    };
    let mut rates = BTreeMap::new();
    for now in &after.pairs {
        let Some(then) = before.pairs.iter().find(|pair| pair.name == now.name) else { continue };
        let (then, traffic) = (&then.traffic, &now.traffic);
        let rates_of = Rates {
            tx_packets: rate(then.tx.packets, traffic.tx.packets),
            tx_bytes: rate(then.tx.bytes, traffic.tx.bytes),
            rx_packets: rate(then.rx.packets, traffic.rx.packets),
            rx_bytes: rate(then.rx.bytes, traffic.rx.bytes),
        };
        rates.insert(now.name.clone(), rates_of);
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::samples,
        stats::{Count, Traffic},
    };

    #[test]
    fn a_rate_is_growth_by_time() {
        let traffic = |packets| Traffic {
            tx: Count { frames: packets, packets, bytes: packets * 100 },
            ..Traffic::default()
        };
        let (mut before, mut after) = (samples::stats(), samples::stats());
        before.pairs[0].traffic = traffic(100);
        after.pairs[0].traffic = traffic(400);
        before.pairs[1].traffic = traffic(400);
        after.pairs[1].traffic = traffic(100);
        let rates = rates(&before, &after, Duration::from_secs(2));
        assert_eq!(
            rates["ns0:eth0"],
            Rates { tx_packets: 150.0, tx_bytes: 15_000.0, rx_packets: 0.0, rx_bytes: 0.0 }
        );
        assert_eq!(rates["ns1:eth0"], Rates::default(), "made anew");
        assert_eq!(
            super::rates(&before, &after, Duration::ZERO)["ns0:eth0"],
            Rates::default(),
            "no time, no rate"
        );
    }
}
