//! Tables and sentences with figures, as Markdown.

use std::fmt::Write as _;

use super::{
    origin::Origins,
    results::{Case, Interval, PATHS, Raw, first, printed, report},
};
use crate::error::Error;

/// The labs of round trips: source, bridges, `bridge-nf-call-iptables`.
pub(super) const LABS: [(&str, &str, &str); 4] = [
    ("one-bridge", "1", "0"),
    ("one-bridge-netfilter", "1", "1 (the kernel's default)"),
    ("eight-bridges", "8", "0"),
    ("eight-bridges-netfilter", "8", "1"),
];

/// The headline result, for the README.
pub(super) fn headline(raw: &Raw) -> Result<String, Error> {
    let mut text = "| UDP round trip, median | cable | plain bridge | fast path | overhead removed |\n|---|---|---|---|---|\n".to_owned();
    for (source, what) in [("one-bridge", "through one bridge"), ("eight-bridges", "through eight bridges")] {
        let case = first(raw, source)?;
        let figures = PATHS.map(|(path, _)| figure_of(&case, path)).join(" | ");
        let _ = writeln!(text, "| {what} | {figures} | {} |", percent(case.overhead_removed));
    }
    Ok(text)
}

/// The machine and the dates.
pub(super) fn machine(raw: &Raw) -> Result<String, Error> {
    let machine = report(raw, "one-bridge")?.machine;
    let unknown = || "unknown".to_owned();
    let origins = Origins::of(raw)?;
    let commit = origins.commit().map_or_else(String::new, |commit| format!(", commit `{commit}`"));
    let unlike = origins.unlike().map_or_else(String::new, |unlike| format!(" {unlike}"));
    let (cpu, kernel) = (machine.cpu.unwrap_or_else(unknown), machine.kernel.unwrap_or_else(unknown));
    let (days, cpus) = (origins.days(), machine.cpus);
    Ok(format!("Measured {days}: {cpu}, {cpus} CPUs, Linux {kernel}{commit}.{unlike}"))
}

/// Round trips by number of bridges.
pub(super) fn bridges(raw: &Raw) -> Result<String, Error> {
    let mut text = "| bridges | `bridge-nf-call-iptables` | cable | plain bridge | fast path | fast / cable | overhead removed | 95 % interval | rounds |\n|---|---|---|---|---|---|---|---|---|\n".to_owned();
    for (source, bridges, netfilter) in LABS {
        let case = first(raw, source)?;
        let figures = PATHS.map(|(path, _)| figure_of(&case, path)).join(" | ");
        let cable = case.fast_to_cable.map_or_else(none, |ratio| format!("{:.3}", ratio.value));
        let removed = case.overhead_removed.map_or_else(none, |removed| format!("{:.2}", removed.value));
        let interval = case.overhead_removed.map_or_else(none, interval);
        let rounds = case.rounds;
        let _ = writeln!(
            text,
            "| {bridges} | {netfilter} | {figures} | {cable} | {removed} | {interval} | {rounds} |"
        );
    }
    Ok(text)
}

/// All kinds of work of `bench`, on one bridge.
pub(super) fn work(raw: &Raw) -> Result<String, Error> {
    let mut text = "| `--work` | cable | plain bridge | fast path | XDP | fast / bridge | 95 % interval | rounds |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for case in report(raw, "work")?.cases {
        let figures = ["cable", "bridge", "fast", "xdp"].map(|path| figure_of(&case, path)).join(" | ");
        let name = case.work.replace('_', "-");
        let ratio = case.fast_to_bridge.map_or_else(none, |ratio| format!("{:.3}", ratio.value));
        let interval = case.fast_to_bridge.map_or_else(none, interval);
        let _ = writeln!(text, "| `{name}` | {figures} | {ratio} | {interval} | {} |", case.rounds);
    }
    Ok(text)
}

/// The program's cost for each case of a benchmark.
pub(super) fn costs(raw: &Raw, source: &str, of: &str) -> Result<String, Error> {
    let mut text = format!("| {of} | ns |\n|---|---|\n");
    for (nanoseconds, what) in nanoseconds(raw, source)? {
        let _ = writeln!(text, "| {what} | {nanoseconds} |");
    }
    Ok(text)
}

/// The program's share of a round trip.
pub(super) fn share(raw: &Raw) -> Result<String, Error> {
    let costs = nanoseconds(raw, "program")?;
    let fast = costs.iter().find(|(_, what)| *what == "fast").map(|(nanoseconds, _)| *nanoseconds);
    let trip = first(raw, "one-bridge")?.figure("fast");
    let (Some(fast), Some(trip)) = (fast, trip) else {
        return Err(Error::Figures("the fast path was not measured".to_owned()));
    };
    let part = 100.0 * 2.0 * fast / (1000.0 * trip);
    Ok(format!(
        "A UDP round trip of {trip:.2} us is two frames: in this loop deciding takes {part:.1} % of its time."
    ))
}

/// The bridge's cost for a large frame of a TCP stream.
pub(super) fn stream(raw: &Raw) -> Result<String, Error> {
    let rate = report(raw, "work")?.cases.into_iter().find(|case| case.work == "tcp_stream");
    let rate = rate.and_then(|case| case.figure("fast"));
    let trip = first(raw, "one-bridge")?;
    let (Some(rate), Some(bridge), Some(cable)) = (rate, trip.figure("bridge"), trip.figure("cable")) else {
        return Err(Error::Figures("a stream, or a bridge, was not measured".to_owned()));
    };
    // 64 KiB in bits; a round trip is two frames.
    let (frame, costs) = (65_536.0 * 8.0 / rate * 1e6, (bridge - cable) / 2.0);
    Ok(format!(
        "A TCP stream's frames are of up to 64 KiB: at {:.0} Gbit/s one takes {frame:.0} us, of which what a bridge adds to a \
         frame of a round trip, {costs:.2} us, would be {:.1} %.",
        rate / 1e9,
        100.0 * costs / frame,
    ))
}

/// The text that a benchmark printed, as a code block.
pub(super) fn verbatim(raw: &Raw, source: &str) -> Result<String, Error> {
    Ok(format!("```text\n{}\n```", printed(raw, source)?.trim_end()))
}

/// Lines such as `   49 ns  fast`.
fn nanoseconds<'r>(raw: &'r Raw, source: &str) -> Result<Vec<(f64, &'r str)>, Error> {
    let lines = printed(raw, source)?.lines();
    let costs = lines.filter_map(|line| line.split_once(" ns  "));
    Ok(costs.filter_map(|(number, what)| Some((number.trim().parse().ok()?, what))).collect())
}

fn figure_of(case: &Case, path: &str) -> String {
    let Some(value) = case.figure(path) else { return none() };
    match case.unit.as_str() {
        "bit/s" => format!("{:.1} Gbit/s", value / 1e9),
        "1/s" => format!("{:.1} k/s", value / 1e3),
        _ => format!("{value:.2} us"),
    }
}

fn percent(of: Option<Interval>) -> String {
    of.map_or_else(none, |of| {
        format!("{:.0} % ({:.0} to {:.0})", 100.0 * of.value, 100.0 * of.low, 100.0 * of.high)
    })
}

fn interval(of: Interval) -> String {
    format!("{:.2} to {:.2}", of.low, of.high)
}

fn none() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn raw() -> Raw {
        let interval = json!({"value": 0.571, "low": 0.55, "high": 0.59});
        let report = json!({
            "machine": {"cpu": "Some CPU", "cpus": 2, "kernel": "6.18.0", "date": "2026-11-21T07:00:00Z"},
            "cases": [{
                "work": "udp_rr", "unit": "us", "rounds": 83,
                "latency": {
                    "cable": {"round_p50_us": [4.83]}, "bridge": {"round_p50_us": [5.3, 5.36]},
                    "fast": {"round_p50_us": [9.0, 5.0, 4.0]}, "xdp": {"round_p50_us": [6.1]},
                },
                "fast_to_bridge": interval, "fast_to_cable": interval, "overhead_removed": interval,
            }],
        });
        let program = Value::from("    7 ns  redirect to a constant\n   50 ns  fast\n");
        let labs = LABS.map(|(source, ..)| (source.to_owned(), report.clone()));
        labs.into_iter().chain([("program".to_owned(), program), ("work".to_owned(), report)]).collect()
    }

    #[test]
    fn tables_have_the_figures_of_the_reports() {
        let raw = raw();
        let row = "| 8 | 1 | 4.83 us | 5.33 us | 5.00 us | 0.571 | 0.57 | 0.55 to 0.59 | 83 |\n";
        assert!(bridges(&raw).expect("a table").ends_with(row));
        let row = "| through eight bridges | 4.83 us | 5.33 us | 5.00 us | 57 % (55 to 59) |\n";
        assert!(headline(&raw).expect("a table").ends_with(row));
        let row = "| `udp-rr` | 4.83 us | 5.33 us | 5.00 us | 6.10 us | 0.571 | 0.55 to 0.59 | 83 |\n";
        assert!(work(&raw).expect("a table").ends_with(row));
        let program = costs(&raw, "program", "frame").expect("a table");
        assert!(program.ends_with("| redirect to a constant | 7 |\n| fast | 50 |\n"), "{program}");
        assert!(share(&raw).expect("a sentence").ends_with("deciding takes 2.0 % of its time."));
        assert!(stream(&raw).is_err(), "no stream was measured");
        let machine = machine(&raw).expect("a sentence");
        assert_eq!(machine, "Measured on 2026-11-21: Some CPU, 2 CPUs, Linux 6.18.0.");
        let mut raw = raw;
        let kept =
            json!({"work": {"date": "2026-11-22", "commit": "abc"}, "program": {"date": "2026-11-23"}});
        raw.insert("measured".to_owned(), kept);
        let machine = super::machine(&raw).expect("a sentence");
        assert!(machine.starts_with("Measured from 2026-11-21 to 2026-11-23: Some CPU"), "{machine}");
        assert!(machine.contains(" Not all of one commit. Of an unknown one: eight-bridges"), "{machine}");
        assert!(machine.ends_with("; of `abc`: work."), "{machine}");
    }

    #[test]
    fn what_was_not_measured_is_named() {
        let error = verbatim(&raw(), "limit").expect_err("nothing of it").to_string();
        assert!(error.contains("limit"), "{error}");
    }
}
