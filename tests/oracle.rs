//! The differential oracle: whatever is done, an accelerated lab cannot be told from a plain one.
//!
//! The same script of frames and operations is taken in both; see docs/equivalence.md.

mod agent;
mod frame;
mod generate;
mod maps;
mod names;
mod operation;
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

const ONE_BRIDGE: &str = include_str!("topologies/oracle.toml");
const TWO_BRIDGES: &str = include_str!("topologies/oracle-trunk.toml");

#[test]
fn generated_scripts_on_one_bridge() {
    generated(ONE_BRIDGE, false, 3000, 1);
}

#[test]
fn generated_scripts_on_a_bridge_that_calls_netfilter() {
    generated(ONE_BRIDGE, true, 3000, 2);
}

#[test]
fn generated_scripts_on_two_bridges() {
    generated(TWO_BRIDGES, false, 3000, 3);
}

#[track_caller]
fn generated(topology: &str, netfilter: bool, steps: u64, seed: u64) {
    let start = std::time::Instant::now();
    let run = Run::of(topology, netfilter);
    match trial::try_steps(run, trial::steps(steps), trial::seed(seed)) {
        Ok(tally) => eprintln!("{tally:?} in {:?}", start.elapsed()),
        Err(found) => panic!("{found}"),
    }
}
