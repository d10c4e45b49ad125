//! The oracle sees what is wrong: one rule is made wrong at a time, and a short script shows it.

use super::{
    ONE_BRIDGE, TWO_BRIDGES,
    names::Names,
    program::WrongProgram,
    run::Run,
    sabotage::{self, Sabotage, WrongEntries},
    trial::{Found, try_steps},
};

/// Steps within which it is to be seen. Most is seen in a tenth of them.
const STEPS: u64 = 20_000;
/// What a person can take in.
const SHORT: usize = 8;

macro_rules! sees {
    ($($name:ident: $rule:ident on $topology:expr, $netfilter:expr;)*) => {
        $(#[test]
        fn $name() {
            let found = seen(WrongEntries::new(sabotage::$rule), $topology, $netfilter);
            eprintln!("{found}");
            assert!(found.script.len() <= SHORT, "{found}");
        })*
    };
}

sees! {
    isolation_that_is_ignored: isolation_is_ignored on ONE_BRIDGE, false;
    sources_that_are_not_checked: sources_are_not_checked on ONE_BRIDGE, false;
    strangers_that_are_known: strangers_are_known on ONE_BRIDGE, false;
    ports_that_stay_armed: ports_stay_armed on ONE_BRIDGE, false;
    stations_that_are_not_forgotten: nothing_is_forgotten on ONE_BRIDGE, false;
    stations_behind_the_wrong_port: stations_are_elsewhere on ONE_BRIDGE, false;
    frames_that_are_for_the_host_alone: all_is_for_the_host_itself on ONE_BRIDGE, false;
    sizes_that_are_not_checked: sizes_are_not_checked on ONE_BRIDGE, false;
    netfilter_that_is_ignored: netfilter_is_ignored on ONE_BRIDGE, true;
    a_bridge_that_is_a_station: the_bridge_is_a_station on ONE_BRIDGE, false;
    trunks_that_are_skipped: trunks_are_skipped on TWO_BRIDGES, false;
}

#[test]
fn a_wrong_program() {
    let names = Names::of(ONE_BRIDGE);
    let found = seen(WrongProgram::new(names.port(0), names.port(1)), ONE_BRIDGE, false);
    assert!(found.script.len() <= SHORT, "{found}");
}

/// What is only slower is not seen: the oracle does not cry wolf.
#[test]
fn a_detour_is_no_difference() {
    let detour = WrongEntries::new(sabotage::all_goes_by_the_port);
    let run = Run::of(ONE_BRIDGE, false).sabotaged(detour);
    let tally = try_steps(run, 1000, 7).unwrap_or_else(|found| panic!("{found}"));
    assert!(tally.fast > 100, "{tally:?}");
}

#[track_caller]
fn seen(sabotage: Box<dyn Sabotage>, topology: &str, netfilter: bool) -> Found {
    let run = Run::of(topology, netfilter).sabotaged(sabotage);
    match try_steps(run, STEPS, 7) {
        Err(found) => found,
        Ok(tally) => panic!("nothing is seen in {tally:?}"),
    }
}
