//! The text of the metrics, as docs/metrics.md describes it. Pure.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet, prometheus_text, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::figures::Figures;
use crate::{
    stats::{Agent, Count, State},
    topology::LabName,
};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Both formats.
    pub(super) const ALL: [Self; 2] = [Self::Text, Self::OpenMetrics];

    /// The byte by which it is requested.
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Text => b't',
            Self::OpenMetrics => b'o',
        }
    }

    /// The format that is requested by a byte. Any other byte stands for the first.
    pub(super) fn of_byte(byte: u8) -> Self {
        Self::ALL.into_iter().find(|format| format.byte() == byte).unwrap_or(Self::Text)
    }

    /// The `Content-Type` of such a text.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What was read of a lab.
#[derive(Clone, Debug)]
pub(super) struct LabReading {
    /// Its name.
    pub(super) lab: LabName,
    /// The rest; `None` if it could not be read.
    pub(super) account: Option<Account>,
}

/// The account of a lab.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) agent: Agent,
    pub(super) pairs: Vec<Counted>,
    /// Pairs that another program made. They are among `pairs`.
    pub(super) guests: usize,
    /// The guest ports that have left.
    pub(super) former: Option<Figures>,
    pub(super) trunks: Vec<Counted>,
}

/// A pair or a trunk.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    /// Its name.
    pub(super) name: String,
    /// Its bridge. Empty of a trunk, whose name has both.
    pub(super) bridge: String,
    pub(super) figures: Figures,
    /// `None` if it is armed, or the word for why not.
    pub(super) reason: Option<String>,
}

impl Counted {
    /// The word for a state: the agent's, or if it has none, `otherwise`.
    pub(super) fn reason(state: &State, word: Option<&String>, otherwise: &str) -> Option<String> {
        match state {
            State::Armed => None,
            State::NotArmed(_) => Some(word.map_or(otherwise, String::as_str).to_owned()),
        }
    }
}

/// The metrics of labs as text.
///
/// # Errors
/// None: a string takes all.
pub(super) fn exposition(labs: Vec<LabReading>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("vethpath");
    registry.register_collector(Box::new(Labs(labs)));
    let mut out = String::new();
    match format {
        Format::Text => prometheus_text::encode(&mut out, &registry)?,
        Format::OpenMetrics => text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

#[derive(Debug)]
struct Labs(Vec<LabReading>);

/// What is counted of a direction: its name, or its unit, which ends the name, and its value.
type Measure = (&'static str, Option<Unit>, fn(Count) -> u64);

const MEASURES: [Measure; 3] = [
    ("frames", None, |count| count.frames),
    ("packets", None, |count| count.packets),
    ("bytes", Some(Unit::Bytes), |count| count.bytes),
];

/// Seen from a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Transmit,
    Receive,
}

impl Direction {
    /// Its name in that of a metric, and its verb in the help.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Transmit => ("transmit", "sent"),
            Self::Receive => ("receive", "received"),
        }
    }

    /// What was counted, by path.
    fn of(self, Figures { fast, slow, .. }: &Figures) -> [(&'static str, Count); 2] {
        let [fast, slow] = match self {
            Self::Transmit => [fast.tx, slow.tx],
            Self::Receive => [fast.rx, slow.rx],
        };
        [("fast", fast), ("slow", slow)]
    }
}

impl Collector for Labs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut info =
            encoder.encode_descriptor("build", "The version of vethpath.", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        self.labs(&mut encoder)?;
        self.pairs(&mut encoder)?;
        self.trunks(&mut encoder)?;
        self.former(&mut encoder)
    }
}

impl Labs {
    fn accounts(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.0.iter().filter_map(|lab| Some((lab.lab.as_str(), lab.account.as_ref()?)))
    }

    fn labs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Whether the lab could be read. Without, it has no other metrics.";
        let mut read = encoder.encode_descriptor("lab_read_success", help, None, MetricType::Gauge)?;
        for lab in &self.0 {
            gauge(&mut read, &[("lab", lab.lab.as_str())], u32::from(lab.account.is_some()))?;
        }
        let help = "Whether the agent of the lab answers.";
        let mut up = encoder.encode_descriptor("agent_up", help, None, MetricType::Gauge)?;
        for (lab, account) in self.accounts() {
            gauge(&mut up, &[("lab", lab)], u32::from(account.agent.alive))?;
        }
        let help = "Time until the fast path ends if the agent does not renew its lease.";
        let mut lease =
            encoder.encode_descriptor("lease_remaining", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (lab, account) in self.accounts() {
            #[expect(clippy::cast_precision_loss, reason = "a lease is some thousand milliseconds")]
            let left = account.agent.lease_left_ms as f64 / 1e3;
            gauge(&mut lease, &[("lab", lab)], left)?;
        }
        let help = "Ports of other programs that take part in the fast path.";
        let mut guests = encoder.encode_descriptor("guest_ports", help, None, MetricType::Gauge)?;
        for (lab, account) in self.accounts() {
            gauge(&mut guests, &[("lab", lab)], account.guests as u64)?;
        }
        Ok(())
    }

    fn pairs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let pairs =
            || self.accounts().flat_map(|(lab, account)| account.pairs.iter().map(move |it| (lab, it)));
        let help = "Whether frames of the pair may take the fast path, or the reason why not.";
        let mut armed = encoder.encode_descriptor("pair_armed", help, None, MetricType::Gauge)?;
        for (lab, Counted { name, bridge, reason, .. }) in pairs() {
            let reason = reason.as_deref().unwrap_or_default();
            let labels = [("lab", lab), ("pair", name), ("bridge", bridge), ("reason", reason)];
            gauge(&mut armed, &labels, u32::from(reason.is_empty()))?;
        }
        each_measure("pair", "the namespace", encoder, |metric, direction, measure| {
            for (lab, Counted { name, bridge, figures, .. }) in pairs() {
                for (path, count) in direction.of(figures) {
                    let labels = [("lab", lab), ("pair", name), ("bridge", bridge), ("path", path)];
                    counter(metric, &labels, measure(count))?;
                }
            }
            Ok(())
        })?;
        let help = "Packets that the namespace sent by the bridge, by the reason why they were not fast.";
        let mut slow = encoder.encode_descriptor("pair_slow_packets", help, None, MetricType::Counter)?;
        for (lab, Counted { name, bridge, figures, .. }) in pairs() {
            for (reason, packets) in &figures.reasons {
                let labels = [("lab", lab), ("pair", name), ("bridge", bridge), ("reason", reason)];
                counter(&mut slow, &labels, *packets)?;
            }
        }
        let help = "Frames of a pair on XDP that the driver dropped.";
        let mut dropped =
            encoder.encode_descriptor("pair_dropped_frames", help, None, MetricType::Counter)?;
        for (lab, Counted { name, bridge, figures, .. }) in pairs() {
            let Some(drops) = figures.dropped else { continue };
            for (direction, frames) in [("transmit", drops.tx), ("receive", drops.rx)] {
                let labels = [("lab", lab), ("pair", name), ("bridge", bridge), ("direction", direction)];
                counter(&mut dropped, &labels, frames)?;
            }
        }
        Ok(())
    }

    fn trunks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let trunks =
            || self.accounts().flat_map(|(lab, account)| account.trunks.iter().map(move |it| (lab, it)));
        let help = "Whether frames may take the fast path past the trunk, or the reason why not.";
        let mut armed = encoder.encode_descriptor("trunk_armed", help, None, MetricType::Gauge)?;
        for (lab, Counted { name, reason, .. }) in trunks() {
            let reason = reason.as_deref().unwrap_or_default();
            gauge(
                &mut armed,
                &[("lab", lab), ("trunk", name), ("reason", reason)],
                u32::from(reason.is_empty()),
            )?;
        }
        each_measure("trunk", "the first bridge of the trunk", encoder, |metric, direction, measure| {
            for (lab, Counted { name, figures, .. }) in trunks() {
                for (path, count) in direction.of(figures) {
                    counter(metric, &[("lab", lab), ("trunk", name), ("path", path)], measure(count))?;
                }
            }
            Ok(())
        })
    }

    fn former(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let formers = || self.accounts().filter_map(|(lab, account)| Some((lab, account.former.as_ref()?)));
        each_measure(
            "former_guests",
            "all guest ports that have left",
            encoder,
            |metric, direction, measure| {
                // The kernel's counts of what they received have gone with their inner ends.
                let paths = if direction == Direction::Receive { 1 } else { 2 };
                for (lab, figures) in formers() {
                    for (path, count) in direction.of(figures).into_iter().take(paths) {
                        counter(metric, &[("lab", lab), ("path", path)], measure(count))?;
                    }
                }
                Ok(())
            },
        )
    }
}

/// Encodes a counter for each direction and measure, such as `pair_transmit_bytes`. `samples` encodes its samples.
fn each_measure(
    of: &str,
    whose: &str,
    encoder: &mut DescriptorEncoder<'_>,
    samples: impl Fn(&mut MetricEncoder<'_>, Direction, fn(Count) -> u64) -> fmt::Result,
) -> fmt::Result {
    for direction in [Direction::Transmit, Direction::Receive] {
        let (part, verb) = direction.words();
        for (noun, unit, value) in &MEASURES {
            let name = if unit.is_some() { format!("{of}_{part}") } else { format!("{of}_{part}_{noun}") };
            let help = format!("{}{} that {whose} {verb}, by path.", noun[..1].to_uppercase(), &noun[1..]);
            let mut metric = encoder.encode_descriptor(&name, &help, unit.as_ref(), MetricType::Counter)?;
            samples(&mut metric, direction, *value)?;
        }
    }
    Ok(())
}

fn counter<const N: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: u64,
) -> fmt::Result {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
}

fn gauge<const N: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    metric.encode_family(labels)?.encode_gauge(&value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn reading() -> LabReading {
        let stats = samples::stats();
        let counted = |pair: &crate::stats::Pair| Counted {
            name: pair.name.clone(),
            bridge: pair.bridge.to_string(),
            figures: Figures::of_pair(pair),
            reason: Counted::reason(&pair.state, Some(&"packet-socket".to_owned()), "no-agent"),
        };
        let account = Account {
            pairs: stats.pairs.iter().map(counted).collect(),
            guests: 0,
            former: Some(Figures::of(&stats.pairs[0].traffic)),
            trunks: vec![Counted { name: "br0 - br1".to_owned(), ..counted(&stats.pairs[0]) }],
            agent: stats.agent,
        };
        LabReading { lab: stats.lab, account: Some(account) }
    }

    fn text(format: Format) -> String {
        let unread = LabReading { lab: "gone".parse().unwrap(), account: None };
        exposition(vec![reading(), unread], format).unwrap()
    }

    #[test]
    fn every_sample_follows_its_help_and_its_type() {
        let text = text(Format::Text);
        let mut described = Vec::new();
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["#", "HELP", name, ..] => {
                    assert!(line.ends_with('.') && name.starts_with("vethpath_"), "{line}");
                    assert!(!described.contains(&name), "twice: {line}");
                    described.push(name);
                }
                ["#", "TYPE", name, kind] => {
                    assert_eq!(described.last(), Some(&name));
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                }
                _ => assert_eq!(line.split('{').next(), described.last().copied(), "{line}"),
            }
        }
        assert!(described.len() > 20, "{text}");
        // Those of trunks and of former guests have one row for frames, packets and bytes.
        let page = include_str!("../../../docs/metrics.md");
        for name in described {
            let of_frames = name.replace("_packets_", "_frames_").replace("_bytes_", "_frames_");
            assert!([name, &of_frames].iter().any(|name| page.contains(&format!("`{name}`"))), "{name}");
        }
    }

    #[test]
    fn a_pair_has_its_counters_by_path_and_reason() {
        let text = text(Format::Text);
        let labels = r#"lab="three-hosts",pair="ns0:eth0",bridge="docker0""#;
        for line in [
            format!("vethpath_pair_transmit_packets_total{{{labels},path=\"fast\"}} 1234549"),
            format!("vethpath_pair_transmit_packets_total{{{labels},path=\"slow\"}} 18"),
            format!("vethpath_pair_receive_bytes_total{{{labels},path=\"fast\"}} 123454900"),
            format!("vethpath_pair_slow_packets_total{{{labels},reason=\"group\"}} 9"),
            format!("vethpath_pair_armed{{{labels},reason=\"\"}} 1"),
            r#"vethpath_pair_armed{lab="three-hosts",pair="ns1:eth0",bridge="docker0",reason="packet-socket"} 0"#
                .to_owned(),
            r#"vethpath_trunk_transmit_frames_total{lab="three-hosts",trunk="br0 - br1",path="fast"} 1234549"#
                .to_owned(),
            r#"vethpath_former_guests_transmit_bytes_total{lab="three-hosts",path="slow"} 1800"#.to_owned(),
            r#"vethpath_agent_up{lab="three-hosts"} 1"#.to_owned(),
            r#"vethpath_lease_remaining_seconds{lab="three-hosts"} 2.5"#.to_owned(),
            r#"vethpath_lab_read_success{lab="gone"} 0"#.to_owned(),
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
        assert!(
            !text.contains(r#"vethpath_former_guests_receive_bytes_total{lab="three-hosts",path="slow""#)
        );
        assert!(!text.contains(r#"agent_up{lab="gone"}"#));
    }

    #[test]
    fn openmetrics_has_units_and_an_end() {
        let text = text(Format::OpenMetrics);
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("# UNIT vethpath_pair_transmit_bytes bytes\n"), "{text}");
        assert!(text.contains("# TYPE vethpath_pair_transmit_bytes counter\n"), "{text}");
    }

    #[test]
    fn names_of_other_programs_are_escaped() {
        let mut reading = reading();
        if let Some(account) = &mut reading.account {
            account.pairs[0].name = "br0/a\"b\\c".to_owned();
        }
        let text = exposition(vec![reading], Format::Text).unwrap();
        assert!(text.contains(r#"pair="br0/a\"b\\c""#), "{text}");
    }

    #[test]
    fn a_format_is_requested_by_its_byte() {
        assert!(Format::ALL.into_iter().all(|format| Format::of_byte(format.byte()) == format));
        assert_eq!(Format::of_byte(0), Format::Text);
    }
}
