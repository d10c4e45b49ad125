//! The account of a lab as a table.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    agent::headline,
    number::{grouped, percent, short},
    table::{Column, GLUE, render},
};
use crate::stats::{Pair, Rates, Stats, Traffic, TrunkPort};

/// How many reasons of the slow path are named. The rest is summed up.
const REASONS: usize = 3;

/// How fast each pair's counters grow, by the pair's name.
pub type Growth = BTreeMap<String, Rates>;

/// Prints how the lab is, then a line for each pair. With `growth` the rates stand beside the
/// totals, and the ports, for want of room, do not.
///
/// # Errors
/// Those of `out`.
pub fn stats(stats: &Stats, growth: Option<&Growth>, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(headline(&stats.lab, &stats.agent).as_bytes())?;
    if stats.pairs.is_empty() {
        writeln!(out, "no interface of the lab is on a bridge")?;
    } else {
        let text = match growth {
            None => totals(&stats.pairs),
            Some(growth) => totals_and_rates(&stats.pairs, growth),
        };
        out.write_all(text.as_bytes())?;
    }
    for TrunkPort { port, bridge, to, state } in &stats.trunk_ports {
        writeln!(out, "{port} on {bridge}, trunk to {to}: {state}")?;
    }
    Ok(())
}

fn totals(pairs: &[Pair]) -> String {
    let columns = [
        Column::Text("PAIR"),
        Column::Text("PORT"),
        Column::Text("BRIDGE"),
        Column::Number("TX"),
        Column::Number("RX"),
        Column::Number("FAST TX"),
        Column::Wrapped("SLOW TX", 12),
        Column::Wrapped("STATE", 12),
    ];
    let row = |pair: &Pair| {
        let Pair { name, port, bridge, traffic, state } = pair;
        vec![
            name.clone(),
            port.to_string(),
            bridge.to_string(),
            grouped(traffic.tx.packets),
            grouped(traffic.rx.packets),
            percent(traffic.fast.tx.packets, traffic.tx.packets),
            slow(traffic),
            state.to_string(),
        ]
    };
    render(&columns, pairs.iter().map(row).collect())
}

fn totals_and_rates(pairs: &[Pair], growth: &Growth) -> String {
    let columns = [
        Column::Text("PAIR"),
        Column::Text("BRIDGE"),
        Column::Number("TX"),
        Column::Number("TX/s"),
        Column::Number("RX"),
        Column::Number("RX/s"),
        Column::Number("FAST TX"),
        Column::Wrapped("SLOW TX", 12),
        Column::Wrapped("STATE", 12),
    ];
    let row = |pair: &Pair| {
        let Pair { name, bridge, traffic, state, .. } = pair;
        let rate = |of: fn(&Rates) -> f64| growth.get(name).map_or("-".to_owned(), |rates| short(of(rates)));
        vec![
            name.clone(),
            bridge.to_string(),
            grouped(traffic.tx.packets),
            rate(|rates| rates.tx_packets),
            grouped(traffic.rx.packets),
            rate(|rates| rates.rx_packets),
            percent(traffic.fast.tx.packets, traffic.tx.packets),
            slow(traffic),
            state.to_string(),
        ]
    };
    render(&columns, pairs.iter().map(row).collect())
}

/// The reasons with most packets, most first.
fn slow(traffic: &Traffic) -> String {
    let mut reasons: Vec<_> = traffic.slow.iter().map(|(reason, packets)| (*packets, *reason)).collect();
    // Stable: equals stay in the order of their names.
    reasons.sort_by_key(|(packets, _)| std::cmp::Reverse(*packets));
    let rest: u64 = reasons.iter().skip(REASONS).map(|(packets, _)| packets).sum();
    let mut parts: Vec<_> = reasons
        .iter()
        .take(REASONS)
        .map(|(packets, reason)| format!("{reason}{GLUE}{}", grouped(*packets)))
        .collect();
    if rest > 0 {
        parts.push(format!("others{GLUE}{}", grouped(rest)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        output::samples,
        stats::{State, rates},
    };

    fn text(account: &Stats, growth: Option<&Growth>) -> String {
        let mut out = Vec::new();
        stats(account, growth, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_of_totals() {
        let expected = "\
lab three-hosts: agent alive (pid 4242), lease 3 s
PAIR      PORT          BRIDGE          TX         RX  FAST TX  SLOW TX            STATE
ns0:eth0  vp0000000000  docker0  1,234,567  1,234,560    99.9%  group 9, nd 4,     armed
                                                                arp 2, others 3
ns1:eth0  vp0000000001  docker0      1,000         12     0.0%  port 1,000         a packet socket
                                                                                   on the port
ns2:eth0  vp0000000002  docker0          0          0        -                     armed
";
        assert_eq!(text(&samples::stats(), None), expected);
    }

    #[test]
    fn rates_stand_beside_totals() {
        let (before, mut after) = (samples::stats(), samples::stats());
        after.pairs[0].traffic.tx.packets += 24_690;
        let growth = rates(&before, &after, Duration::from_secs(2));
        let expected = "\
lab three-hosts: agent alive (pid 4242), lease 3 s
PAIR      BRIDGE          TX   TX/s         RX  RX/s  FAST TX  SLOW TX             STATE
ns0:eth0  docker0  1,259,257  12.3k  1,234,560     0    98.0%  group 9, nd 4,      armed
                                                               arp 2, others 3
ns1:eth0  docker0      1,000      0         12     0     0.0%  port 1,000          a packet socket
                                                                                   on the port
ns2:eth0  docker0          0      0          0     0        -                      armed
";
        assert_eq!(text(&after, Some(&growth)), expected);
    }

    #[test]
    fn before_the_second_look_no_rate_is_known() {
        let text = text(&samples::stats(), Some(&Growth::new()));
        let row = text.lines().find(|line| line.starts_with("ns2")).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["ns2:eth0", "docker0", "0", "-", "0", "-", "-", "armed"]);
    }

    #[test]
    fn a_trunk_says_why_it_is_slow() {
        let [port, bridge, to] = ["vp0000000003", "br0", "br1"].map(|name| name.parse().unwrap());
        let trunk = TrunkPort { port, bridge, to, state: State::of_trunk() };
        let trunks = Stats { trunk_ports: vec![trunk], ..samples::stats() };
        let line = "vp0000000003 on br0, trunk to br1: what crosses a trunk is left to the bridges\n";
        assert!(text(&trunks, None).ends_with(line));
    }

    #[test]
    fn a_lab_without_bridges_says_so() {
        let cables = Stats { pairs: Vec::new(), ..samples::stats() };
        assert!(text(&cables, None).ends_with("no interface of the lab is on a bridge\n"));
    }
}
