//! An event: plain data, and its form as JSON.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::topology::LabName;

/// Something that happened to a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was noticed.
    pub time: Time,
    /// To which lab.
    pub lab: LabName,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
}

impl Event {
    /// An event of this moment.
    #[must_use]
    pub fn now(lab: &LabName, kind: Kind) -> Self {
        Self { time: Time::now(), lab: lab.clone(), kind }
    }
}

/// What happened. `docs/events.md` tells of each when it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// `up` has brought the lab up, or has mended it.
    LabUp {
        /// How much it changed.
        changes: usize,
    },
    /// `down` begins.
    LabDown,
    /// `bench` begins: from now on it takes the programs off and puts them back, in turns.
    BenchStarted,
    /// `bench` has put the programs back.
    BenchEnded,
    /// A `bench` was killed while programs were off. The agent has put them back.
    BenchKilled {
        /// How many were off.
        programs: usize,
    },
    /// Somebody had taken the programs off these ports, with their `clsact` qdisc or without. The agent has put them
    /// back.
    ProgramsPutBack {
        /// The ports.
        ports: Vec<String>,
    },
    /// The lab has an agent.
    AgentStarted {
        /// Its process id.
        pid: u32,
        /// What became of the one before it, whose maps and counts it takes over.
        former: Former,
    },
    /// The lab has no agent any more.
    AgentEnded {
        /// Its process id.
        pid: u32,
        /// Why it ended.
        how: How,
        /// What made it fail.
        error: Option<String>,
    },
    /// The agent has failed: every entry is void until it succeeds. It tries again each second.
    AgentRetries {
        /// What failed.
        error: String,
    },
    /// The agent has come too late to renew the lease: it was stopped or starved, and every frame was
    /// slow.
    LeaseExpired {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
    /// A pair takes part in the fast path.
    PairArmed {
        /// Its name: `ns0:eth0`.
        pair: String,
        /// Its port.
        port: String,
        /// Its state until now, in the words of `stats`; nothing if the agent has just started.
        before: Option<String>,
    },
    /// A pair does not take part in the fast path, or not any more, or for another reason than before.
    PairNotArmed {
        /// Its name: `ns0:eth0`.
        pair: String,
        /// Its port.
        port: String,
        /// Why.
        reason: String,
        /// Its state until now, in the words of `stats`; nothing if the agent has just started.
        before: Option<String>,
    },
    /// Frames may cross a trunk by the fast path.
    TrunkArmed {
        /// Its name: `br0 - br1`.
        trunk: String,
        /// Its state until now, in the words of `stats`; nothing if the agent has just started.
        before: Option<String>,
    },
    /// Frames cross a trunk by the bridges alone.
    TrunkNotArmed {
        /// Its name: `br0 - br1`.
        trunk: String,
        /// Why.
        reason: String,
        /// Its state until now, in the words of `stats`; nothing if the agent has just started.
        before: Option<String>,
    },
    /// A bridge of the lab is not there.
    BridgeGone {
        /// Its name.
        bridge: String,
        /// Where it was: a namespace, or `host`.
        namespace: String,
    },
    /// It is there again.
    BridgeBack {
        /// Its name.
        bridge: String,
        /// Where it is: a namespace, or `host`.
        namespace: String,
    },
    /// A namespace with bridges has lost its name. The agent lets it go.
    NamespaceGone {
        /// The namespace.
        namespace: String,
    },
    /// The kernel told more than the agent could take in: every entry was made void, and everything
    /// looked at anew.
    NetlinkLost {
        /// The namespace that the lost events were about.
        namespace: String,
        /// Entries of this generation are valid since.
        generation: u32,
        /// How many times since it was last told; a storm is told once a second.
        times: u32,
    },
    /// A map is full: some stations stay on the slow path.
    MapFull,
    /// All stations fit again.
    MapHasRoom,
    /// A station moved in the very moment in which the agent refreshed the bridge's entry for it. The
    /// agent has told the bridge where it is.
    StationMoved {
        /// Its MAC.
        mac: String,
        /// The pair it was behind.
        from: String,
        /// The port it is behind now: a pair's name, or the device.
        to: String,
    },
}

impl Kind {
    /// The pairs that it is about.
    #[must_use]
    pub fn pairs(&self) -> Vec<&str> {
        match self {
            Self::PairArmed { pair, .. } | Self::PairNotArmed { pair, .. } => vec![pair],
            Self::StationMoved { from, to, .. } => vec![from, to],
            _ => Vec::new(),
        }
    }
}

/// The agent before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Former {
    /// There was none.
    None,
    /// It ended in order.
    Ended,
    /// It was killed.
    Died,
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It was told to, as `down` does (SIGTERM, SIGINT).
    Terminated,
    /// Something was refused that it cannot do without.
    Failed,
}

/// A moment: microseconds of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Timestamp);

impl Time {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self::from(Timestamp::now())
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        // What is printed is what is compared.
        let round = jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
        Self(time.round(round).unwrap_or(time))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Timestamp>().map(Self::from)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_stable_names() {
        let event = Event {
            time: "2026-11-21T02:47:52.1234567Z".parse().unwrap(),
            lab: "three-hosts".parse().unwrap(),
            kind: Kind::PairNotArmed {
                pair: "ns0:eth0".into(),
                port: "vp0".into(),
                reason: "qdisc tbf on the port".into(),
                before: Some("armed".into()),
            },
        };
        let line = serde_json::to_string(&event).unwrap();
        let expected = "{\"time\":\"2026-11-21T02:47:52.123456Z\",\"lab\":\"three-hosts\",\
            \"kind\":\"pair-not-armed\",\"pair\":\"ns0:eth0\",\"port\":\"vp0\",\
            \"reason\":\"qdisc tbf on the port\",\"before\":\"armed\"}";
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn a_time_has_all_its_microseconds() {
        let time: Time = "2026-11-21T02:47:52Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-21T02:47:52.000000Z");
        let now = Time::now();
        assert_eq!(now.to_string().parse::<Time>().unwrap(), now);
    }
}
