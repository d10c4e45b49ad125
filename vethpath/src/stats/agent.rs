//! How a lab's agent is, and what it says of each pair.

use std::{collections::BTreeMap, fmt, io, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    agent::{
        NotArmed,
        status::{self, Ends},
    },
    datapath::{Maps, Pins},
    kernel::clock::Clock,
    state::Directory,
    topology::{Datapath, LabName, Pair, Trunk},
};

/// A lab's agent, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Whether it answers.
    pub alive: bool,
    /// Its process id, if it answers.
    pub pid: Option<u32>,
    /// The lease that it renews each second, in milliseconds; 0 if it does not answer.
    pub lease_ms: u64,
    /// How long the lease still holds, in milliseconds: the fast path outlives its agent by this.
    pub lease_left_ms: u64,
    /// The capabilities that it has; none if it does not answer.
    pub capabilities: Vec<String>,
}

impl Agent {
    /// One that does not answer.
    fn silent(lease_left_ms: u64) -> Self {
        Self { alive: false, pid: None, lease_ms: 0, lease_left_ms, capabilities: Vec::new() }
    }
}

/// Whether a port takes part in the fast path. In JSON, as in print: `armed`, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Armed,
    /// It does not, for this reason.
    NotArmed(String),
}

impl State {
    /// Of a port that somebody else has put on a bridge of the lab.
    #[must_use]
    pub fn of_stranger() -> Self {
        Self::NotArmed("it is not of the lab".to_owned())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Armed => f.pad("armed"),
            Self::NotArmed(reason) => f.pad(reason),
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why each pair or trunk is not armed, or nothing if it is, by name.
type States = BTreeMap<String, Option<String>>;

/// What an agent says.
#[derive(Clone, Debug, Default)]
struct Answer {
    pairs: States,
    trunks: States,
    ends: BTreeMap<String, Ends>,
}

/// An agent's answer, or why there is none.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// How it is.
    pub agent: Agent,
    /// What it says of pairs and trunks, or why it says nothing.
    answer: Result<Answer, &'static str>,
}

impl AgentView {
    /// Asks the agent of a lab. One that is stopped or hangs takes two seconds to be found so.
    #[must_use]
    pub fn of(lab: &LabName) -> Self {
        let lease_left_ms = lease_left(&Pins::of(lab));
        match status::query(&Directory::of(lab).socket()) {
            Ok(status::Status { pid, lease_ms, ports, trunks, ends, capabilities, .. }) => Self {
                agent: Agent { alive: true, pid: Some(pid), lease_ms, lease_left_ms, capabilities },
                answer: Ok(Answer { pairs: ports, trunks, ends }),
            },
            Err(error) => Self { agent: Agent::silent(lease_left_ms), answer: Err(silence(&error)) },
        }
    }

    /// What is known of a pair's part in the fast path.
    #[must_use]
    pub fn state(&self, pair: &Pair) -> State {
        if pair.datapath == Datapath::Bridge {
            // So whether or not there is an agent.
            return State::NotArmed(NotArmed::NotWanted.to_string());
        }
        self.look_up(&pair.name(), |answer| &answer.pairs, "the agent does not know the pair")
    }

    /// The same of a trunk.
    #[must_use]
    pub fn trunk_state(&self, trunk: &Trunk) -> State {
        self.look_up(&trunk.name(), |answer| &answer.trunks, "the agent does not know the trunk")
    }

    /// Where the ends of a pair were when the agent heard of them last. Nothing if it then had its bridge
    /// elsewhere: while the lab becomes another one, the agent still follows what it was.
    #[must_use]
    pub fn ends(&self, pair: &Pair) -> Option<&Ends> {
        self.answer.as_ref().ok()?.ends.get(&pair.name()).filter(|ends| ends.place == pair.place)
    }

    fn look_up(&self, name: &str, states: impl Fn(&Answer) -> &States, unknown: &str) -> State {
        match &self.answer {
            Err(why) => State::NotArmed((*why).to_owned()),
            Ok(answer) => match states(answer).get(name) {
                Some(None) => State::Armed,
                Some(Some(reason)) => State::NotArmed(reason.clone()),
                None => State::NotArmed(unknown.to_owned()),
            },
        }
    }
}

/// Why nobody answered.
fn silence(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "the agent is not running",
        _ => "the agent does not answer",
    }
}

/// How long the programs may still go on, in milliseconds. 0 where there are no maps.
fn lease_left(pins: &Pins) -> u64 {
    let Ok(config) = Maps::open(pins).map(|maps| maps.config()) else { return 0 };
    let Ok(now) = Clock::open().and_then(|clock| clock.now()) else { return 0 };
    let left = Duration::from_nanos(config.lease_until_ns).saturating_sub(now);
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl AgentView {
    /// Of a living agent that knows these ends, by pair.
    pub(super) fn knowing(ends: BTreeMap<String, Ends>) -> Self {
        Self {
            agent: Agent { alive: true, ..Agent::silent(0) },
            answer: Ok(Answer { ends, ..Answer::default() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    fn pair(datapath: &str) -> Pair {
        let text = format!(
            "[bridge.br0]\ndatapath = \"{datapath}\"\n[namespace.ns0.interface.eth0]\nlink = \"br0\"\n"
        );
        read(Source { path: "lab.toml", text: &text }, Some("lab")).unwrap().pairs.remove(0)
    }

    fn view(pairs: Result<States, &'static str>) -> AgentView {
        let agent = Agent { alive: pairs.is_ok(), ..Agent::silent(0) };
        AgentView { agent, answer: pairs.map(|pairs| Answer { pairs, ..Answer::default() }) }
    }

    #[test]
    fn a_pair_is_armed_only_if_a_living_agent_says_so() {
        let pair_of = |state: Option<&str>| [("ns0:eth0".to_owned(), state.map(str::to_owned))].into();
        let state = |view: AgentView| view.state(&pair("tc")).to_string();
        assert_eq!(view(Ok(pair_of(None))).state(&pair("tc")), State::Armed);
        assert_eq!(state(view(Ok(pair_of(Some("hairpin"))))), "hairpin");
        assert_eq!(state(view(Ok(BTreeMap::new()))), "the agent does not know the pair");
        assert_eq!(state(view(Err("the agent is not running"))), "the agent is not running");
    }

    #[test]
    fn a_plain_bridge_needs_no_agent_to_be_one() {
        let reason = view(Err("the agent is not running")).state(&pair("bridge")).to_string();
        assert_eq!(reason, "datapath is \"bridge\"");
    }

    #[test]
    fn a_dead_agent_is_told_from_a_silent_one() {
        let of = |kind: io::ErrorKind| silence(&kind.into());
        assert_eq!(of(io::ErrorKind::ConnectionRefused), "the agent is not running");
        assert_eq!(of(io::ErrorKind::NotFound), "the agent is not running");
        assert_eq!(of(io::ErrorKind::WouldBlock), "the agent does not answer");
    }

    #[test]
    fn no_lab_no_agent() {
        let view = AgentView::of(&"no-lab-has-this-name".parse().unwrap());
        assert_eq!(view.agent, Agent::silent(0));
    }
}
