//! The account of a lab as a table.

use std::io::{self, Write};

use vethpath_common::Reason;

use super::{
    format::{self, Column, GLUE, agent, grouped, one_line, percent, render, short},
    printable,
    round_trips::round_trips,
};
use crate::stats::{Count, Dropped, Flow, Flows, Growth, Pair, PairRates, Stats, Summary, Traffic, Trunk};

/// The number of slow path reasons that are listed. The others are summed up.
const REASONS: usize = 3;

/// What a table shows of an account.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// The account.
    pub stats: &'a Stats,
    /// The rates of its pairs, if they are known.
    pub growth: Option<&'a Growth>,
    /// The pairs that are listed, as indices.
    pub order: &'a [usize],
}

/// Prints a summary, the agent's status, a line for each listed pair and their total. With rates, these are printed next
/// to the totals.
///
/// # Errors
/// Those of `out`.
pub fn stats(table: Table<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Table { stats, growth, order } = table;
    let summary = super::summary(&Summary::of(stats, growth));
    writeln!(out, "lab {}: {}", stats.lab, printable(&summary))?;
    out.write_all(agent(&stats.agent).as_bytes())?;
    let pairs: Vec<&Pair> = order.iter().filter_map(|index| stats.pairs.get(*index)).collect();
    if stats.pairs.is_empty() && stats.former.is_none() {
        writeln!(out, "no interface of the lab is on a bridge")?;
    } else {
        out.write_all(rows(&pairs, growth).as_bytes())?;
        out.write_all(dropped(&pairs).as_bytes())?;
        out.write_all(mostly_slow(&pairs).as_bytes())?;
        out.write_all(former(stats.former.as_ref()).as_bytes())?;
        out.write_all(round_trips(&pairs).as_bytes())?;
    }
    if stats.trunks.is_empty() { Ok(()) } else { write!(out, "\n{}", trunks(&stats.trunks)) }
}

/// A line for each pair whose frames XDP dropped.
fn dropped(pairs: &[&Pair]) -> String {
    let line = |pair: &&Pair| {
        let Dropped { tx, rx } = pair.dropped.filter(|dropped| *dropped != Dropped::default())?;
        let (tx, rx) = (grouped(tx), grouped(rx));
        Some(format!("{}: XDP dropped {tx} frames that it sent, and {rx} on their way to it\n", pair.name))
    };
    pairs.iter().filter_map(line).collect()
}

/// A line for each armed pair whose packets are slow nevertheless.
fn mostly_slow(pairs: &[&Pair]) -> String {
    let line = |pair: &&Pair| {
        let reason = Reason::ALL.into_iter().find(|reason| Some(reason.name()) == pair.mostly_slow)?;
        let (slow, meaning) = (reason.name(), reason.meaning());
        let pair = with_port(pair);
        Some(format!("{pair}: armed, but nearly everything it sent was slow ({slow}): {meaning}\n"))
    };
    pairs.iter().filter_map(line).collect()
}

/// A line for the guest ports that have left.
fn former(traffic: Option<&Traffic>) -> String {
    let Some(traffic) = traffic.filter(|traffic| **traffic != Traffic::default()) else {
        return String::new();
    };
    let (sent, fast) = (grouped(traffic.tx.packets), percent(traffic.fast.tx.packets, traffic.tx.packets));
    let received = grouped(traffic.fast.rx.packets);
    format!(
        "guest ports that have left: sent {sent} packets ({fast} fast), and received {received} by the fast path\n"
    )
}

fn trunks(trunks: &[Trunk]) -> String {
    let columns = [
        Column::Text("TRUNK"),
        Column::Text("PORT"),
        Column::Text("FAR PORT"),
        Column::Number("TX"),
        Column::Number("RX"),
        Column::Number("FAST TX"),
        Column::Number("FAST RX"),
        Column::Wrapped("STATE", 12),
    ];
    let row = |trunk: &Trunk| {
        let Trunk { name, port, far_port, total, fast, state, .. } = trunk;
        vec![
            name.clone(),
            port.to_string(),
            far_port.to_string(),
            grouped(total.tx.packets),
            grouped(total.rx.packets),
            percent(fast.tx.packets, total.tx.packets),
            percent(fast.rx.packets, total.rx.packets),
            state.to_string(),
        ]
    };
    render(&columns, trunks.iter().map(row).collect())
}

/// Prints the traffic matrix of the fast path.
///
/// # Errors
/// Those of `out`.
pub fn matrix(flows: &Flows, out: &mut dyn Write) -> io::Result<()> {
    if flows.matrix.is_empty() {
        return writeln!(out, "lab {}: nothing has taken the fast path", flows.lab);
    }
    let columns =
        [Column::Text("FROM"), Column::Text("TO"), Column::Number("PACKETS"), Column::Number("BYTES")];
    let row = |flow: &Flow| {
        let Flow { from, from_behind, to, to_behind, count } = flow;
        let (from, to) = (format::pair(from, from_behind.as_deref()), format::pair(to, to_behind.as_deref()));
        vec![from, to, grouped(count.packets), grouped(count.bytes)]
    };
    out.write_all(render(&columns, flows.matrix.iter().map(row).collect()).as_bytes())?;
    match flows.left_out.packets {
        0 => Ok(()),
        packets => writeln!(out, "{} more packets, for which the matrix had no room", grouped(packets)),
    }
}

/// A line for each pair, and the total of several.
fn rows(pairs: &[&Pair], growth: Option<&Growth>) -> String {
    let columns = [
        Some(Column::Text("PAIR")),
        Some(Column::Number("TX")),
        Some(Column::Number("RX")),
        Some(Column::Number("TX B")),
        Some(Column::Number("RX B")),
        growth.map(|_| Column::Number("TX B/s")),
        growth.map(|_| Column::Number("RX B/s")),
        Some(Column::Number("FAST TX")),
        Some(Column::Wrapped("SLOW TX", 12)),
        Some(Column::Wrapped("STATE", 12)),
    ];
    let row = |name: String, traffic: &Traffic, rates: Option<&PairRates>, slow: String, state: String| {
        let rate = |of: fn(&PairRates) -> f64| {
            growth.map(|_| rates.map_or("-".to_owned(), |rates| short(of(rates))))
        };
        let cells = [
            Some(name),
            Some(grouped(traffic.tx.packets)),
            Some(grouped(traffic.rx.packets)),
            Some(bytes(traffic.tx)),
            Some(bytes(traffic.rx)),
            rate(|rates| rates.tx.bytes),
            rate(|rates| rates.rx.bytes),
            Some(percent(traffic.fast.tx.packets, traffic.tx.packets)),
            Some(slow),
            Some(state),
        ];
        cells.into_iter().flatten().collect::<Vec<_>>()
    };
    let rates = |pair: &Pair| growth.and_then(|growth| growth.get(&pair.name));
    let mut rows: Vec<_> = pairs
        .iter()
        .map(|pair| {
            row(with_port(pair), &pair.traffic, rates(pair), slow(&pair.traffic), pair.state.to_string())
        })
        .collect();
    if pairs.len() > 1 {
        let total = total(pairs);
        let known: Vec<_> = pairs.iter().filter_map(|pair| rates(pair)).collect();
        let rates = known.iter().fold(PairRates::default(), |sum, rates| PairRates {
            tx: sum.tx.plus(rates.tx),
            rx: sum.rx.plus(rates.rx),
            ..sum
        });
        let rates = (!known.is_empty()).then_some(&rates);
        rows.push(row("total".to_owned(), &total, rates, slow(&total), String::new()));
    }
    render(&columns.into_iter().flatten().collect::<Vec<_>>(), rows)
}

/// What several pairs sent and received together.
fn total(pairs: &[&Pair]) -> Traffic {
    let mut total = Traffic::default();
    for Pair { traffic, .. } in pairs {
        total.tx = total.tx.plus(traffic.tx);
        total.rx = total.rx.plus(traffic.rx);
        total.fast.tx = total.fast.tx.plus(traffic.fast.tx);
        for (reason, packets) in &traffic.slow {
            *total.slow.entry(reason).or_default() += packets;
        }
    }
    total
}

/// The bytes of a count to three digits: `1.23M`.
#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
fn bytes(count: Count) -> String {
    if count.bytes < 1000 { count.bytes.to_string() } else { short(count.bytes as f64) }
}

/// What a person calls a pair: its name, or what is behind a guest port.
#[must_use]
pub fn label(pair: &Pair) -> String {
    pair.behind.as_deref().map_or_else(|| pair.name.clone(), one_line)
}

/// The number of its characters.
#[must_use]
pub fn label_width(pair: &Pair) -> usize {
    pair.behind
        .as_deref()
        .map_or_else(|| pair.name.chars().count(), |behind| one_line(behind).chars().count())
}

/// The same, with the name of a guest port beside it.
fn with_port(pair: &Pair) -> String {
    format::pair(&pair.name, pair.behind.as_deref())
}

/// The reasons with the most packets, in descending order.
fn slow(traffic: &Traffic) -> String {
    let mut reasons: Vec<_> = traffic.slow.iter().map(|(reason, packets)| (*packets, *reason)).collect();
    // The sort is stable, so equal counts stay in the order of their names.
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
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        output::samples,
        stats::{Count, Directions, State, rates},
    };

    fn text(account: &Stats, growth: Option<&Growth>) -> String {
        let order: Vec<usize> = (0..account.pairs.len()).collect();
        let mut out = Vec::new();
        stats(Table { stats: account, growth, order: &order }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_of_totals() {
        let expected = "\
lab three-hosts: 99.9% of 1,235,567 packets fast; slow mostly by port (1,000, 98.2%); not armed: ns1:eth0 (a packet \
socket on the port)
agent alive (pid 4242), lease 3 s
PAIR             TX         RX  TX B   RX B  FAST TX  SLOW TX                 STATE
ns0:eth0  1,234,567  1,234,560  123M   123M    99.9%  group 9, nd 4, arp 2,   armed
                                                      others 3
ns1:eth0      1,000         12  100k  1.20k     0.0%  port 1,000              a packet socket on the
                                                                              port
ns2:eth0          0          0     0      0        -                          armed
total     1,235,567  1,234,572  124M   123M    99.9%  port 1,000, group 9,
                                                      nd 4, others 5
";
        assert_eq!(text(&samples::stats(), None), expected);
    }

    #[test]
    fn rates_stand_beside_totals() {
        let (before, mut after) = (samples::stats(), samples::stats());
        after.pairs[0].traffic.tx.packets += 24_690;
        after.pairs[0].traffic.tx.bytes += 2_469_000;
        let growth = rates(&before, &after, Duration::from_secs(2));
        let expected = "\
lab three-hosts: 0% of 12.3k packets/s fast; not armed: ns1:eth0 (a packet socket on the port)
agent alive (pid 4242), lease 3 s
PAIR             TX         RX  TX B   RX B  TX B/s  RX B/s  FAST TX  SLOW TX         STATE
ns0:eth0  1,259,257  1,234,560  126M   123M   1.23M       0    98.0%  group 9, nd 4,  armed
                                                                      arp 2,
                                                                      others 3
ns1:eth0      1,000         12  100k  1.20k       0       0     0.0%  port 1,000      a packet
                                                                                      socket on the
                                                                                      port
ns2:eth0          0          0     0      0       0       0        -                  armed
total     1,260,257  1,234,572  126M   123M   1.23M       0    97.9%  port 1,000,
                                                                      group 9, nd 4,
                                                                      others 5
";
        assert_eq!(text(&after, Some(&growth)), expected);
    }

    #[test]
    fn a_pair_that_is_new_has_no_rate_and_one_pair_no_total() {
        let order = [2];
        let mut out = Vec::new();
        let table = Table { stats: &samples::stats(), growth: Some(&Growth::new()), order: &order };
        stats(table, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let row = text.lines().last().unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["ns2:eth0", "0", "0", "0", "0", "-", "-", "-", "armed"]);
    }

    #[test]
    fn a_guest_port_is_shown_as_what_is_behind_it() {
        let mut stats = samples::stats();
        stats.pairs[2] = Pair {
            name: "docker0/veth1".to_owned(),
            port: "veth1".parse().unwrap(),
            guest: true,
            behind: Some("eth0 in pid 7 (a\u{1b}[31m\nb)".to_owned()),
            mostly_slow: Some("unknown-source"),
            ..stats.pairs[2].clone()
        };
        let shown = "eth0 in pid 7 (a\\u{1b}[31m\\nb)";
        let totals = text(&stats, None);
        assert!(totals.contains(&format!("\n{shown} (docker0/veth1)  ")), "{totals}");
        assert!(totals.contains(&format!("\n{shown} (docker0/veth1): armed, but")), "{totals}");
    }

    #[test]
    fn what_xdp_dropped_is_told() {
        let mut stats = samples::stats();
        stats.pairs[0].dropped = Some(Dropped { tx: 2, rx: 12_345 });
        stats.pairs[2].dropped = Some(Dropped::default());
        let last = "ns0:eth0: XDP dropped 2 frames that it sent, and 12,345 on their way to it\n";
        assert!(text(&stats, None).ends_with(last));
    }

    #[test]
    fn an_armed_pair_that_is_slow_is_told() {
        let traffic = |fast, slow| Traffic {
            fast: Directions { tx: Count { packets: fast, ..Count::default() }, rx: Count::default() },
            slow: BTreeMap::from(slow),
            ..Traffic::default()
        };
        let reason = |traffic: Traffic| traffic.mostly_slow().map(Reason::name);
        assert_eq!(reason(traffic(11, [("moved", 3), ("unknown-source", 97)])), Some("unknown-source"));
        assert_eq!(reason(traffic(12, [("moved", 3), ("unknown-source", 97)])), None);
        assert_eq!(reason(traffic(0, [("moved", 2), ("unknown-source", 97)])), None, "too few");
        assert_eq!(reason(traffic(0, [("arp", 500), ("group", 500)])), None, "never fast");
        let mut stats = samples::stats();
        stats.pairs[2].mostly_slow = Some("unknown-source");
        let last = "ns2:eth0: armed, but nearly everything it sent was slow (unknown-source): The source address is \
                    not a station on this port.\n";
        assert!(text(&stats, None).ends_with(last));
    }

    #[test]
    fn trunks_have_a_table_of_their_own() {
        let of = |packets| Count { frames: packets, packets, bytes: packets * 100 };
        let trunk = Trunk {
            name: "br0 - br1".to_owned(),
            port: "vp0000000003".parse().unwrap(),
            bridge: "br0".parse().unwrap(),
            far_port: "vp0000000004".parse().unwrap(),
            far_bridge: "br1".parse().unwrap(),
            total: Directions { tx: of(1000), rx: of(10) },
            fast: Directions { tx: of(990), rx: of(5) },
            state: State::Armed,
        };
        let expected = "
TRUNK      PORT          FAR PORT         TX  RX  FAST TX  FAST RX  STATE
br0 - br1  vp0000000003  vp0000000004  1,000  10    99.0%    50.0%  armed
";
        let text = text(&Stats { trunks: vec![trunk], ..samples::stats() }, None);
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn who_sent_how_much_to_whom() {
        let flow = |from: &str, to: &str, packets| Flow {
            from: from.to_owned(),
            from_behind: None,
            to: to.to_owned(),
            to_behind: None,
            count: Count { frames: packets, packets, bytes: packets * 1000 },
        };
        let mut flows = Flows { lab: "x".to_owned(), ..Flows::default() };
        let text = |flows: &Flows| {
            let mut out = Vec::new();
            matrix(flows, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&flows), "lab x: nothing has taken the fast path\n");
        flows.matrix = vec![flow("ns0:eth0", "ns1:eth0", 1234), flow("ns1:eth0", "ns0:eth0", 5)];
        let expected = "\
FROM      TO        PACKETS      BYTES
ns0:eth0  ns1:eth0    1,234  1,234,000
ns1:eth0  ns0:eth0        5      5,000
";
        assert_eq!(text(&flows), expected);
        flows.matrix[0].to_behind = Some("web:eth0".to_owned());
        assert!(text(&flows).contains("ns0:eth0  web:eth0 (ns1:eth0)    1,234"), "{}", text(&flows));
        flows.left_out = Count { frames: 7, packets: 7, bytes: 7 };
        assert!(text(&flows).ends_with("\n7 more packets, for which the matrix had no room\n"));
    }

    #[test]
    fn a_lab_without_bridges_says_so() {
        let cables = Stats { pairs: Vec::new(), ..samples::stats() };
        assert!(text(&cables, None).ends_with("no interface of the lab is on a bridge\n"));
    }
}
