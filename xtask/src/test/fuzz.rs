//! The fuzzers of `vethpath/fuzz`: built for libFuzzer without nightly or cargo-fuzz, each run for
//! a bounded time.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::tools::{cargo, command, target_dir};

/// Each fuzzer, and the folders that its first inputs come from.
const TARGETS: [(&str, &[&str]); 4] = [
    ("topology", &["tests/topologies", "examples"]),
    ("netlink", &["vethpath/fuzz/seeds/netlink"]),
    ("answers", &["vethpath/fuzz/seeds/answers"]),
    ("records", &["vethpath/fuzz/seeds/records"]),
];

/// What ends a run: the number of inputs, or the time for slow machines.
const RUNS: &str = "-runs=200000";
const SECONDS: &str = "-max_total_time=20";

/// The same start everywhere; inputs no longer than matters; nothing slow or large is let pass. What
/// is found new is not told, only what is wrong.
const LIMITS: [&str; 5] = ["-seed=1", "-max_len=8192", "-timeout=10", "-rss_limit_mb=1024", "-verbosity=0"];

/// What cargo-fuzz gives the compiler, less the sanitizer, which would need nightly. Safe Rust has no
/// use for it.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// A workspace of its own.
pub(super) const MANIFEST: &str = "vethpath/fuzz/Cargo.toml";

/// Builds all, then runs each.
pub(super) fn commands() -> Vec<Command> {
    let mut commands = vec![build()];
    for (name, seeds) in TARGETS {
        commands.extend(run(name, seeds));
    }
    commands
}

/// cargo with the fuzzers' flags and a target folder of their own. A target that is named keeps the
/// flags from build scripts.
fn instrumented(args: &[&str]) -> Command {
    let mut command = cargo();
    command.args(args).args(["--release", "--quiet", "--manifest-path", MANIFEST]);
    command.args(["--target", "host-tuple", "--target-dir"]).arg(folder());
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")).env("RUST_BACKTRACE", "1");
    command
}

fn build() -> Command {
    instrumented(&["build", "--bins", "--locked"])
}

/// libFuzzer writes to the first folder it is given: one that is made anew, outside the work tree.
fn run(name: &str, seeds: &[&str]) -> [Command; 3] {
    let found = folder().join("found").join(name);
    let (mut remove, mut make) = (command("rm"), command("mkdir"));
    remove.arg("-rf").arg(&found);
    make.arg("-p").arg(&found);
    let mut run = instrumented(&["run", "--locked", "--bin", name]);
    run.arg("--").args([RUNS, SECONDS]).args(LIMITS).arg(artifacts(&found)).arg(&found).args(seeds);
    [remove, make, run]
}

/// Where an input goes that a fuzzer crashed on.
fn artifacts(found: &Path) -> String {
    format!("-artifact_prefix={}-", found.display())
}

/// All that this stage makes.
fn folder() -> PathBuf {
    target_dir().join("fuzz")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::root;

    #[test]
    fn every_fuzzer_is_run_from_inputs_that_are_there() {
        let folder = root().join("vethpath/fuzz/fuzz_targets");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("the fuzzers")
            .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
            .collect();
        files.sort();
        let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort();
        assert_eq!(files, names);
        for seeds in TARGETS.iter().flat_map(|(_, seeds)| *seeds) {
            let folder = root().join(seeds);
            assert!(folder.read_dir().is_ok_and(|mut files| files.next().is_some()), "{seeds}");
        }
    }

    #[test]
    fn nothing_is_written_to_the_work_tree() {
        let [_, _, run] = run("topology", &["examples"]);
        let words: Vec<_> = run.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let of = |word: &str| words.iter().position(|found| found.contains(word)).expect(word);
        assert!(words[of("-artifact_prefix=")].contains(&*folder().to_string_lossy()));
        assert!(words[of("-artifact_prefix=") + 1].ends_with("fuzz/found/topology"), "{words:?}");
    }
}
