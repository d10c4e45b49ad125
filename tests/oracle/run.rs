//! Runs one script after another in both worlds.

use std::time::Duration;

use super::{
    Datapath,
    agent::{Agent, Fate},
    maps::MapEntries,
    names::Names,
    operation::{Command, Operation},
    pair::{Drain, Pair},
    sabotage::Sabotage,
    script::{Frame, Step},
    world::World,
};
use crate::harness::{CpuPin, format_mac};

/// Worlds that do not become equal within this time differ. Frames have arrived and commands have ended when it begins,
/// so it covers only asynchronous work of the kernel.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The same for links, which the kernel may update later on a loaded machine.
const FOR_LINKS: Duration = Duration::from_secs(30);
/// The same where differences are expected, and a false one does no harm.
const SHORT_TIMEOUT: Duration = Duration::from_millis(40);

/// The counts of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Steps taken.
    pub(crate) steps: u64,
    /// Frames that arrived at a host.
    pub(crate) arrived: u64,
    /// Of these, those that took the fast path in the accelerated world.
    pub(crate) fast: u64,
    /// Frames that XDP redirected there.
    pub(crate) by_xdp: u64,
}

/// A plain world and an accelerated one.
pub(crate) struct Run {
    names: Names,
    text: String,
    netfilter: bool,
    datapath: Datapath,
    worlds: Option<Pair>,
    sabotage: Option<Box<dyn Sabotage>>,
    timeout: Duration,
    drain: Drain,
    number: u32,
    pub(crate) tally: Tally,
}

impl Run {
    /// Makes worlds of this topology, whose bridges call netfilter or do not.
    pub(crate) fn of(text: &str, netfilter: bool) -> Self {
        Self::by(Datapath::Tc, text, netfilter)
    }

    /// The same, with this datapath.
    pub(crate) fn by(datapath: Datapath, text: &str, netfilter: bool) -> Self {
        let names = Names::of(text);
        let worlds = Some(Pair::new(text, netfilter, datapath, &names));
        Self {
            names,
            text: text.to_owned(),
            netfilter,
            datapath,
            worlds,
            sabotage: None,
            timeout: TIMEOUT,
            drain: Drain::new(),
            number: 0,
            tally: Tally::default(),
        }
    }

    /// Sabotages the accelerated world from here on.
    pub(crate) fn sabotage(&mut self, sabotage: impl Sabotage + 'static) {
        self.restore();
        self.sabotage = Some(Box::new(sabotage));
        self.timeout = SHORT_TIMEOUT;
    }

    /// Whether the accelerated world is sabotaged.
    pub(crate) fn is_sabotaged(&self) -> bool {
        self.sabotage.is_some()
    }

    /// Uses the full timeout, for sabotage that must make no difference.
    pub(crate) fn use_full_timeout(&mut self) {
        self.timeout = TIMEOUT;
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Runs a script from the initial state, and fails at the first difference. With the short timeout, a delay
    /// looks like a difference, so the difference must then occur twice.
    pub(crate) fn run_script(&mut self, script: &[Step]) -> Result<(), String> {
        match self.run_script_once(script) {
            Err(_) if self.timeout == SHORT_TIMEOUT => self.run_script_once(script),
            result => result,
        }
    }

    fn run_script_once(&mut self, script: &[Step]) -> Result<(), String> {
        if self.worlds.is_none() {
            self.worlds = Some(Pair::new(&self.text, self.netfilter, self.datapath, &self.names));
        }
        let before = self.worlds().counters.by_xdp();
        let result = self.start().and_then(|()| self.run_steps(script));
        let undone = self.undo(script);
        self.tally.by_xdp += self.worlds().counters.by_xdp().saturating_sub(before);
        // A script that is shrunk must begin from the initial state, whatever the difference has left.
        if undone.is_err() || (result.is_err() && self.sabotage.is_none()) {
            self.worlds = None;
        }
        result
    }

    /// Whether the fast frames took the datapath under test.
    pub(crate) fn is_by_its_datapath(&self) -> bool {
        let Tally { fast, by_xdp, .. } = self.tally;
        if self.datapath == Datapath::Tc { by_xdp == 0 } else { by_xdp * 2 >= fast }
    }

    fn worlds(&self) -> &Pair {
        self.worlds.as_ref().expect("there are worlds while a script is taken")
    }

    /// Adds FDB entries for all hosts, as `up` does.
    fn start(&mut self) -> Result<(), String> {
        let (mut flush, mut know) = (String::new(), String::new());
        for (bridge, _) in self.names.bridges() {
            flush += &format!("link set {bridge} type bridge fdb_flush\n");
        }
        for (end, port) in self.names.ends.iter().zip(&self.names.ports) {
            know += &format!("fdb replace {} dev {} master dynamic use\n", format_mac(end.mac), port.name);
        }
        self.worlds().both(|world| {
            world.batch("ip", &flush)?;
            world.batch("bridge", &know)
        })?;
        self.settle();
        self.worlds().same_fdbs(self.timeout)
    }

    fn run_steps(&mut self, script: &[Step]) -> Result<(), String> {
        for (number, step) in (1..).zip(script) {
            let result = match step {
                Step::Frame(frame) => self.frame(frame),
                Step::Operation(operation) => self.operation(operation),
                Step::Agent(fate) => self.agent(*fate),
            };
            result.map_err(|difference| format!("after step {number} ({step}): {difference}"))?;
            self.tally.steps += 1;
        }
        self.worlds().same_fdbs(self.timeout)?;
        self.worlds().same_fdbs_by_bridge(self.timeout)?;
        self.worlds().same_links_by_ip(FOR_LINKS)
    }

    /// Sends a frame in both worlds, and compares what arrives.
    fn frame(&mut self, frame: &Frame) -> Result<(), String> {
        self.number = self.number.wrapping_add(1);
        let (bytes, offload) = frame.bytes(&self.names, self.number);
        let pair = self.worlds.as_ref().expect("there are worlds while a script is taken");
        let before = pair.counters.fast();
        let sent = {
            let _pin = CpuPin::new();
            let sent = pair.worlds().map(|world| world.send(frame.by, &bytes, offload));
            // To the port, across each trunk, to the host; and one more to be safe.
            self.drain.wait(self.names.trunks + 3);
            sent
        };
        if sent[0] != sent[1] {
            return Err(format!("sending: {sent:?}"));
        }
        let arrived = pair.same_arrivals(self.timeout)?;
        if arrived {
            self.tally.arrived += 1;
            self.tally.fast += u64::from(pair.counters.fast() > before);
        }
        let learned = pair.worlds().map(World::has_learned);
        if learned != [false; 2] {
            self.settle();
        }
        Ok(())
    }

    /// Runs an operation in both worlds, and waits until it is complete.
    fn operation(&mut self, operation: &Operation) -> Result<(), String> {
        self.restore();
        for command in operation.commands(&self.names) {
            // A failure in both is no difference.
            self.worlds().both(|world| world.run(&command))?;
        }
        if operation.moves_links() {
            self.worlds().same_links(FOR_LINKS)?;
        }
        self.settle();
        self.worlds().same_fdbs(self.timeout)
    }

    /// Signals the agent. `up` repairs what it finds changed, and so runs in both worlds.
    fn agent(&mut self, fate: Fate) -> Result<(), String> {
        self.restore();
        let accelerated = &self.worlds().accelerated;
        accelerated.with_agent(|agent| agent.apply(fate, || MapEntries::of(accelerated).lease_holds));
        if matches!(fate, Fate::Replaced | Fate::Back) {
            self.worlds().both(World::up)?;
            self.worlds().accelerated.with_agent(Agent::set_running);
            self.worlds().same_links(FOR_LINKS)?;
        }
        self.settle();
        self.worlds().same_fdbs(self.timeout)
    }

    /// Restores the initial state, except for learned entries.
    fn undo(&mut self, script: &[Step]) -> Result<(), String> {
        if script.iter().any(|step| matches!(step, Step::Agent(_))) {
            self.agent(Fate::Back)?;
        }
        self.restore();
        let mut operations: Vec<_> = script
            .iter()
            .filter_map(|step| match step {
                Step::Operation(operation) => Some(operation),
                Step::Frame(_) | Step::Agent(_) => None,
            })
            .collect();
        operations.sort_by_key(|operation| operation.order());
        let mut commands: Vec<Command> = Vec::new();
        for command in operations.iter().flat_map(|operation| operation.undone(&self.names)) {
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
        for command in commands {
            // It may be undone already, in one world or in both.
            let _ = self.worlds().both(|world| world.run(&command));
        }
        let pair = self.worlds();
        let _ = pair.worlds().map(World::arrivals);
        if operations.iter().any(|operation| operation.moves_links()) {
            self.worlds().same_links(FOR_LINKS)?;
        }
        Ok(())
    }

    /// Waits until both worlds have processed all changes.
    fn settle(&mut self) {
        self.restore();
        let pair = self.worlds.as_ref().expect("there are worlds while a script is taken");
        pair.worlds().into_iter().for_each(World::settle);
        if let Some(sabotage) = &mut self.sabotage {
            pair.accelerated.while_agent_stopped(|| sabotage.spoil(&pair.accelerated));
        }
    }

    /// Reverts the sabotage, so that the agent finds the entries that it wrote.
    fn restore(&mut self) {
        if let (Some(sabotage), Some(pair)) = (&mut self.sabotage, &self.worlds) {
            pair.accelerated.while_agent_stopped(|| sabotage.restore(&pair.accelerated));
        }
    }
}
