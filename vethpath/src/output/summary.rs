//! The line above a table: how much is fast, why the rest is not, and which ports are not armed.

use super::format::{count, grouped, short};
use crate::stats::{NotArmed, Summary};

/// The number of reasons that are listed, and of pairs for each. The others are counted.
const LISTED: usize = 3;

/// A summary in one line without the lab's name: `99.9% of 1,235,567 packets fast; ...`.
#[must_use]
pub fn summary(summary: &Summary) -> String {
    [Some(fast(summary)), main_reason(summary), armed(summary)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

/// A part in percent, rounded towards the middle, so that 100% means all and 0% means none.
#[must_use]
pub fn share(part: f64, total: f64) -> String {
    if total <= 0.0 {
        return "-".to_owned();
    }
    let percent = part / total * 100.0;
    match percent {
        p if p <= 0.0 => "0%".to_owned(),
        p if p >= 100.0 => "100%".to_owned(),
        p => format!("{:.1}%", p.clamp(0.1, 99.9)),
    }
}

fn fast(summary: &Summary) -> String {
    let Summary { is_rate, sent, fast, .. } = summary;
    if *sent <= 0.0 {
        return "nothing was sent".to_owned();
    }
    format!("{} of {} fast", share(*fast, *sent), packets(*sent, *is_rate))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was a whole number of packets"
)]
fn packets(number: f64, is_rate: bool) -> String {
    if is_rate {
        format!("{} packets/s", short(number))
    } else {
        format!("{} packets", grouped(number as u64))
    }
}

fn main_reason(summary: &Summary) -> Option<String> {
    let (reason, slow) = summary.main_reason?;
    let number = if summary.is_rate { format!("{}/s", short(slow)) } else { packets(slow, false) };
    let number = number.trim_end_matches(" packets");
    // As many as the reasons add up to, which frames in flight may make more than what is not fast.
    let rest = (summary.sent - summary.fast).max(slow);
    Some(format!("slow mostly by {reason} ({number}, {})", share(slow, rest)))
}

fn armed(summary: &Summary) -> Option<String> {
    let Summary { pairs, not_armed, .. } = summary;
    match not_armed.as_slice() {
        _ if *pairs == 0 => None,
        [] => Some(format!("all {} armed", count(*pairs, "port"))),
        [NotArmed { reason, pairs: these }] if these.len() == *pairs => {
            Some(format!("not armed: all {} ({reason})", count(*pairs, "port")))
        }
        groups => {
            let listed = groups.iter().take(LISTED).map(|NotArmed { reason, pairs }| {
                let more = pairs.len().saturating_sub(LISTED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let names: Vec<&str> = pairs.iter().take(LISTED).map(String::as_str).collect();
                format!("{}{more} ({reason})", names.join(", "))
            });
            let rest: usize = groups.iter().skip(LISTED).map(|group| group.pairs.len()).sum();
            let rest = (rest > 0).then(|| format!("{rest} more"));
            Some(format!("not armed: {}", listed.chain(rest).collect::<Vec<_>>().join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        output::samples,
        stats::{State, Stats, Traffic, rates},
    };

    fn text(stats: &Stats) -> String {
        summary(&Summary::of(stats, None))
    }

    #[test]
    fn totals_are_packets_and_growth_is_a_rate() {
        let before = samples::stats();
        assert_eq!(
            text(&before),
            "99.9% of 1,235,567 packets fast; slow mostly by port (1,000, 98.2%); \
             not armed: ns1:eth0 (a packet socket on the port)"
        );
        let mut after = before.clone();
        after.pairs[0].traffic.tx.packets += 2_000;
        after.pairs[0].traffic.fast.tx.packets += 1_900;
        after.pairs[0].traffic.slow.insert("arp", 102);
        let growth = rates(&before, &after, Duration::from_secs(2));
        let rate = summary(&Summary::of(&after, Some(&growth)));
        assert!(
            rate.starts_with("95.0% of 1.00k packets/s fast; slow mostly by arp (50.0/s, 100%); "),
            "{rate}"
        );
        let idle = rates(&after, &after, Duration::from_secs(2));
        assert_eq!(summary(&Summary::of(&after, Some(&idle))), text(&after), "nothing is sent: totals");
    }

    #[test]
    fn ports_are_grouped_by_what_keeps_them() {
        let mut stats = samples::stats();
        for pair in &mut stats.pairs {
            (pair.traffic, pair.state) = (Traffic::default(), State::Armed);
        }
        assert_eq!(text(&stats), "nothing was sent; all 3 ports armed");
        for pair in &mut stats.pairs {
            pair.state = State::NotArmed("no agent".to_owned());
        }
        assert_eq!(text(&stats), "nothing was sent; not armed: all 3 ports (no agent)");
        for number in 0..9 {
            let reason = if number < 5 { "qdisc".to_owned() } else { format!("reason {number}") };
            let pair = &stats.pairs[0];
            let pair = crate::stats::Pair {
                name: format!("h{number}"),
                state: State::NotArmed(reason),
                ..pair.clone()
            };
            stats.pairs.push(pair);
        }
        let end = "not armed: h0, h1, h2 and 2 more (qdisc), ns0:eth0, ns1:eth0, ns2:eth0 (no agent), h5 (reason 5), 3 more";
        assert_eq!(text(&stats), format!("nothing was sent; {end}"));
        stats.pairs.clear();
        assert_eq!(text(&stats), "nothing was sent");
    }

    #[test]
    fn a_part_is_never_rounded_to_all_or_none() {
        let of = |part| share(part, 1e6);
        assert_eq!([0.0, 1.0, 5e5, 999_999.0, 1e6].map(of), ["0%", "0.1%", "50.0%", "99.9%", "100%"]);
        assert_eq!(share(0.0, 0.0), "-");
    }
}
