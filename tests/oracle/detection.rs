//! The oracle finds faults: one rule is made wrong at a time, and a short script shows it.

use super::{
    ONE_BRIDGE, THREE_BRIDGES,
    generate::{Found, try_steps},
    names::Names,
    run::Run,
    sabotage::{self, Rule, Sabotage, WrongEntries, WrongProgram},
};
use crate::harness::{in_parallel, seed, sized};

/// Steps within which a fault must be found. Most are found in a hundredth of them.
const STEPS: u64 = 20_000;
/// Steps of a script that a person can follow.
const SHORT: usize = 8;
const SEED: u64 = 7;

#[test]
fn wrong_rules_about_ports() {
    let rules: [(_, Rule); 4] = [
        ("isolation is ignored", sabotage::isolation_is_ignored),
        ("ports stay armed", sabotage::ports_stay_armed),
        ("sizes are not checked", sabotage::sizes_are_not_checked),
        ("all is for the host itself", sabotage::all_is_for_the_host_itself),
    ];
    assert_each_found(&rules);
}

#[test]
fn wrong_rules_about_stations() {
    let rules: [(_, Rule); 5] = [
        ("sources are not checked", sabotage::sources_are_not_checked),
        ("strangers are known", sabotage::strangers_are_known),
        ("nothing is forgotten", sabotage::nothing_is_forgotten),
        ("stations are elsewhere", sabotage::stations_are_elsewhere),
        ("the bridge is a station", sabotage::the_bridge_is_a_station),
    ];
    assert_each_found(&rules);
}

#[test]
fn a_wrong_rule_about_netfilter() {
    assert_found(&mut Run::of(ONE_BRIDGE, true), "netfilter is ignored", sabotage::netfilter_is_ignored);
}

#[test]
fn a_wrong_rule_about_bridges_in_between() {
    assert_found(
        &mut Run::of(THREE_BRIDGES, false),
        "bridges need not learn",
        sabotage::bridges_need_not_learn,
    );
}

#[test]
fn a_wrong_program() {
    let names = Names::of(ONE_BRIDGE);
    let program = WrongProgram::between(names.port(0), names.port(1));
    let found = find_fault(&mut Run::of(ONE_BRIDGE, false), "a wrong program", program);
    assert!(found.script.len() <= SHORT, "{found}");
}

/// A slower path is no difference: the oracle raises no false alarm.
#[test]
fn a_detour_is_no_difference() {
    let mut run = Run::of(ONE_BRIDGE, false);
    run.sabotage(WrongEntries::by(sabotage::all_goes_by_the_port));
    run.use_full_timeout();
    let tally = try_steps(&mut run, 500, SEED).unwrap_or_else(|found| panic!("{found}"));
    assert!(tally.fast > 50, "{tally:?}");
}

/// Makes each rule wrong in a lab of its own, in parallel. The full suite takes two rules: which ones depends on the
/// commit. The long suite takes all.
#[track_caller]
fn assert_each_found(rules: &[(&str, Rule)]) {
    let first = usize::try_from(seed(0) % rules.len() as u64).expect("it is less than their number");
    let taken = rules.iter().cycle().skip(first).take(sized(2, rules.len()));
    let _ = in_parallel(taken, |&(what, rule)| assert_found(&mut Run::of(ONE_BRIDGE, false), what, rule));
}

#[track_caller]
fn assert_found(run: &mut Run, what: &str, rule: Rule) {
    let found = find_fault(run, what, WrongEntries::by(rule));
    assert!(found.script.len() <= SHORT, "{what}: {found}");
}

#[track_caller]
fn find_fault(run: &mut Run, what: &str, sabotage: impl Sabotage + 'static) -> Found {
    run.sabotage(sabotage);
    match try_steps(run, STEPS, SEED) {
        Err(found) => {
            eprintln!("{what}, and so {found}");
            found
        }
        Ok(tally) => panic!("{what}, and nothing is seen in {tally:?}"),
    }
}
