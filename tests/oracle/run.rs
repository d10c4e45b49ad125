//! Both worlds side by side, through one script after another.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

use super::{
    agent::{Agent, Fate},
    frame::Frame,
    maps::{Books, Counters},
    names::Names,
    operation::{Command, Operation},
    passes::{OneCpu, Passes},
    sabotage::Sabotage,
    step::Step,
    world::World,
};
use crate::harness::Arrival;

/// What takes longer to become equal is different. Frames have arrived when this begins, and commands
/// have ended; it is for what the kernel does in its own time.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where differences are expected, and one too many does not matter.
const HASTE: Duration = Duration::from_millis(100);

/// What a run has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Steps taken.
    pub(crate) steps: u64,
    /// Frames that came out somewhere.
    pub(crate) arrived: u64,
    /// Of these, those that took the fast path in the accelerated world.
    pub(crate) fast: u64,
}

/// A plain world and an accelerated one.
pub(crate) struct Run {
    names: Names,
    text: String,
    netfilter: bool,
    worlds: Option<Pair>,
    sabotage: Option<Box<dyn Sabotage>>,
    patience: Duration,
    passes: Passes,
    number: u32,
    pub(crate) tally: Tally,
}

struct Pair {
    plain: World,
    accelerated: World,
    counters: Counters,
}

impl Run {
    /// With worlds of this topology, whose bridges call netfilter or do not.
    pub(crate) fn of(text: &str, netfilter: bool) -> Self {
        let names = Names::of(text);
        let worlds = Some(Pair::new(text, netfilter, &names));
        Self {
            names,
            text: text.to_owned(),
            netfilter,
            worlds,
            sabotage: None,
            patience: PATIENCE,
            passes: Passes::new(),
            number: 0,
            tally: Tally::default(),
        }
    }

    /// From here on, with something wrong in the accelerated world.
    pub(crate) fn sabotage(&mut self, sabotage: Box<dyn Sabotage>) {
        self.sabotage = Some(sabotage);
        self.patience = HASTE;
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Takes all steps of a script from the start state; fails at the first difference.
    pub(crate) fn take(&mut self, script: &[Step]) -> Result<(), String> {
        if self.worlds.is_none() {
            self.worlds = Some(Pair::new(&self.text, self.netfilter, &self.names));
        }
        let taken = self.start().and_then(|()| self.follow(script));
        let undone = self.undo(script);
        if undone.is_err() {
            self.worlds = None;
        }
        taken
    }

    fn worlds(&self) -> &Pair {
        self.worlds.as_ref().expect("there are worlds while a script is taken")
    }

    /// Makes the bridges know all hosts, as `up` does.
    fn start(&mut self) -> Result<(), String> {
        let mut commands = Vec::new();
        for (bridge, _) in self.names.bridges() {
            commands.push(format!("ip link set {bridge} type bridge fdb_flush"));
        }
        for end in &self.names.ends {
            let mac = super::names::written(end.mac);
            commands.push(format!("bridge fdb replace {mac} dev {} master dynamic use", end.port));
        }
        for words in commands {
            self.both(|world| world.run(&Command { inside: None, words: words.clone() }))?;
        }
        self.settle();
        self.same("FDBs at the start", self.patience, World::fdb)
    }

    fn follow(&mut self, script: &[Step]) -> Result<(), String> {
        for (number, step) in (1..).zip(script) {
            let taken = match step {
                Step::Frame(frame) => self.frame(frame),
                Step::Operation(operation) => self.operation(operation),
                Step::Agent(fate) => self.agent(*fate),
            };
            taken.map_err(|difference| format!("after step {number} ({step}): {difference}"))?;
            self.tally.steps += 1;
        }
        self.same("FDBs at the end", self.patience, World::fdb)
    }

    /// Sends a frame in both worlds, and compares what comes.
    fn frame(&mut self, frame: &Frame) -> Result<(), String> {
        self.number = self.number.wrapping_add(1);
        let (bytes, offload) = frame.bytes(&self.names, self.number);
        let pair = self.worlds.as_ref().expect("there are worlds while a script is taken");
        let before = pair.counters.fast();
        let sent = {
            let _stay = OneCpu::stay();
            let sent = pair.worlds().map(|world| world.send(frame.by, &bytes, offload));
            // To the port, to the next bridge, to the host; and one more to be safe.
            self.passes.wait(self.names.trunks + 3);
            sent
        };
        if sent[0] != sent[1] {
            return Err(format!("sending: {sent:?}"));
        }
        let arrived = same_arrivals(pair, self.netfilter, self.patience)?;
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

    /// Does something in both worlds, and waits until it is done.
    fn operation(&mut self, operation: &Operation) -> Result<(), String> {
        self.restore();
        for command in operation.commands(&self.names) {
            // One that fails in both is no difference.
            let _ = self.both(|world| world.run(&command))?;
        }
        if operation.moves_links() {
            self.same("links", PATIENCE, World::links)?;
        }
        self.settle();
        self.same("FDBs", self.patience, World::fdb)
    }

    /// Does something to the agent. `up` puts right what it finds changed, and so is run in both.
    fn agent(&mut self, fate: Fate) -> Result<(), String> {
        self.restore();
        let accelerated = &self.worlds().accelerated;
        accelerated.to_agent(|agent| agent.meets(fate, || Books::of(accelerated).lease_holds));
        if matches!(fate, Fate::Replaced | Fate::Back) {
            self.both(World::up)?;
            self.worlds().accelerated.to_agent(Agent::is_back);
            self.same("links", PATIENCE, World::links)?;
        }
        self.settle();
        self.same("FDBs", self.patience, World::fdb)
    }

    /// Back to the start state, but for what was learned.
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
            let _ = self.both(|world| Ok::<_, ()>(world.run(&command)));
        }
        let pair = self.worlds();
        let _ = pair.worlds().map(World::arrivals);
        if operations.iter().any(|operation| operation.moves_links()) {
            self.same("links", PATIENCE, World::links)?;
        }
        Ok(())
    }

    /// Waits until both worlds have taken in what was done.
    fn settle(&mut self) {
        self.restore();
        let pair = self.worlds.as_ref().expect("there are worlds while a script is taken");
        pair.worlds().into_iter().for_each(World::settle);
        if let Some(sabotage) = &mut self.sabotage {
            sabotage.spoil(&pair.accelerated);
        }
    }

    /// Takes sabotage back, so that the agent finds what it left.
    fn restore(&mut self) {
        if let (Some(sabotage), Some(pair)) = (&mut self.sabotage, &self.worlds) {
            sabotage.restore(&pair.accelerated);
        }
    }

    /// Does something in both worlds at once. That it fails in one alone is a difference.
    fn both<T: Send, E: Send + Debug>(
        &self,
        work: impl Fn(&World) -> Result<T, E> + Sync,
    ) -> Result<(), String> {
        let [plain, accelerated] = self.worlds().worlds();
        let done = thread::scope(|scope| {
            let other = scope.spawn(|| work(accelerated));
            [work(plain), other.join().expect("it does not panic")]
        });
        match done {
            [Ok(_), Ok(_)] | [Err(_), Err(_)] => Ok(()),
            [Err(error), Ok(_)] => Err(format!("it fails in the plain world alone: {error:?}")),
            [Ok(_), Err(error)] => Err(format!("it fails in the accelerated world alone: {error:?}")),
        }
    }

    /// Looks until both worlds look the same.
    fn same<T>(&self, what: &str, patience: Duration, look: impl Fn(&World) -> T + Sync) -> Result<(), String>
    where
        T: PartialEq + IntoIterator<Item = String> + Clone + Send,
    {
        let start = Instant::now();
        loop {
            let [plain, accelerated] = self.worlds().worlds();
            let seen = thread::scope(|scope| {
                let other = scope.spawn(|| look(accelerated));
                [look(plain), other.join().expect("it does not panic")]
            });
            if seen[0] == seen[1] {
                return Ok(());
            }
            if start.elapsed() > patience {
                let [plain, accelerated] = seen.map(|lines| lines.into_iter().collect::<Vec<_>>());
                return Err(format!("{what}:\n{}", differences(&plain, &accelerated)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Pair {
    fn new(text: &str, netfilter: bool, names: &Names) -> Self {
        let [plain, accelerated] = [false, true].map(|fast| World::new(text, fast, netfilter, names));
        let counters = Counters::of(&accelerated, names.ends.len());
        Self { plain, accelerated, counters }
    }

    fn worlds(&self) -> [&World; 2] {
        [&self.plain, &self.accelerated]
    }
}

/// Compares what has come. Tells whether anything has.
fn same_arrivals(pair: &Pair, netfilter: bool, patience: Duration) -> Result<bool, String> {
    let start = Instant::now();
    let mut arrived: [Vec<(usize, Arrival)>; 2] = Default::default();
    loop {
        for (arrived, world) in arrived.iter_mut().zip(pair.worlds()) {
            arrived.extend(
                world.arrivals().into_iter().map(|(end, arrival)| {
                    (end, if netfilter { without_fragment_id(arrival) } else { arrival })
                }),
            );
            arrived.sort();
        }
        let [plain, accelerated] = &arrived;
        if plain == accelerated {
            return Ok(!plain.is_empty());
        }
        if start.elapsed() > patience {
            let lines = |arrived: &[(usize, Arrival)]| -> Vec<String> {
                arrived.iter().map(|(end, arrival)| format!("h{end} gets {arrival:?}")).collect()
            };
            return Err(format!("frames:\n{}", differences(&lines(plain), &lines(accelerated))));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A bridge that calls netfilter makes fragments of an IPv6 packet that does not fit, and numbers them
/// at random (`ipv6_select_ident`, by way of `br_nf_ip_fragment`): two plain bridges differ there too.
fn without_fragment_id(mut arrival: Arrival) -> Arrival {
    const FRAGMENT: u8 = 44;
    if arrival.bytes.get(12..14) == Some(&[0x86, 0xdd]) && arrival.bytes.get(20) == Some(&FRAGMENT) {
        arrival.bytes.iter_mut().skip(14 + 40 + 4).take(4).for_each(|byte| *byte = 0);
    }
    arrival
}

/// Lines that are in one alone.
fn differences(plain: &[String], accelerated: &[String]) -> String {
    let only = |these: &[String], those: &[String], name: &str| -> String {
        let only = these.iter().filter(|line| !those.contains(line));
        only.map(|line| format!("  {name} alone: {line}\n")).collect()
    };
    let lines = only(plain, accelerated, "plain") + &only(accelerated, plain, "accelerated");
    match lines.is_empty() {
        true => format!("  in another number: {plain:?}\n  {accelerated:?}\n"),
        false => lines,
    }
}
