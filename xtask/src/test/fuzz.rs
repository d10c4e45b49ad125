//! The fuzzers of `vethpath/fuzz`: built for libFuzzer without nightly or cargo-fuzz, each with a time limit.

use std::{
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    error::Error,
    tools::{cargo, run as run_command, target_dir},
};

/// Each fuzzer, with the folders of its seed inputs.
const TARGETS: [(&str, &[&str]); 4] = [
    ("topology", &["tests/topologies", "examples"]),
    ("netlink", &["vethpath/fuzz/seeds/netlink"]),
    ("answers", &["vethpath/fuzz/seeds/answers"]),
    ("records", &["vethpath/fuzz/seeds/records"]),
];

/// A fixed seed; limits for the input's length, the time of an input and memory; only failures are printed.
const LIMITS: [&str; 5] = ["-seed=1", "-max_len=8192", "-timeout=10", "-rss_limit_mb=1024", "-verbosity=0"];

/// The compiler flags of cargo-fuzz without the sanitizer, which needs nightly and which safe Rust does not need.
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

/// The fuzzers are a separate workspace.
pub(super) const MANIFEST: &str = "vethpath/fuzz/Cargo.toml";

/// The command that builds all fuzzers.
pub(super) fn build() -> Vec<Command> {
    vec![instrumented(&["build", "--bins", "--locked"])]
}

/// Runs the fuzzers, two at a time.
pub(super) fn run(limit: Duration) -> Result<(), Error> {
    for pair in TARGETS.chunks(2) {
        let runs: Vec<_> = pair.iter().map(|(name, seeds)| fuzzer(name, seeds, limit)).collect();
        let ended: Vec<_> = thread::scope(|scope| {
            let runs: Vec<_> =
                runs.into_iter().map(|run| scope.spawn(move || run_command(&mut run?))).collect();
            runs.into_iter().map(|run| run.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        ended.into_iter().collect::<Result<(), Error>>()?;
    }
    Ok(())
}

/// cargo with the fuzzers' flags and a separate target folder. With an explicit target, cargo does not apply the flags
/// to build scripts.
fn instrumented(args: &[&str]) -> Command {
    let mut command = cargo();
    command.args(args).args(["--release", "--quiet", "--manifest-path", MANIFEST]);
    command.args(["--target", "host-tuple", "--target-dir"]).arg(folder());
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")).env("RUST_BACKTRACE", "1");
    command
}

/// libFuzzer writes new inputs to the first folder: a new, empty one outside the work tree.
fn fuzzer(name: &str, seeds: &[&str], time: Duration) -> Result<Command, Error> {
    let found = folder().join("found").join(name);
    let _ = fs::remove_dir_all(&found);
    fs::create_dir_all(&found).map_err(|source| Error::File { path: found.clone(), source })?;
    let mut run = instrumented(&["run", "--locked", "--bin", name]);
    run.arg("--").arg(format!("-max_total_time={}", time.as_secs())).args(LIMITS).arg(artifacts(&found));
    run.arg(&found).args(seeds);
    Ok(run)
}

/// Where libFuzzer writes an input that crashes.
fn artifacts(found: &Path) -> String {
    format!("-artifact_prefix={}-", found.display())
}

/// The folder of this stage's output.
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
        let mut files: Vec<_> = fs::read_dir(folder)
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
        let run = fuzzer("topology", &["examples"], Duration::from_secs(7)).expect("a folder");
        let arguments: Vec<_> = run.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let of = |word: &str| arguments.iter().position(|found| found.contains(word)).expect(word);
        assert!(arguments[of("-artifact_prefix=")].contains(&*folder().to_string_lossy()));
        assert!(arguments[of("-artifact_prefix=") + 1].ends_with("fuzz/found/topology"), "{arguments:?}");
    }
}
