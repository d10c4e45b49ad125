//! What each part of the port program adds to a round trip by UDP, by UDP with netfilter called, and by TCP. The input
//! is the output of the benchmark `limit`.

use std::fmt::Write as _;

use super::results::{Interval, Raw, printed};
use crate::error::Error;

/// The runs.
const SOURCES: [&str; 3] = ["limit", "limit-netfilter", "limit-tcp"];

const UDP: &str = SOURCES[0];
const CABLE: &str = "cable";
const BRIDGE: &str = "plain bridge, no program attached";

/// Each part includes the work of the previous one.
const PARTS: [&str; 7] = [
    CABLE,
    "redirect to a constant",
    "the same, after lease and header",
    "and the sender's entry",
    "and the receiver's entry",
    "and all that is decided",
    "fast path: that and counting, to where the entry says",
];

/// The ratios in the table.
const RATIOS: [&str; 7] = [
    "fast over constant",
    "fast over cable",
    "a program that only passes over plain bridge",
    "slow path with programs over plain bridge",
    "slow path of unknown senders over plain bridge",
    "overhead removed, fast path",
    "overhead removed, constant",
];

/// The table of all parts and ratios.
pub(super) fn table(raw: &Raw) -> Result<String, Error> {
    let mut text =
        "| way | UDP | adds | UDP, netfilter called | adds | TCP | adds |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    let mut before = [None; SOURCES.len()];
    for part in PARTS {
        let _ = write!(text, "| {part} |");
        for (source, before) in SOURCES.iter().zip(&mut before) {
            let time = time(raw, source, part)?;
            let adds =
                before.replace(time).map_or_else(String::new, |before| format!("{:.3} ", time - before));
            let _ = write!(text, " {time:.3} | {adds}|");
        }
        text.push('\n');
    }
    for ratio in RATIOS {
        let _ = write!(text, "| {ratio} |");
        for source in SOURCES {
            let _ = write!(text, " {} | |", text_before(raw, source, ratio)?);
        }
        text.push('\n');
    }
    Ok(text)
}

/// The hook's share of a redirect, and the cost of the netfilter checks. Computed from ratios of rounds, which a
/// slowdown of a whole round does not change.
pub(super) fn summary(raw: &Raw) -> Result<String, Error> {
    let more = |ratio, than| Ok::<_, Error>((interval(raw, UDP, ratio)?.value - 1.0) * time(raw, UDP, than)?);
    let redirect = more("constant over cable", CABLE)?;
    let hook = more("a program that only passes over plain bridge", BRIDGE)?;
    let checks = text_before(raw, SOURCES[1], "fast over fast without netfilter's checks")?;
    Ok(format!(
        "By UDP a redirect to a constant adds {redirect:.3} us to a cable. A program that only passes adds {hook:.3} \
         us to a plain bridge: so much is the hook, and the rest, {:.3} us, what `bpf_redirect_peer` costs more than a \
         cable's own way. Where netfilter is called, the fast path takes {checks} times what it takes without the \
         checks of each packet.",
        redirect - hook,
    ))
}

/// A figure with its interval.
pub(super) fn interval(raw: &Raw, source: &str, name: &str) -> Result<Interval, Error> {
    let text = text_before(raw, source, name)?;
    let numbers = text.split([' ', '(', ')']).filter_map(|word| word.parse().ok()).collect::<Vec<f64>>();
    let &[value, low, high] = &numbers[..] else {
        return Err(Error::Figures(format!("{source}: no interval of {name}: {text}")));
    };
    Ok(Interval { value, low, high })
}

fn time(raw: &Raw, source: &str, part: &str) -> Result<f64, Error> {
    let time = text_before(raw, source, part)?.parse();
    time.map_err(|_| Error::Figures(format!("{source}: no number for {part}")))
}

/// The text printed before a name.
fn text_before<'r>(raw: &'r Raw, source: &str, name: &str) -> Result<&'r str, Error> {
    let mut lines = printed(raw, source)?.lines().filter_map(|line| line.trim().split_once("  "));
    let text = lines.find(|(_, what)| *what == name).map(|(text, _)| text);
    text.ok_or_else(|| Error::Figures(format!("{source}: nothing of {name}")))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn run(first: f64) -> Value {
        let mut text = "Udp, 66 rounds\n".to_owned();
        for (number, part) in PARTS.iter().chain([&BRIDGE]).enumerate() {
            let _ = writeln!(text, "   {:.3}  {part}", first + number as f64 / 100.0);
        }
        let others = ["constant over cable", "fast over fast without netfilter's checks"];
        for ratio in RATIOS.iter().chain(&others) {
            let _ = writeln!(text, "1.024 (1.022 to 1.026)  {ratio}");
        }
        text.into()
    }

    fn raw(tcp: Value) -> Raw {
        let runs = [("limit", run(5.0)), ("limit-netfilter", run(5.5)), ("limit-tcp", tcp)];
        runs.map(|(name, run)| (name.to_owned(), run)).into()
    }

    #[test]
    fn each_part_has_what_it_adds() {
        let table = table(&raw(run(6.0))).expect("a table");
        assert!(table.contains("| cable | 5.000 | | 5.500 | | 6.000 | |\n"), "{table}");
        let row = "| and the sender's entry | 5.030 | 0.010 | 5.530 | 0.010 | 6.030 | 0.010 |\n";
        assert!(table.contains(row), "{table}");
        let interval = "1.024 (1.022 to 1.026) | |";
        let row = format!("| fast over cable | {interval} {interval} {interval}\n");
        assert!(table.contains(&row), "{table}");
    }

    #[test]
    fn the_hook_is_told_from_the_redirect() {
        let summary = summary(&raw(run(6.0))).expect("words");
        for part in
            ["adds 0.120 us to a cable", "adds 0.122 us to a plain", "-0.002 us, what", "takes 1.024 (1.022"]
        {
            assert!(summary.contains(part), "{part}: {summary}");
        }
    }

    #[test]
    fn intervals_are_read() {
        let raw = raw(run(6.0));
        let Interval { value, low, high } = interval(&raw, "limit", RATIOS[0]).expect("an interval");
        assert_eq!((value, low, high), (1.024, 1.022, 1.026));
        assert!(interval(&raw, "limit", CABLE).is_err());
    }

    #[test]
    fn what_was_not_printed_is_named() {
        let error = table(&raw("nothing".into())).expect_err("two of three").to_string();
        assert!(error.contains("limit-tcp: nothing of cable"), "{error}");
    }
}
