//! Selects and orders the integration tests of a suite.

use std::{env, num::NonZero, thread};

use super::{
    runner::{Binary, Plan},
    stage::Suite,
};
use crate::{
    documents,
    error::Error,
    tools::{command, output, packages_dir, root, say},
};

/// Parallel tests per CPU. Tests mostly wait for the kernel.
const PER_CPU: usize = 4;

/// The longest tests start first, so that none runs alone at the end.
const LONGEST: &[&str] = &[
    "scale::",
    "hazards::state::ageing::",
    "faults::",
    "exactness::",
    "oracle::detection::",
    "oracle::generated",
    "hazards::delivery::losses::",
    "converge::killed::",
    "hazards::state::spanning_tree::",
    "segments::stations::",
    "segments::spanning_tree",
    "hazards::state::lost_events::",
    "oracle::",
    "hazards::ourselves::agent::",
    "converge::",
    "bench::",
];

/// These create and remove labs of 100 hosts or more. Removing a bridge waits for all RCU callbacks with RTNL held
/// (`br_multicast_dev_del` in net/bridge/br_multicast.c). With several such labs in parallel this takes minutes on a
/// busy machine, so they run in sequence.
const LARGE: &[&str] = &[
    "converge::killed::growth_at_each_step",
    "converge::clsact::a_lab_outgrows_its_maps",
    "converge::counts::a_lab_that_outgrows_its_maps_loses_no_count",
    "converge::datapaths::a_lab_on_xdp_outgrows_its_maps",
    "scale::a_lab_of_hundreds_of_hosts_comes_up_armed_and_goes_without_a_trace",
];

/// Tests that check settings which the runner changes, that depend on the machine's speed, or that keep all labs of the
/// machine off the fast path.
const ALONE: &[&str] = &[
    "scale::a_killed_up_leaves_grace_periods_as_they_were",
    "bench::broken::a_slowed_fast_path_shows_no_gain",
    "hazards::policy::netfilter::a_bpf_program_on_a_netfilter_hook_takes_effect",
    "crowded::hosts_start_with_the_kernels_own_defaults",
];

/// Tests of the quick suite, besides the first test of each row in the table of hazards.
const QUICK: &[&str] = &["programs::", "harness::tests::", "hazards::table::"];

/// The variable that seeds random tests.
const SEED: &str = "VETHPATH_SEED";

/// The tests of `suite` that match `arguments`.
pub(super) fn plan(binary: &Binary, suite: Suite, arguments: &[String]) -> Result<Plan, Error> {
    let mut tests = binary.list(arguments)?;
    if suite == Suite::Quick {
        let document = documents::read(&root().join("docs/equivalence.md"))?;
        let firsts = first_of_each_row(&document);
        tests.retain(|name| is_quick(name, &firsts));
    }
    if tests.is_empty() {
        return Err(Error::NoTests(arguments.join(" ")));
    }
    in_order(&mut tests);
    let variables = suite.variables().iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let environment: Vec<_> = variables.chain([seed(), packages()]).collect();
    let assignments: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let slots = PER_CPU * thread::available_parallelism().map_or(1, NonZero::get);
    say(&format!("{} tests, {slots} at a time, with {}", tests.len(), assignments.join(" ")));
    let (alone, tests) = tests.into_iter().partition(|name| ALONE.contains(&name.as_str()));
    Ok(Plan { suite, tests: in_groups(tests), slots, alone, limit: suite.limit(), environment })
}

/// The large tests as the first group, and each other test as a group of its own.
pub(super) fn in_groups(tests: Vec<String>) -> Vec<Vec<String>> {
    let (large, others): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|name| LARGE.contains(&name.as_str()));
    let large = (!large.is_empty()).then_some(large);
    large.into_iter().chain(others.into_iter().map(|name| vec![name])).collect()
}

/// The seed variable with its value.
pub(super) fn seed() -> (String, String) {
    (SEED.to_owned(), env::var(SEED).unwrap_or_else(|_| seed_of_commit()))
}

/// The folder of unpacked packages.
fn packages() -> (String, String) {
    ("VETHPATH_PACKAGES".to_owned(), packages_dir().display().to_string())
}

/// A seed derived from the commit, so that all machines use the same one.
fn seed_of_commit() -> String {
    let commit = output(command("git").args(["rev-parse", "HEAD"])).unwrap_or_default();
    let digits = commit.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    digits.unwrap_or(1).to_string()
}

fn in_order(tests: &mut [String]) {
    let rank =
        |name: &String| LONGEST.iter().position(|first| name.starts_with(first)).unwrap_or(LONGEST.len());
    tests.sort_by_key(rank);
}

fn is_quick(name: &str, firsts: &[String]) -> bool {
    QUICK.iter().any(|prefix| name.starts_with(prefix))
        || firsts.iter().any(|first| {
            name.strip_prefix(first.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
}

/// The first test named in each row of the table in docs/equivalence.md.
fn first_of_each_row(document: &str) -> Vec<String> {
    let table = document.split_once("## Row by row").map_or("", |(_, table)| table);
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| hazard"));
    let quoted = |row: &str| row.split('`').skip(1).step_by(2).find(|word| is_test(word)).map(str::to_owned);
    rows.filter_map(quoted).collect()
}

/// Whether it has the form of an integration test's name.
fn is_test(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    word.contains("::") && word.split("::").all(|part| !part.is_empty() && part.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DOCUMENT: &str = "`hazards::elsewhere::no_row`\n## Row by row\n| hazard | `tests::of_the_heading` |\n|---|---|\n\
                            | ageing, `ip` | `hazards::state::ageing`, `hazards::state::second` |\n| bare | none |\n";

    #[test]
    fn the_first_test_of_each_row_is_quick() {
        let firsts = first_of_each_row(DOCUMENT);
        assert_eq!(firsts, ["hazards::state::ageing"]);
        assert!(is_quick("hazards::state::ageing::who_talks", &firsts));
        assert!(is_quick("programs::stations", &firsts));
        assert!(!is_quick("hazards::state::second", &firsts));
        assert!(!is_quick("hazards::state::ageing_more", &firsts));
    }

    #[test]
    fn what_takes_longest_starts_first() {
        let mut tests = ["walkthrough::all", "bench::long", "hazards::state::ageing::a", "commands::b"]
            .map(str::to_owned);
        in_order(&mut tests);
        assert_eq!(tests, ["hazards::state::ageing::a", "bench::long", "walkthrough::all", "commands::b"]);
    }

    #[test]
    fn large_labs_are_one_group_and_the_first() {
        let tests = ["bench::long", LARGE[1], "walkthrough::all", LARGE[0]].map(str::to_owned).to_vec();
        let groups = in_groups(tests);
        assert_eq!(groups, [vec![LARGE[1], LARGE[0]], vec!["bench::long"], vec!["walkthrough::all"]]);
        assert!(in_groups(Vec::new()).is_empty());
    }

    /// A stale name would silently lose its place or its isolation.
    #[test]
    fn tests_that_are_named_here_are_there() {
        let sources = sources(&root().join("tests"));
        for name in LONGEST.iter().chain(LARGE).chain(ALONE).chain(QUICK) {
            let (module, test) = name.trim_end_matches(':').rsplit_once("::").unwrap_or((name, ""));
            let last = module.trim_end_matches(':').rsplit("::").next().expect("a module");
            assert!(sources.contains(&format!("mod {last};")), "{name}");
            let is_there =
                [format!("fn {test}"), format!("mod {test};")].iter().any(|text| sources.contains(text));
            assert!(test.is_empty() || is_there, "{name}");
        }
    }

    /// All sources below a folder.
    fn sources(folder: &std::path::Path) -> String {
        let paths = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
        paths
            .map(
                |path| {
                    if path.is_dir() { sources(&path) } else { fs::read_to_string(path).unwrap_or_default() }
                },
            )
            .collect()
    }
}
