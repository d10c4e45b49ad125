//! The differential oracle: compares an accelerated lab with a plain one.
//!
//! Both run the same script of frames and operations; see docs/equivalence.md.

mod agent;
mod detection;
mod generate;
mod handwritten;
mod maps;
mod names;
mod operation;
mod pair;
mod run;
mod sabotage;
mod script;
mod world;

use generate::try_steps;
use run::Run;

use crate::harness::{in_parallel, seed};

const ONE_BRIDGE: &str = include_str!("../topologies/oracle.toml");
const THREE_BRIDGES: &str = include_str!("../topologies/oracle-trunk.toml");

/// The datapath of the accelerated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datapath {
    Tc,
    /// With GRO at the inner ends, as `up` leaves them.
    Xdp,
    /// With a user program at the inner ends, which passes everything, and without GRO. Packets of a flow then
    /// arrive one by one, as in the plain world.
    XdpToPrograms,
}

/// With a smaller share of fast frames among those that arrive, a run is void.
const LEAST_FAST_PERCENT: u64 = 10;
/// Steps of a test, in the short and in the long suite.
const STEPS: (u64, u64) = (800, 17_000);
/// Parallel runs of a test: most of a step is waiting for the kernel.
const LANES: u64 = 2;

#[test]
fn generated_scripts_on_one_bridge() {
    generated(ONE_BRIDGE, false, Datapath::Tc, 1000);
}

#[test]
fn generated_scripts_on_a_bridge_that_calls_netfilter() {
    generated(ONE_BRIDGE, true, Datapath::Tc, 2000);
}

#[test]
fn generated_scripts_on_three_bridges() {
    generated(THREE_BRIDGES, false, Datapath::Tc, 3000);
}

#[test]
fn generated_scripts_by_xdp_on_one_bridge() {
    generated(ONE_BRIDGE, false, Datapath::XdpToPrograms, 4000);
}

#[test]
fn generated_scripts_by_xdp_on_a_bridge_that_calls_netfilter() {
    generated(ONE_BRIDGE, true, Datapath::XdpToPrograms, 5000);
}

#[test]
fn generated_scripts_by_xdp_on_three_bridges() {
    generated(THREE_BRIDGES, false, Datapath::XdpToPrograms, 6000);
}

#[track_caller]
fn generated(topology: &str, netfilter: bool, datapath: Datapath, number: u64) {
    let (steps, seed) = (generate::steps(STEPS), seed(number));
    let lane = |number| {
        let mut run = Run::by(datapath, topology, netfilter);
        let outcome = try_steps(&mut run, steps / LANES, seed + number);
        assert!(outcome.is_err() || run.is_by_its_datapath(), "void: {:?} is not by {datapath:?}", run.tally);
        outcome
    };
    for outcome in in_parallel(0..LANES, lane) {
        let tally = outcome.unwrap_or_else(|found| panic!("{found}"));
        eprintln!("{tally:?}");
        assert!(
            tally.fast * 100 >= tally.arrived * LEAST_FAST_PERCENT,
            "void: hardly any was fast: {tally:?}"
        );
    }
}
