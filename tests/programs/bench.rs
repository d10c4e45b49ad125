//! The port program, loaded without pins, in a network namespace with ports to run it on.

use std::os::fd::AsFd;

use aya::{
    Ebpf, Pod, TestRun, TestRunOptions,
    maps::{Array, HashMap, Map, MapData, PerCpuArray},
    programs::SchedClassifier,
    util::nr_cpus,
};
use nix::{
    net::if_::if_nametoindex,
    time::{ClockId, clock_gettime},
};
use vethpath::{
    datapath::{OBJECT, Sizes, Table, load_program, loader, per_cpu},
    kernel::Netns,
};
use vethpath_common::{
    Config, Count, Entry, MatrixKey, PairCounters, PortRecord, Seen, Source, SourceKey, Station, StationKey,
    flags, names,
};

use super::{
    frames::Frame,
    world::{self, Agent, DOMAIN, Mac, Port},
};

/// The width of the matrix: more than there are pairs.
const WIDTH: u32 = 16;

/// Where entries of stations and counts between pairs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In slots and cells, as in most labs.
    Slots,
    /// In hash maps, as in labs with too many of them.
    Hashed,
    /// In hash maps, and the matrix has room for one cell.
    Crowded,
}

/// The program with full maps.
pub(crate) struct Bench {
    pub(crate) netns: Netns,
    pub(crate) object: Ebpf,
    ifindexes: Vec<u32>,
    storage: Storage,
}

/// What one run of the program did.
#[derive(Debug, PartialEq)]
pub(crate) struct RunResult {
    /// A `TC_ACT_*`.
    pub(crate) action: i32,
    pub(crate) mark: u32,
    pub(crate) priority: u32,
    pub(crate) bytes: Vec<u8>,
    /// What it added to the counters of each pair.
    pub(crate) counted: Vec<PairCounters>,
    /// Frames that it added to each path across trunks.
    pub(crate) crossed: Vec<u64>,
}

impl Bench {
    /// Makes the ports and fills the maps, with a valid lease.
    pub(crate) fn new() -> Self {
        Self::with_inner_ends(|_| String::new())
    }

    /// The same, with further arguments for the inner end in `ip link add ... peer ...`.
    pub(crate) fn with_inner_ends(words: impl Fn(Port) -> String + Sync) -> Self {
        Self::with(words, Storage::Slots)
    }

    /// The same, with nothing in slots and cells.
    pub(crate) fn hashed() -> Self {
        Self::with(|_| String::new(), Storage::Hashed)
    }

    /// The same, with room for one cell of the matrix.
    pub(crate) fn crowded() -> Self {
        Self::with(|_| String::new(), Storage::Crowded)
    }

    fn with(words: impl Fn(Port) -> String + Sync, storage: Storage) -> Self {
        let netns = Netns::create("programs").expect("a namespace (the tests need root)");
        let ifindexes = netns.run(|| {
            Port::ALL.map(|port| {
                let name = port.name();
                ip(&format!(
                    "link add {name} mtu 9000 type veth peer inner{} mtu 9000 {}",
                    port as u32,
                    words(port)
                ));
                ip(&format!("link set {name} addrgenmode none"));
                ip(&format!("link set {name} up"));
                if_nametoindex(name.as_str()).expect("it was just made")
            })
        });
        let sizes = Sizes::of(Port::ALL.len(), 2);
        // Few cells, since all are read for each frame.
        let width = if storage == Storage::Slots { WIDTH } else { 0 };
        let matrix = if storage == Storage::Crowded { 1 } else { sizes.matrix };
        let mut object =
            loader(&DOMAIN, &Sizes { width, matrix, ..sizes }).load(OBJECT).expect("the object loads");
        let program: &mut SchedClassifier = program(&mut object);
        load_program(program).expect("the verifier accepts the program");
        let ifindexes = ifindexes.expect("it is there").to_vec();
        let mut bench = Self { netns, object, ifindexes, storage };
        let ports = world::ports(|port| bench.ifindex(port));
        bench.fill(names::PORTS, &ports);
        bench.reset();
        bench.agent(Agent::Well);
        bench
    }

    /// Resets every station to its initial entry, without what programs have written.
    pub(crate) fn reset(&mut self) {
        let ifindex = |port: Port| self.ifindexes[port as usize];
        let (sources, stations) = (world::sources(ifindex), world::stations(ifindex));
        self.settle(names::SOURCE_SLOTS, names::SOURCES, &sources);
        self.settle(names::STATION_SLOTS, names::STATIONS, &stations);
    }

    fn settle<V: Entry<Key: Pod> + Pod>(&self, slots: &str, others: &str, entries: &[(V::Key, V)]) {
        let mut table = self.table(slots, others);
        for (key, value) in entries {
            // No program runs meanwhile.
            table.remove(key).expect("it may be removed");
            match self.storage {
                Storage::Slots => table.insert(key, value).expect("there is room"),
                Storage::Hashed | Storage::Crowded => {
                    table.insert_overflow(key, value).expect("there is room")
                }
            }
        }
    }

    /// One of the maps of stations.
    fn table<V: Entry<Key: Pod> + Pod>(&self, slots: &str, others: &str) -> Table<V> {
        let data = |name: &str| {
            let fd = data(self.object.map(name).expect("it has this map")).fd().as_fd().try_clone_to_owned();
            MapData::from_fd(fd.expect("a descriptor to be had")).expect("it is a map")
        };
        let others = HashMap::try_from(Map::HashMap(data(others))).expect("a hash");
        Table::of(&data(slots), others).expect("it can be mapped")
    }

    /// Stations as senders.
    pub(crate) fn sources(&self) -> Table<Source> {
        self.table(names::SOURCE_SLOTS, names::SOURCES)
    }

    /// Stations as receivers.
    pub(crate) fn stations(&self) -> Table<Station> {
        self.table(names::STATION_SLOTS, names::STATIONS)
    }

    /// Marks a port as one that the bridge does not learn on.
    pub(crate) fn disable_learning(&mut self, port: Port) {
        let ports = world::ports(|port| self.ifindexes[port as usize]);
        let (key, record) = ports[port as usize];
        self.fill(names::PORTS, &[(key, PortRecord { flags: record.flags | flags::NO_LEARNING, ..record })]);
    }

    fn fill<K: Pod, V: Pod>(&mut self, map: &str, entries: &[(K, V)]) {
        let mut map: HashMap<&mut MapData, K, V> =
            self.object.map_mut(map).expect("it has this map").try_into().expect("of this type");
        for (key, value) in entries {
            map.insert(key, value, 0).expect("there is room");
        }
    }

    /// Sets generation and lease.
    pub(crate) fn agent(&mut self, agent: Agent) {
        self.config(agent.config(now_ns()));
    }

    /// Sets generation and lease exactly.
    pub(crate) fn config(&mut self, config: Config) {
        let map = self.object.map_mut(names::CONFIG).expect("it has this map");
        let mut map: Array<&mut MapData, Config> = map.try_into().expect("an array");
        map.set(0, config, 0).expect("it has one element");
    }

    pub(crate) fn ifindex(&self, port: Port) -> u32 {
        self.ifindexes[port as usize]
    }

    /// Counters of all pairs. The first is that of no pair.
    pub(crate) fn counters(&self) -> Vec<PairCounters> {
        let mut counters = self.pair_counters();
        let cells = self.elements::<u32>(names::CELLS).into_iter();
        let cells = cells.map(|(index, cpus)| (MatrixKey::of_cell(index, WIDTH), cpus));
        for (MatrixKey { from, to }, cpus) in cells.chain(self.elements(names::MATRIX)) {
            let count = cpus.iter().fold(Count::default(), |sum, count| sum.plus(*count));
            if count == Count::default() {
                continue;
            }
            let (from, to) = (from as usize, to as usize);
            counters[from].fast_tx = counters[from].fast_tx.plus(count);
            counters[to].fast_rx = counters[to].fast_rx.plus(count);
        }
        counters
    }

    /// The same without what is in cells and in the matrix.
    pub(crate) fn pair_counters(&self) -> Vec<PairCounters> {
        let map = self.object.map(names::COUNTERS).expect("it has this map");
        let map: PerCpuArray<&MapData, PairCounters> = map.try_into().expect("per CPU");
        let sum = |pair| {
            let cpus = map.get(&pair, 0).expect("it has this pair");
            cpus.iter().fold(PairCounters::default(), |sum, count| sum.plus(count))
        };
        (0..=u32::try_from(Port::ALL.len()).expect("few")).map(sum).collect()
    }

    pub(crate) fn elements<K: Pod>(&self, map: &str) -> Vec<(K, Vec<Count>)> {
        let map = data(self.object.map(map).expect("it has this map"));
        per_cpu(map.fd().as_fd(), nr_cpus().expect("some")).expect("readable")
    }

    /// Frames by path across trunks. The first count is that of no path.
    fn crossings(&self) -> Vec<u64> {
        let map = self.object.map(names::CROSSINGS).expect("it has this map");
        let map: PerCpuArray<&MapData, Count> = map.try_into().expect("per CPU");
        let sum = |path| map.get(&path, 0).expect("it has this path").iter().map(|count| count.frames).sum();
        (0..3).map(sum).collect()
    }

    /// The entry of a station for the bridge of `near`.
    pub(crate) fn station(&self, near: Port, mac: Mac) -> Station {
        self.stations().get(&StationKey::new(near.bridge(), mac.into())).expect("it is there")
    }

    /// Sets until when a station of `port` is away, as the receiver of frames that enter by its bridge, or as a sender.
    pub(crate) fn set_away(&mut self, port: Port, station: u8, as_sender: bool, until: u64) {
        let mac = port.mac(station).into();
        if as_sender {
            let domain = DOMAIN.try_into().expect("a small number");
            let key = SourceKey::new(self.ifindex(port), mac, domain);
            let source = self.sources().get(&key).expect("it is there");
            let source = Source { away_until_ns: until, ..source };
            self.settle(names::SOURCE_SLOTS, names::SOURCES, &[(key, source)]);
        } else {
            let key = StationKey::new(port.bridge(), mac);
            let station = self.stations().get(&key).expect("it is there");
            let station = Station { away_until_ns: until, ..station };
            self.settle(names::STATION_SLOTS, names::STATIONS, &[(key, station)]);
        }
    }

    /// Until when a station of `port` is away, as the receiver of frames that enter by its bridge, or as a sender.
    pub(crate) fn away(&self, port: Port, station: u8, as_sender: bool) -> u64 {
        let mac = port.mac(station).into();
        let domain = DOMAIN.try_into().expect("a small number");
        let until = if as_sender {
            let source = self.sources().get(&SourceKey::new(self.ifindex(port), mac, domain));
            source.map(|source| source.away_until_ns)
        } else {
            self.stations().get(&StationKey::new(port.bridge(), mac)).map(|station| station.away_until_ns)
        };
        until.expect("it is there")
    }

    /// The bridges that fast frames of a station of `port` have crossed, by epoch.
    pub(crate) fn seen(&self, port: Port, station: u8) -> [Seen; 2] {
        let domain = DOMAIN.try_into().expect("a small number");
        let key = SourceKey::new(self.ifindex(port), port.mac(station).into(), domain);
        self.sources().get(&key).expect("it is there").seen
    }

    /// Runs the program once.
    pub(crate) fn run(&mut self, frame: &Frame) -> RunResult {
        let netns = self.netns.clone();
        netns.run(|| self.run_here(frame)).expect("it is there")
    }

    /// Runs the program on each frame, with the stations reset before it.
    pub(crate) fn run_each(&mut self, frames: &[Frame]) -> Vec<RunResult> {
        let netns = self.netns.clone();
        let run = |frame| {
            self.reset();
            self.run_here(frame)
        };
        netns.run(|| frames.iter().map(run).collect()).expect("it is there")
    }

    fn run_here(&mut self, frame: &Frame) -> RunResult {
        let (before, crossed_before) = (self.counters(), self.crossings());
        let ctx_in = context_of(frame, self.ifindex(frame.port));
        let mut ctx_out = [0; CONTEXT_SIZE];
        let mut bytes = vec![0; frame.bytes.len()];
        let options = TestRunOptions {
            data_in: Some(&frame.bytes),
            data_out: Some(&mut bytes),
            ctx_in: Some(&ctx_in),
            ctx_out: Some(&mut ctx_out),
            ..TestRunOptions::default()
        };
        let result = program(&mut self.object).test_run(options);
        let result = result.unwrap_or_else(|error| panic!("{error:?}: {frame:?}"));
        let counted = self.counters().iter().zip(&before).map(|(now, then)| minus(now, then)).collect();
        let crossed = self.crossings().iter().zip(crossed_before).map(|(now, then)| now - then).collect();
        RunResult {
            action: result.return_value.cast_signed(),
            mark: mark(&ctx_out),
            priority: priority(&ctx_out),
            bytes,
            counted,
            crossed,
        }
    }
}

pub(crate) fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::PerCpuHashMap(data) => data,
        other => panic!("{other:?} is no array or hash"),
    }
}

/// The program under test.
pub(crate) fn program(object: &mut Ebpf) -> &mut SchedClassifier {
    object.program_mut(names::PORT_INGRESS).expect("it is there").try_into().expect("it is for tc")
}

/// Runs `ip` in the calling thread's namespace.
pub(crate) fn ip(words: &str) {
    let output = std::process::Command::new("ip").args(words.split_whitespace()).output();
    let output = output.expect("ip is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `CLOCK_MONOTONIC`, as coarse as the program's clock.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("every Linux has it");
    std::time::Duration::from(now).as_nanos().try_into().expect("less than 500 years")
}

/// The difference of two counters, which consist of u64 only.
fn minus(now: &PairCounters, then: &PairCounters) -> PairCounters {
    let (now, then): (&[u64], &[u64]) =
        (bytemuck::cast_slice(std::slice::from_ref(now)), bytemuck::cast_slice(std::slice::from_ref(then)));
    let numbers: Vec<u64> = now.iter().zip(then).map(|(now, then)| now - then).collect();
    *bytemuck::from_bytes(bytemuck::cast_slice(&numbers))
}

/// Bytes of a context.
const CONTEXT_SIZE: usize = 192;

// `struct __sk_buff` of linux/bpf.h as bytes: offsets of the fields that `BPF_PROG_TEST_RUN` accepts or returns
// (`convert___skb_to_skb` in net/bpf/test_run.c).
const MARK: usize = 8;
const PRIORITY: usize = 32;
const IFINDEX: usize = 40;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

/// The mark of every frame, which shows whether the program scrubs it.
pub(crate) const MARKED: u32 = 0x6d;
/// The priority of every frame, as [`MARKED`].
pub(crate) const PRIORITISED: u32 = 7;

/// The context of a frame that enters by a device.
pub(crate) fn context_of(frame: &Frame, ifindex: u32) -> [u8; CONTEXT_SIZE] {
    let mut bytes = [0; CONTEXT_SIZE];
    let mut set = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    set(MARK, MARKED);
    set(PRIORITY, PRIORITISED);
    set(IFINDEX, ifindex);
    set(GSO_SEGS, frame.gso_segs);
    set(GSO_SIZE, frame.gso_size);
    bytes
}

fn mark(context: &[u8; CONTEXT_SIZE]) -> u32 {
    field(context, MARK)
}

fn priority(context: &[u8; CONTEXT_SIZE]) -> u32 {
    field(context, PRIORITY)
}

fn field(context: &[u8; CONTEXT_SIZE], at: usize) -> u32 {
    u32::from_ne_bytes(context[at..at + 4].try_into().expect("four bytes"))
}
