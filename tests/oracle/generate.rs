//! Random scripts: how they are generated, run until one shows a difference, and shrunk.

use std::{cell::RefCell, env};

use proptest::{
    collection::vec,
    option::weighted,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::select,
    strategy::BoxedStrategy,
    test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner},
};

use super::{
    agent::Fate,
    names::Address,
    operation::{Link, Operation},
    run::{Run, Tally},
    script::{Frame, Part, Payload, Step, script},
};
use crate::harness::sized;

/// The maximum number of steps of a script.
pub(crate) const LONGEST: usize = 40;

/// Port states that do not change by themselves. A listening or learning port changes state when a timer expires 15 s
/// after it came up, with or without spanning tree, and the two worlds' timers differ by milliseconds
/// (`br_make_forwarding` and `br_forward_delay_timer_expired` in net/bridge).
pub(crate) const STATES: [u8; 3] = [3, 0, 4];

/// Scripts for a lab with this many hosts and ports. The first ports are the hosts'.
pub(crate) fn scripts(hosts: usize, ports: usize, longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let opening = weighted(0.3, opening(hosts)).prop_map(Option::unwrap_or_default);
    (opening, vec(step(hosts, ports), 1..=longest)).prop_map(|(opening, steps)| [opening, steps].concat())
}

/// Two steps that matter only together, which chance would hardly ever combine.
fn opening(hosts: usize) -> impl Strategy<Value = Vec<Step>> {
    let isolated = |port| Operation::Flag { port, flag: "isolated", on: true }.into();
    let speaks = |end, number| {
        Frame::new(end, Address::Broadcast, Payload::Udp4(20)).from(Address::Behind(end, number))
    };
    prop_oneof![
        (host(hosts), host(hosts)).prop_map(move |(first, second)| vec![isolated(first), isolated(second)]),
        (host(hosts), host(hosts))
            .prop_map(move |(first, second)| vec![speaks(first, 1).into(), speaks(second, 2).into()]),
    ]
}

/// Prefers the first two hosts, so that steps interact.
fn host(hosts: usize) -> impl Strategy<Value = usize> + Clone {
    prop_oneof![2 => 0..2_usize, 1 => 0..hosts]
}

fn step(hosts: usize, ports: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        600 => frame(hosts).prop_map(Step::Frame),
        100 => operation(hosts, ports).prop_map(Step::Operation),
        // These are slow.
        1 => select(vec![Fate::Replaced, Fate::Ended, Fate::Back]).prop_map(Step::Agent),
    ]
}

fn frame(hosts: usize) -> impl Strategy<Value = Frame> {
    let cut = weighted(0.05, 14..120_usize);
    let twist = weighted(0.1, (0..60_usize, any::<u8>()));
    let from = prop_oneof![8 => Just(None), 1 => sender(hosts).prop_map(Some)];
    let to_itself = weighted(0.1, Just(()));
    (host(hosts), from, receiver(hosts), to_itself, payload(), cut, twist).prop_map(
        |(by, from, to, to_itself, payload, cut, twist)| {
            let other = Address::Host(usize::from(by == 0));
            let to = if to == Address::Host(by) && to_itself.is_none() { other } else { to };
            Frame { by, from: from.unwrap_or(Address::Host(by)), to, payload, cut, twist }
        },
    )
}

/// A false source address.
fn sender(hosts: usize) -> impl Strategy<Value = Address> {
    prop_oneof![
        8 => station(hosts),
        1 => select(vec![Address::Zero, Address::Broadcast, Address::Group4, Address::Bridge]),
        1 => host(hosts).prop_map(Address::Port),
    ]
}

fn receiver(hosts: usize) -> impl Strategy<Value = Address> {
    prop_oneof![
        12 => station(hosts),
        1 => select(vec![Address::Broadcast, Address::Group4, Address::Group6, Address::Bridge, Address::Zero]),
        1 => select(vec![0, 1, 2, 3, 0x0e, 0x0f]).prop_map(Address::Control),
        1 => host(hosts).prop_map(Address::Port),
    ]
}

/// A MAC that a host may have.
fn station(hosts: usize) -> impl Strategy<Value = Address> {
    prop_oneof![
        12 => host(hosts).prop_map(Address::Host),
        3 => (host(hosts), 1..3_u8).prop_map(|(end, number)| Address::Behind(end, number)),
        1 => (1..3_u8).prop_map(Address::Nobody),
    ]
}

/// Payload sizes: small, up to the MTU, up to the MTU plus the tag that a bridge allows, and larger.
fn size() -> BoxedStrategy<usize> {
    prop_oneof![9 => 0..200_usize, 2 => 1400..1472_usize, 1 => 1453..1477_usize, 1 => 1900..1972_usize]
        .boxed()
}

fn payload() -> impl Strategy<Value = Payload> {
    let types = vec![
        0x0800, 0x86dd, 0x88b5, 0x8035, 0x8100, 0x88a8, 0x88cc, 0x8808, 0x8809, 0x888e, 0x8902, 0x88e3,
        0x88e5, 0x8847, 0x22f0, 0x0600, 0x05ff, 0x05dc, 0x0026, 0,
    ];
    let part = select(vec![Part::First, Part::Middle, Part::Last]);
    prop_oneof![
        4 => size().prop_map(Payload::Udp4),
        2 => size().prop_map(Payload::Udp6),
        2 => size().prop_map(Payload::Tcp4),
        1 => size().prop_map(Payload::Tcp6),
        2 => (select(types), size()).prop_map(|(ethertype, length)| Payload::Type(ethertype, length)),
        1 => select(vec![1, 2, 4, 41, 47, 50, 112, 132]).prop_map(Payload::Inside4),
        1 => select(vec![0, 4, 41, 43, 44, 47, 50, 51, 59, 60]).prop_map(Payload::Inside6),
        1 => Just(Payload::Options4),
        1 => (128..=138_u8).prop_map(Payload::Icmp6),
        1 => (any::<bool>(), part).prop_map(|(six, part)| Payload::Fragment { six, part }),
        1 => (1..=2_u8, any::<bool>()).prop_map(|(operation, gratuitous)| Payload::Arp { operation, gratuitous }),
        1 => select(vec![Payload::Tagged, Payload::DoubleTagged]),
        2 => (any::<bool>(), any::<bool>(), size())
            .prop_map(|(six, tcp, data)| Payload::Unsummed { six, tcp, data }),
        2 => (any::<bool>(), any::<bool>(), prop_oneof![3 => 536..1400_u16, 3 => 1400..1500_u16, 1 => 1500..3000_u16], 1..8_u16)
            .prop_map(|(six, tcp, size, count)| Payload::Segments { six, tcp, size, count }),
    ]
}

fn operation(hosts: usize, ports: usize) -> impl Strategy<Value = Operation> {
    let port = || host(ports);
    let kinds = vec![
        "dynamic",
        "dynamic",
        "static",
        "dynamic sticky",
        "static sticky",
        "local",
        "dynamic use",
        "dynamic extern_learn",
        "static extern_learn",
    ];
    let verbs = vec!["replace", "replace", "add", "del"];
    let entry = (select(verbs), station(hosts), port(), select(kinds)).prop_map(|(verb, mac, port, kind)| {
        Operation::Entry { verb, mac, port, kind: if verb == "del" { "" } else { kind } }
    });
    let flags = vec![
        "learning",
        "flood",
        "mcast_flood",
        "bcast_flood",
        "hairpin",
        "isolated",
        "isolated",
        "isolated",
        "locked",
        "neigh_suppress",
        "mcast_to_unicast",
        "fastleave",
        "root_block",
        "guard",
    ];
    let flag = (port(), select(flags), any::<bool>()).prop_map(|(port, flag, on)| Operation::Flag {
        port,
        flag,
        on,
    });
    let mtu = (link(hosts, ports), select(vec![1280, 1400, 1496, 1500, 2000, 9100]));
    let mac = (link(hosts, ports), prop_oneof![station(hosts), host(hosts).prop_map(Address::Port)]);
    let filter = (port(), any::<bool>(), station(hosts));
    prop_oneof![
        6 => entry,
        2 => weighted(0.7, port()).prop_map(Operation::Flush),
        8 => flag,
        2 => (port(), select(STATES.to_vec())).prop_map(|(port, state)| Operation::State { port, state }),
        2 => (link(hosts, ports), any::<bool>()).prop_map(|(link, on)| Operation::Up { link, on }),
        1 => (port(), any::<bool>()).prop_map(|(port, on)| Operation::OnBridge { port, on }),
        3 => mtu.prop_map(|(link, mtu)| Operation::Mtu { link, mtu }),
        3 => mac.prop_map(|(link, mac)| Operation::Mac { link, mac }),
        1 => (link(hosts, ports), any::<bool>()).prop_map(|(link, on)| Operation::Promiscuous { link, on }),
        2 => option(),
        1 => (port(), any::<bool>()).prop_map(|(port, on)| Operation::Queue { port, on }),
        1 => filter.prop_map(|(port, ingress, mac)| Operation::Filter { port, ingress, mac }),
        1 => (weighted(0.5, port()), station(hosts)).prop_map(|(port, mac)| Operation::Rule { port, mac }),
    ]
}

fn link(hosts: usize, ports: usize) -> impl Strategy<Value = Link> {
    prop_oneof![3 => host(ports).prop_map(Link::Port), 3 => host(hosts).prop_map(Link::Inner), 1 => Just(Link::Bridge)]
}

fn option() -> impl Strategy<Value = Operation> {
    let on_off = |option| (Just(option), 0..=1_u32).boxed();
    // No ageing time ends within a script: ageing depends on time, which is not compared (see docs/equivalence.md).
    prop_oneof![
        (Just("ageing_time"), select(vec![12_000, 30_000, 60_000])),
        (Just("group_fwd_mask"), select(vec![0, 0x4000, 0xfff8])),
        on_off("no_linklocal_learn"),
        on_off("mcast_snooping"),
        on_off("vlan_filtering"),
    ]
    .prop_map(|(option, value)| Operation::Option { option, value })
}

/// A script that shows a difference.
pub(crate) struct Found {
    pub(crate) script: Vec<Step>,
    pub(crate) difference: String,
    seed: u64,
}

/// The number of steps: `VETHPATH_ORACLE_STEPS`, or else that of the suite.
pub(crate) fn steps((short, long): (u64, u64)) -> u64 {
    const VARIABLE: &str = "VETHPATH_ORACLE_STEPS";
    let Ok(text) = env::var(VARIABLE) else { return sized(short, long) };
    text.parse().unwrap_or_else(|_| panic!("{VARIABLE} is a number, not {text:?}"))
}

/// Runs scripts of `seed` until this many steps have run or one shows a difference.
pub(crate) fn try_steps(run: &mut Run, steps: u64, seed: u64) -> Result<Tally, Found> {
    // Sabotage shows within a few steps, and a short script shrinks fast.
    let (longest, shrinks) = if run.is_sabotaged() { (12, 60) } else { (LONGEST, 400) };
    let strategy = scripts(run.names().ends.len(), run.names().ports.len(), longest);
    run.tally = Tally::default();
    let run = RefCell::new(run);
    let enough = |run: &Run| run.tally.steps >= steps;
    let config = Config {
        // The shortest script has one step, so this many cases always suffice.
        cases: u32::try_from(steps).expect("fewer than 2^32"),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: shrinks,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&strategy, |script| {
        let mut run = run.borrow_mut();
        if enough(&run) {
            return Ok(());
        }
        run.run_script(&script).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(run.into_inner().tally),
        Err(TestError::Fail(difference, script)) => {
            Err(Found { script, difference: difference.to_string(), seed })
        }
        Err(error) => panic!("{error}"),
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { script: steps, difference, seed } = self;
        write!(
            f,
            "{difference}\ngenerator seed {seed}, at most {LONGEST} steps; made short:\n{}",
            script(steps)
        )
    }
}
