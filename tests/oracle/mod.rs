//! The differential oracle: compares an accelerated lab with a plain one.
//!
//! Both run the same script of frames and operations; see docs/equivalence.md.

mod agent;
mod frame;
mod generate;
mod maps;
mod names;
mod operation;
mod pair;
mod passes;
mod payload;
mod picked;
mod program;
mod run;
mod sabotage;
mod sees;
mod step;
mod trial;
mod world;

use run::Run;
use trial::try_steps;

use crate::harness::{at_once, seed};

const ONE_BRIDGE: &str = include_str!("../topologies/oracle.toml");
const THREE_BRIDGES: &str = include_str!("../topologies/oracle-trunk.toml");

/// The datapath of the accelerated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
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
    generated(ONE_BRIDGE, false, Way::Tc, 1000);
}

#[test]
fn generated_scripts_on_a_bridge_that_calls_netfilter() {
    generated(ONE_BRIDGE, true, Way::Tc, 2000);
}

#[test]
fn generated_scripts_on_three_bridges() {
    generated(THREE_BRIDGES, false, Way::Tc, 3000);
}

#[test]
fn generated_scripts_by_xdp_on_one_bridge() {
    generated(ONE_BRIDGE, false, Way::XdpToPrograms, 4000);
}

#[test]
fn generated_scripts_by_xdp_on_a_bridge_that_calls_netfilter() {
    generated(ONE_BRIDGE, true, Way::XdpToPrograms, 5000);
}

#[test]
fn generated_scripts_by_xdp_on_three_bridges() {
    generated(THREE_BRIDGES, false, Way::XdpToPrograms, 6000);
}

#[track_caller]
fn generated(topology: &str, netfilter: bool, way: Way, number: u64) {
    let (steps, seed) = (trial::steps(STEPS), seed(number));
    let lane = |number| {
        let mut run = Run::by(way, topology, netfilter);
        let outcome = try_steps(&mut run, steps / LANES, seed + number);
        assert!(outcome.is_err() || run.is_by_its_way(), "void: {:?} is not by {way:?}", run.tally);
        outcome
    };
    for outcome in at_once(0..LANES, lane) {
        let tally = outcome.unwrap_or_else(|found| panic!("{found}"));
        eprintln!("{tally:?}");
        assert!(
            tally.fast * 100 >= tally.arrived * LEAST_FAST_PERCENT,
            "void: hardly any was fast: {tally:?}"
        );
    }
}
