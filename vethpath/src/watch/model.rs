//! What the view knows of a lab: the last account, the rates since the one before, and their history.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use crate::{
    output,
    state::events::Event,
    stats::{self, Directions, Flows, Growth, Rate, Stats, rates},
    topology::Topology,
};

/// The number of samples that are kept of a pair. At one a second: four minutes.
pub(super) const SAMPLES: usize = 240;

/// The number of samples that are kept of all pairs together: 12 bytes each. Labs of more than 4,369 pairs keep fewer
/// than [`SAMPLES`] of each.
const MOST_SAMPLES: usize = 1 << 20;

/// The fewest samples that are kept of a pair.
const LEAST_SAMPLES: usize = 16;

/// The number of events that are kept.
const EVENTS: usize = 1000;

/// What a lab's record says of a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairFacts {
    /// Its addresses, as `172.17.0.101/16`.
    pub addresses: Vec<String>,
    /// The MAC address of its inner end.
    pub mac: String,
    /// The namespace of its bridge: `host`, or a name.
    pub place: String,
}

/// What a lab's record says of its pairs, by name.
pub type Facts = HashMap<String, PairFacts>;

/// The facts of a topology.
#[must_use]
pub fn facts(topology: &Topology) -> Facts {
    let facts = |pair: &crate::topology::Pair| PairFacts {
        addresses: pair.inner.addresses.iter().map(ToString::to_string).collect(),
        mac: pair.inner.mac.to_string(),
        place: pair.place.to_string(),
    };
    topology.pairs.iter().map(|pair| (pair.name(), facts(pair))).collect()
}

/// What was read at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// The account.
    pub stats: Stats,
    /// The traffic matrix, if it was asked for.
    pub flows: Option<Flows>,
    /// The record's facts.
    pub facts: Arc<Facts>,
}

/// One sample of a pair.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Point {
    /// Packets per second in both directions.
    pub(super) packets: f32,
    /// Bytes per second in both directions.
    pub(super) bytes: f32,
    /// Slow packets per second.
    pub(super) slow: f32,
}

/// The event of one line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The time of day in UTC, to the second.
    pub(super) time: String,
    /// What the event is about.
    pub(super) subject: String,
    /// What happened.
    pub(super) what: String,
    /// The pairs that it is about.
    pub(super) pairs: Vec<String>,
}

/// The data of the view.
#[derive(Clone, Debug)]
pub struct Model {
    /// The last account.
    pub(super) stats: Stats,
    /// When it was read.
    pub(super) at: Instant,
    /// The rates of its pairs; none before the second account.
    pub(super) growth: Growth,
    /// The rates of its trunks, by name, in both directions: all, and fast.
    pub(super) trunks: HashMap<String, (Directed, Directed)>,
    /// The last traffic matrix.
    pub(super) flows: Option<Flows>,
    /// When it was read.
    flows_at: Instant,
    /// The rates of its cells, by sender and receiver; none before the second matrix.
    pub(super) flow_rates: HashMap<(String, String), Rate>,
    has_flow_rates: bool,
    /// The record's facts.
    pub(super) facts: Arc<Facts>,
    /// The last events, oldest first.
    pub(super) events: VecDeque<Line>,
    history: HashMap<String, VecDeque<Point>>,
}

/// Rates in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Directed {
    /// Sent.
    pub(super) tx: Rate,
    /// Received.
    pub(super) rx: Rate,
}

impl Directed {
    fn between(then: Directions, now: Directions, seconds: f64) -> Self {
        Self { tx: Rate::between(then.tx, now.tx, seconds), rx: Rate::between(then.rx, now.rx, seconds) }
    }
}

impl Model {
    /// The model after the first sample.
    #[must_use]
    pub fn new(sample: Sample) -> Self {
        let Sample { at, stats, flows, facts } = sample;
        Self {
            stats,
            at,
            growth: Growth::new(),
            trunks: HashMap::new(),
            flows,
            flows_at: at,
            flow_rates: HashMap::new(),
            has_flow_rates: false,
            facts,
            events: VecDeque::new(),
            history: HashMap::new(),
        }
    }

    /// Takes the next sample.
    pub fn update(&mut self, sample: Sample) {
        let Sample { at, stats, flows, facts } = sample;
        let elapsed = at.duration_since(self.at);
        self.growth = rates(&self.stats, &stats, elapsed);
        let trunks: HashMap<&str, &stats::Trunk> =
            self.stats.trunks.iter().map(|trunk| (trunk.name.as_str(), trunk)).collect();
        let between = |now: &stats::Trunk| {
            let then = trunks.get(now.name.as_str())?;
            let of = |then, now| Directed::between(then, now, elapsed.as_secs_f64());
            Some((now.name.clone(), (of(then.total, now.total), of(then.fast, now.fast))))
        };
        self.trunks = stats.trunks.iter().filter_map(between).collect();
        self.keep(&stats);
        if let Some(flows) = flows {
            self.take_flows(flows, at);
        }
        (self.stats, self.at, self.facts) = (stats, at, facts);
    }

    /// Keeps the present rates of all pairs that exist.
    fn keep(&mut self, stats: &Stats) {
        let room = (MOST_SAMPLES / stats.pairs.len().max(1)).clamp(LEAST_SAMPLES, SAMPLES);
        if self.history.len() > stats.pairs.len() {
            self.history.retain(|name, _| self.growth.contains_key(name));
        }
        for (name, rates) in &self.growth {
            let points = match self.history.get_mut(name) {
                Some(points) => points,
                None => self.history.entry(name.clone()).or_default(),
            };
            let Rate { packets, bytes } = rates.traffic();
            #[expect(clippy::cast_possible_truncation, reason = "a bar has eight heights")]
            points.push_back(Point {
                packets: packets as f32,
                bytes: bytes as f32,
                slow: rates.slow_packets() as f32,
            });
            while points.len() > room {
                points.pop_front();
            }
        }
    }

    fn take_flows(&mut self, flows: Flows, at: Instant) {
        let seconds = at.duration_since(self.flows_at).as_secs_f64();
        self.flow_rates.clear();
        if let Some(before) = &self.flows {
            let then: HashMap<(&str, &str), stats::Count> = before
                .matrix
                .iter()
                .map(|flow| ((flow.from.as_str(), flow.to.as_str()), flow.count))
                .collect();
            for flow in &flows.matrix {
                let then = then.get(&(flow.from.as_str(), flow.to.as_str())).copied().unwrap_or_default();
                let rate = Rate::between(then, flow.count, seconds);
                if rate.packets > 0.0 {
                    self.flow_rates.insert((flow.from.clone(), flow.to.clone()), rate);
                }
            }
        }
        self.has_flow_rates = self.flows.is_some();
        (self.flows, self.flows_at) = (Some(flows), at);
    }

    /// Takes events, oldest first.
    pub fn add_events(&mut self, events: &[Event]) {
        for event in events {
            let (subject, what) = output::describe(&event.kind);
            let pairs = event.kind.pairs().into_iter().map(str::to_owned).collect();
            let time = event.time.to_the_second().to_string();
            // The day is in `vethpath events`.
            let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time);
            self.events.push_back(Line { time: time.trim_end_matches('Z').to_owned(), subject, what, pairs });
        }
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    /// Whether there were two matrices to compare.
    pub(super) const fn has_flow_rates(&self) -> bool {
        self.has_flow_rates
    }

    /// A pair's samples, oldest first.
    pub(super) fn history(&self, pair: &str) -> impl ExactSizeIterator<Item = Point> + '_ {
        static NONE: VecDeque<Point> = VecDeque::new();
        self.history.get(pair).unwrap_or(&NONE).iter().copied()
    }
}
