//! One row of a table: a frame, and exactly what is expected.

use vethpath_common::{Count, PairCounters, Reason};

use super::{
    bench::{Bench, MARKED, PRIORITISED, RunResult},
    frames::Frame,
    world::{Agent, Port},
};

/// `TC_ACT_UNSPEC`: passed to the next program, and to the bridge.
pub(crate) const TC_ACT_UNSPEC: i32 = -1;
/// `TC_ACT_REDIRECT`.
pub(crate) const TC_ACT_REDIRECT: i32 = 7;

/// The expected verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Redirected to the peer of this port.
    Peer(Port),
    /// Redirected to this port.
    Via(Port),
    /// Passed to the bridge.
    Pass(Reason),
}

/// A row.
pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) agent: Agent,
    pub(crate) frame: Frame,
    pub(crate) verdict: Verdict,
}

/// A frame while the lease holds.
pub(crate) fn case(what: &'static str, frame: Frame, verdict: Verdict) -> Case {
    Case { what, agent: Agent::Well, frame, verdict }
}

/// A frame that is redirected to the peer of B.
pub(crate) fn fast(what: &'static str, frame: Frame) -> Case {
    case(what, frame, Verdict::Peer(Port::B))
}

/// A frame that is passed to the bridge.
pub(crate) fn pass(what: &'static str, reason: Reason, frame: Frame) -> Case {
    case(what, frame, Verdict::Pass(reason))
}

impl Case {
    pub(crate) fn when(mut self, agent: Agent) -> Self {
        self.agent = agent;
        self
    }

    /// Runs the case, and returns all mismatches.
    fn faults(&self, bench: &mut Bench) -> Vec<String> {
        bench.reset();
        bench.agent(self.agent);
        let ran = bench.run(&self.frame);
        let mut faults = Vec::new();
        let mut same = |what: &str, found: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
            let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
            if found != expected {
                faults.push(format!("{}: {what} is {found}, not {expected}", self.what));
            }
        };
        let (action, scrubbed) = match self.verdict {
            Verdict::Peer(_) => (TC_ACT_REDIRECT, true),
            Verdict::Via(_) => (TC_ACT_REDIRECT, false),
            Verdict::Pass(_) => (TC_ACT_UNSPEC, false),
        };
        same("the action", &ran.action, &action);
        same("the mark", &ran.mark, &if scrubbed { 0 } else { MARKED });
        same("the priority", &ran.priority, &if scrubbed { 0 } else { PRIORITISED });
        same("whether the bytes are the same", &(ran.bytes == self.frame.bytes), &true);
        same("what is counted", &nonzero(&ran.counted), &nonzero(&self.counts(&ran)));
        same("what crossed trunks", &ran.crossed, &self.crossed());
        faults
    }

    /// Expected frames by path across trunks. The first count is that of no path.
    fn crossed(&self) -> [u64; 3] {
        let mut crossed = [0; 3];
        if let Verdict::Peer(to) | Verdict::Via(to) = self.verdict
            && let path @ 1.. = self.frame.port.path_to(to)
        {
            crossed[path as usize] = 1;
        }
        crossed
    }

    /// The expected counters of all pairs.
    fn counts(&self, ran: &RunResult) -> Vec<PairCounters> {
        let mut pairs = vec![PairCounters::default(); ran.counted.len()];
        let packets = u64::from(self.frame.gso_segs.max(1));
        let count = Count { frames: 1, packets, bytes: self.frame.bytes.len() as u64 };
        let from = self.frame.port.pair() as usize;
        match self.verdict {
            Verdict::Peer(to) | Verdict::Via(to) => {
                pairs[from].fast_tx = count;
                pairs[to.pair() as usize].fast_rx = count;
            }
            Verdict::Pass(reason) => pairs[from].slow[reason as usize] = count,
        }
        pairs
    }
}

/// The counters that are not zero, as text.
fn nonzero(pairs: &[PairCounters]) -> Vec<String> {
    let mut words = Vec::new();
    for (pair, counters) in pairs.iter().enumerate() {
        let slow = Reason::ALL.into_iter().map(|reason| (reason.name(), counters.slow[reason as usize]));
        let fast = [("fast tx", counters.fast_tx), ("fast rx", counters.fast_rx)];
        for (name, Count { frames, packets, bytes }) in fast.into_iter().chain(slow) {
            if (frames, packets, bytes) != (0, 0, 0) {
                words.push(format!("pair {pair} {name}: {frames} frames {packets} packets {bytes} bytes"));
            }
        }
    }
    words
}

/// Runs a table, and shows all mismatches.
#[track_caller]
pub(crate) fn check(cases: &[Case]) {
    let mut benches = [Bench::new(), Bench::hashed()];
    let faults = benches.iter_mut().flat_map(|bench| cases.iter().flat_map(|case| case.faults(bench)));
    let faults: Vec<_> = faults.collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
