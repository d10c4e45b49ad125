//! Round-trip times of TCP connections, as a table below the account.

use super::format::{Column, grouped, render};
use crate::stats::{Pair, RoundTrips};

/// A line for each pair and each host that it has connections to. Empty if the times were not read.
pub fn round_trips(pairs: &[&Pair]) -> String {
    let Some(times) = pairs.iter().map(|pair| pair.rtt.as_ref()).collect::<Option<Vec<_>>>() else {
        return String::new();
    };
    let columns = [
        Column::Text("PAIR"),
        Column::Text("PEER"),
        Column::Number("TCP"),
        Column::Number("RTT"),
        Column::Number("VAR"),
        Column::Number("WORST"),
        Column::Number("MIN"),
    ];
    let row = |(pair, one): (&&Pair, &RoundTrips)| {
        vec![
            pair.name.clone(),
            one.peer.clone(),
            grouped(u64::try_from(one.connections).unwrap_or(u64::MAX)),
            with_unit(one.srtt_us),
            with_unit(one.var_us),
            with_unit(one.worst_us),
            one.min_us.map_or_else(|| "-".to_owned(), with_unit),
        ]
    };
    let of_pairs = pairs.iter().zip(times);
    let rows: Vec<_> = of_pairs.flat_map(|(pair, of)| of.iter().map(move |one| row((pair, one)))).collect();
    if rows.is_empty() {
        return "\nno TCP connection between hosts of the lab\n".to_owned();
    }
    format!("\n{}", render(&columns, rows))
}

fn with_unit(microseconds: u32) -> String {
    format!("{} ms", milliseconds(microseconds))
}

/// Microseconds as milliseconds, to the microsecond: `0.062`, `1,204.000`.
#[must_use]
pub fn milliseconds(microseconds: u32) -> String {
    format!("{}.{:03}", grouped(u64::from(microseconds / 1000)), microseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn each_pair_and_peer_has_a_line() {
        let round_trips = |pairs: &[Pair]| round_trips(&pairs.iter().collect::<Vec<_>>());
        let mut pairs = samples::stats().pairs;
        assert_eq!(round_trips(&pairs), "", "not read");
        pairs.iter_mut().for_each(|pair| pair.rtt = Some(Vec::new()));
        assert_eq!(round_trips(&pairs), "\nno TCP connection between hosts of the lab\n");
        let of = |peer: &str, srtt_us, min_us| RoundTrips {
            peer: peer.to_owned(),
            connections: 2,
            srtt_us,
            var_us: 12,
            worst_us: 1_204_000,
            min_us,
        };
        pairs[0].rtt = Some(vec![of("ns1", 62, Some(8)), of("ns2", 1_062, None)]);
        let expected = "
PAIR      PEER  TCP       RTT       VAR         WORST       MIN
ns0:eth0  ns1     2  0.062 ms  0.012 ms  1,204.000 ms  0.008 ms
ns0:eth0  ns2     2  1.062 ms  0.012 ms  1,204.000 ms         -
";
        assert_eq!(round_trips(&pairs), expected);
    }
}
