//! The status of a lab's agent, and the states of pairs and trunks that it reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    time::Duration,
};

use serde::{Serialize, Serializer};

use super::ends::{self, Inner};
use crate::{
    agent::{
        NotArmed,
        status::{self, Ends},
    },
    datapath::{Maps, Pins},
    kernel::{self, clock::Clock},
    state::Directory,
    topology::{Datapath, LabName, Pair, Trunk},
};

/// The status of a lab's agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Whether it replies.
    pub alive: bool,
    /// Its process id, if it replies.
    pub pid: Option<u32>,
    /// The lease, in milliseconds, which it renews each second. 0 if it does not reply.
    pub lease_ms: u64,
    /// The remaining time of the lease, in milliseconds. The fast path continues that long without its agent.
    pub lease_left_ms: u64,
    /// Its capabilities. Empty if it does not reply.
    pub capabilities: Vec<String>,
    /// What rules of netfilter certainly drop of the lab's packets. Empty if it does not reply.
    pub drops: BTreeSet<String>,
}

impl Agent {
    /// An agent that does not reply.
    fn silent(lease_left_ms: u64) -> Self {
        Self {
            alive: false,
            pid: None,
            lease_ms: 0,
            lease_left_ms,
            capabilities: Vec::new(),
            drops: BTreeSet::new(),
        }
    }
}

/// Whether a port takes part in the fast path. Serialized as printed: `armed`, or the reason why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes part.
    Armed,
    /// It does not take part, for this reason.
    NotArmed(String),
}

impl State {
    /// The state of a port that is not the lab's, on a bridge of the lab.
    #[must_use]
    pub fn of_foreign() -> Self {
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

/// The reason why a pair or trunk is not armed, by name. `None` if it is armed.
type States = BTreeMap<String, Option<String>>;

/// An agent's reply.
#[derive(Clone, Debug, Default)]
struct Reply {
    pairs: States,
    trunks: States,
    ends: BTreeMap<String, Ends>,
    guests: States,
    words: BTreeMap<String, String>,
}

/// An agent's status and reply.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// Its status.
    pub agent: Agent,
    /// Its reply, or why there is none.
    reply: Result<Reply, &'static str>,
    /// The inner ends with their counters, by pair, if they have been read: see [`ends::known`].
    inner: Option<Inner>,
}

impl AgentView {
    /// Queries the agent of a lab. The timeout is two seconds if it is stopped or hangs.
    #[must_use]
    pub fn of(lab: &LabName) -> Self {
        let lease = || lease_left(&Pins::of(lab));
        match status::query_with(&Directory::of(lab).socket(), lease) {
            Ok((status, lease_left_ms)) => {
                let status::Status { pid, lease_ms, ports, trunks, ends, capabilities, drops, words, .. } =
                    status;
                let guests = status.guests.into_iter().map(|guest| (guest.name, guest.reason)).collect();
                Self {
                    agent: Agent {
                        alive: true,
                        pid: Some(pid),
                        lease_ms,
                        lease_left_ms,
                        capabilities,
                        drops,
                    },
                    reply: Ok(Reply { pairs: ports, trunks, ends, guests, words }),
                    inner: None,
                }
            }
            Err(error) => Self { agent: Agent::silent(lease()), reply: Err(silence(&error)), inner: None },
        }
    }

    /// The same, and then reads the inner ends that the agent knows. In a large lab both take about as long as the
    /// record, which another thread may read at the same time.
    ///
    /// # Errors
    /// The kernel refuses a request that root may make.
    pub fn with_inner_ends(lab: &LabName) -> kernel::Result<Self> {
        let mut view = Self::of(lab);
        view.inner = Some(ends::known(&view)?);
        Ok(view)
    }

    /// Takes the inner ends with their counters, if they have been read. If they are needed again, they are read again.
    pub(super) fn take_inner(&mut self) -> Option<Inner> {
        self.inner.take()
    }

    /// The ends of all pairs as the agent last saw them, by pair.
    pub(super) fn all_ends(&self) -> impl Iterator<Item = (&String, &Ends)> {
        self.reply.iter().flat_map(|reply| &reply.ends)
    }

    /// A pair's state on the fast path.
    #[must_use]
    pub fn state(&self, pair: &Pair) -> State {
        self.state_of(pair, &pair.name())
    }

    /// The same of a pair whose name is at hand.
    pub(super) fn state_of(&self, pair: &Pair, name: &str) -> State {
        if pair.datapath == Datapath::Bridge {
            // With or without an agent.
            return State::NotArmed(NotArmed::NotWanted.to_string());
        }
        self.look_up(name, |reply| &reply.pairs, "the agent does not know the pair")
    }

    /// A trunk's state on the fast path.
    #[must_use]
    pub fn trunk_state(&self, trunk: &Trunk) -> State {
        self.look_up(&trunk.name(), |reply| &reply.trunks, "the agent does not know the trunk")
    }

    /// A guest port's state on the fast path, by its name.
    #[must_use]
    pub fn guest_state(&self, name: &str) -> State {
        self.look_up(name, |reply| &reply.guests, "the agent does not know the port")
    }

    /// Whether the agent knows a guest port of this name.
    #[must_use]
    pub fn knows_guest(&self, name: &str) -> bool {
        self.reply.as_ref().is_ok_and(|reply| reply.guests.contains_key(name))
    }

    /// One word for why each pair, trunk and guest port is not armed, by name, as the agent has them. None if it does not
    /// reply.
    #[must_use]
    pub fn words(&self) -> BTreeMap<String, String> {
        self.reply.as_ref().map(|reply| reply.words.clone()).unwrap_or_default()
    }

    /// The ends of a pair with this name as the agent last saw them. `None` if the pair's bridge was in another namespace then:
    /// during an update of the lab the agent still follows the former topology.
    #[must_use]
    pub fn ends(&self, pair: &Pair, name: &str) -> Option<&Ends> {
        self.reply.as_ref().ok()?.ends.get(name).filter(|ends| ends.place == pair.place)
    }

    fn look_up(&self, name: &str, states: impl Fn(&Reply) -> &States, unknown: &str) -> State {
        match &self.reply {
            Err(why) => State::NotArmed((*why).to_owned()),
            Ok(reply) => match states(reply).get(name) {
                Some(None) => State::Armed,
                Some(Some(reason)) => State::NotArmed(reason.clone()),
                None => State::NotArmed(unknown.to_owned()),
            },
        }
    }
}

/// Why the agent did not reply.
fn silence(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "the agent is not running",
        _ => "the agent does not answer",
    }
}

/// The remaining time of the programs' lease, in milliseconds. 0 if there are no maps.
fn lease_left(pins: &Pins) -> u64 {
    let Ok(config) = Maps::open(pins).map(|maps| maps.config()) else { return 0 };
    let Ok(now) = Clock::open().and_then(|clock| clock.now()) else { return 0 };
    let left = Duration::from_nanos(config.lease_until_ns).saturating_sub(now);
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl AgentView {
    /// The view of a running agent that knows these ends, by pair.
    pub(super) fn knowing(ends: BTreeMap<String, Ends>) -> Self {
        Self {
            agent: Agent { alive: true, ..Agent::silent(0) },
            reply: Ok(Reply { ends, ..Reply::default() }),
            inner: None,
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
        AgentView { agent, reply: pairs.map(|pairs| Reply { pairs, ..Reply::default() }), inner: None }
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
