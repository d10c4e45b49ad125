//! An event and its JSON form.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::topology::LabName;

/// An event of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The time at which it was detected.
    pub time: Time,
    /// The lab.
    pub lab: LabName,
    /// What happened.
    #[serde(flatten)]
    pub kind: Kind,
}

impl Event {
    /// An event with the present time.
    #[must_use]
    pub fn now(lab: &LabName, kind: Kind) -> Self {
        Self { time: Time::now(), lab: lab.clone(), kind }
    }
}

/// The kinds of events. `docs/events.md` describes when each is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// `up` has brought the lab up or changed it.
    LabUp {
        /// The number of changes.
        changes: usize,
    },
    /// `down` begins.
    LabDown,
    /// `bench` begins to detach and attach the programs in turns.
    BenchStarted,
    /// `bench` has ended. The programs are attached.
    BenchEnded,
    /// A `bench` was killed while programs were detached. The agent has attached them again.
    BenchKilled {
        /// How many were detached.
        programs: usize,
    },
    /// Another process had detached the programs of these ports, with or without their `clsact` qdisc. The agent has
    /// attached them again.
    ProgramsPutBack {
        /// The ports.
        ports: Vec<String>,
    },
    /// Rules of the lab in Docker's chain were missing, because Docker has recreated it, or named other devices than those of
    /// the default routes. The agent has written them again.
    RulesPutBack {
        /// The chain: `ip filter DOCKER-USER in host`.
        chain: String,
        /// All rules of the lab in the chain, as arguments of `iptables`.
        rules: Vec<String>,
    },
    /// An agent has started.
    AgentStarted {
        /// Its process id.
        pid: u32,
        /// How the former agent ended, whose maps and counts it takes over.
        former: Former,
    },
    /// The agent has ended.
    AgentEnded {
        /// Its process id.
        pid: u32,
        /// Why it ended.
        how: How,
        /// The error with which it failed.
        error: Option<String>,
    },
    /// An operation of the agent failed. All entries are void until a retry succeeds. It retries each second.
    AgentRetries {
        /// The error.
        error: String,
    },
    /// The agent renewed the lease too late, since it was stopped or starved. Every frame took the slow path.
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
        /// Its former state, as `stats` prints it; `None` if the agent has just started.
        before: Option<String>,
    },
    /// A pair does not take part in the fast path, or the reason for that has changed.
    PairNotArmed {
        /// Its name: `ns0:eth0`.
        pair: String,
        /// Its port.
        port: String,
        /// Why.
        reason: String,
        /// Its former state, as `stats` prints it; `None` if the agent has just started.
        before: Option<String>,
    },
    /// A port that another program had plugged into a bridge with `guests` was taken off it, or removed.
    GuestLeft {
        /// Its name: `br0/veth1`.
        pair: String,
        /// The port.
        port: String,
    },
    /// Frames may cross a trunk by the fast path.
    TrunkArmed {
        /// Its name: `br0 - br1`.
        trunk: String,
        /// Its former state, as `stats` prints it; `None` if the agent has just started.
        before: Option<String>,
    },
    /// Frames cross a trunk only through the bridges.
    TrunkNotArmed {
        /// Its name: `br0 - br1`.
        trunk: String,
        /// Why.
        reason: String,
        /// Its former state, as `stats` prints it; `None` if the agent has just started.
        before: Option<String>,
    },
    /// A bridge of the lab is missing.
    BridgeGone {
        /// Its name.
        bridge: String,
        /// Where it was: a namespace, or `host`.
        namespace: String,
    },
    /// A missing bridge exists again.
    BridgeBack {
        /// Its name.
        bridge: String,
        /// Where it is: a namespace, or `host`.
        namespace: String,
    },
    /// A namespace with bridges has lost its name. The agent releases it.
    NamespaceGone {
        /// The namespace.
        namespace: String,
    },
    /// The last known process of an adopted namespace has ended. The ports of its interfaces are taken down.
    ProcessesGone {
        /// The namespace.
        namespace: String,
    },
    /// `stop` has stopped a host.
    HostStopped {
        /// The host.
        namespace: String,
    },
    /// `start` has started a host.
    HostStarted {
        /// The host.
        namespace: String,
    },
    /// A netlink socket was overrun (ENOBUFS). All entries were made void, and a full resync was done.
    NetlinkLost {
        /// The namespace that the lost events were about.
        namespace: String,
        /// The generation of valid entries since then.
        generation: u32,
        /// How often this happened since the last such event; a burst is reported once a second.
        times: u32,
    },
    /// A netfilter chain drops packets of the lab, all of their kind.
    PacketsDropped {
        /// Which packets, and by which chain.
        what: String,
    },
    /// It is no longer certain that these packets are dropped, or their bridge is gone.
    PacketsNotDropped {
        /// Which packets.
        packets: String,
    },
    /// A map is full. Some stations stay on the slow path.
    MapFull,
    /// All stations fit again.
    MapHasRoom,
    /// A station moved while the agent refreshed the bridge's entry for it. The agent has corrected the entry.
    StationMoved {
        /// Its MAC.
        mac: String,
        /// The pair that it was behind.
        from: String,
        /// The port that it is behind now: a pair's name, or the device.
        to: String,
    },
}

impl Kind {
    /// The pairs that the event is about.
    #[must_use]
    pub fn pairs(&self) -> Vec<&str> {
        match self {
            Self::PairArmed { pair, .. } | Self::PairNotArmed { pair, .. } | Self::GuestLeft { pair, .. } => {
                vec![pair]
            }
            Self::StationMoved { from, to, .. } => vec![from, to],
            _ => Vec::new(),
        }
    }
}

/// How the former agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Former {
    /// There was no former agent.
    None,
    /// It exited normally.
    Ended,
    /// It was killed.
    Died,
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It received SIGTERM or SIGINT, as `down` sends.
    Terminated,
    /// It could not start, or another agent has replaced it.
    Failed,
}

/// A time in UTC, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Timestamp);

impl Time {
    /// The present time.
    #[must_use]
    pub fn now() -> Self {
        Self::from(Timestamp::now())
    }

    /// The same without fractions of a second.
    #[must_use]
    pub fn to_the_second(self) -> impl fmt::Display {
        let round = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc);
        self.0.round(round).unwrap_or(self.0)
    }
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        // Truncated, so that the printed time compares equal.
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
