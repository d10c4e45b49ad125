//! `cargo xtask test`: the checks for a change, the fastest to fail first.

mod fuzz;
mod kernels;
mod machine;
mod runner;
mod select;
mod stage;

use std::time::{Duration, Instant};

use crate::{
    error::Error,
    interrupt, setup,
    tools::{is_root, run as run_command, say},
};
pub(crate) use kernels::{GuestArgs, run_guest};
use machine::Snapshot;
use runner::{Binary, Outcome};
use stage::Suite;
pub(crate) use stage::{OTHER_CPU, Stage};

/// Arguments of the chore.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the quick suite (90 s): format, lints, unit tests, the programs, one test per hazard
    #[arg(long, conflicts_with = "long")]
    quick: bool,
    /// Run the long suite (hours): all stages, large kill matrices, 100,000 oracle steps, an hour of fuzzing
    #[arg(long)]
    long: bool,
    /// Run only this stage; may be given more than once
    #[arg(long, value_enum, value_name = "STAGE")]
    only: Vec<Stage>,
    /// Run integration tests on another kernel, in an emulated guest; may be given more than once
    #[arg(long, value_name = "KERNEL", value_parser = kernels::names(), conflicts_with_all = ["quick", "long", "only"])]
    kernel: Vec<String>,
    /// Arguments for the test binaries, such as part of a test's name
    #[arg(last = true, value_name = "TEST ARGS")]
    test_args: Vec<String>,
}

impl Args {
    fn suite(&self) -> Suite {
        match (self.quick, self.long) {
            (true, _) => Suite::Quick,
            (_, true) => Suite::Long,
            _ => Suite::Full,
        }
    }

    /// The selected stages, by default all of the suite.
    fn stages(&self) -> Vec<Stage> {
        if !self.kernel.is_empty() {
            return vec![Stage::Kernels];
        }
        let stages = self.suite().stages().iter().copied();
        stages.filter(|stage| self.only.is_empty() || self.only.contains(stage)).collect()
    }

    /// The command line of this request, for the hint to run it as root.
    fn command_line(&self) -> String {
        let mut arguments = vec!["test"];
        match self.suite() {
            Suite::Quick => arguments.push("--quick"),
            Suite::Long => arguments.push("--long"),
            Suite::Full => {}
        }
        for stage in &self.only {
            arguments.extend(["--only", stage.name()]);
        }
        for kernel in &self.kernel {
            arguments.extend(["--kernel", kernel]);
        }
        if !self.test_args.is_empty() {
            arguments.push("--");
            arguments.extend(self.test_args.iter().map(String::as_str));
        }
        arguments.join(" ")
    }
}

/// Runs the stages until one fails.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let stages = args.stages();
    if stages.is_empty() {
        return Err(Error::NoStages);
    }
    if stages.contains(&Stage::Integration) && !is_root() {
        return Err(Error::NeedsRoot { chore: args.command_line() });
    }
    let mut times = Times::default();
    let mut needs: Vec<_> = stages.iter().flat_map(|stage| stage.needs()).copied().collect();
    if stages.contains(&Stage::Kernels) {
        needs.extend(kernels::named(&args.kernel).iter().flat_map(|kernel| kernel.needs()));
    }
    times.stage("setup", || setup::run(&needs))?;
    // Ctrl-C ends the tests, but changed settings are restored.
    interrupt::watch()?;
    let before = Snapshot::take();
    let result = run_stages(args, &stages, &mut times);
    let left = Snapshot::take().added_since(&before);
    times.show();
    match result {
        Ok(()) if left.is_empty() => {
            let names = stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ");
            say(&format!("\nall passed in {} ({names})", seconds(times.total())));
            Ok(())
        }
        Ok(()) => Err(Error::LeftBehind(left)),
        Err(error) => {
            if !left.is_empty() {
                eprintln!("warning: {}", Error::LeftBehind(left));
            }
            say(&format!("\nstopped after {}", seconds(times.total())));
            Err(error)
        }
    }
}

/// Runs each stage and prints its heading.
fn run_stages(args: &Args, stages: &[Stage], times: &mut Times) -> Result<(), Error> {
    for (index, &stage) in stages.iter().enumerate() {
        say(&format!("\n== {}/{} {}: {}", index + 1, stages.len(), stage.name(), stage.about()));
        let started = Instant::now();
        let done = run_stage(stage, args, times);
        times.add_stage(stage.name(), started.elapsed());
        if interrupt::seen() {
            return Err(Error::Interrupted);
        }
        done.map_err(|error| Error::Stage { stage: stage.name(), source: Box::new(error) })?;
        say(&format!("-- {} ok in {}", stage.name(), seconds(started.elapsed())));
    }
    Ok(())
}

fn run_stage(stage: Stage, args: &Args, times: &mut Times) -> Result<(), Error> {
    for mut command in stage.commands(&args.test_args) {
        run_command(&mut command)?;
    }
    match stage {
        Stage::Integration => {
            let binary = times.stage("build, part of integration", || Binary::build(|_| {}))?;
            let plan = select::plan(&binary, args.suite(), &args.test_args)?;
            runner::run(&binary, &plan, &mut times.tests)
        }
        Stage::Fuzz => fuzz::run(args.suite().fuzz()),
        Stage::Kernels => kernels::run(&kernels::named(&args.kernel), &args.test_args),
        _ => Ok(()),
    }
}

/// How many tests are listed in the table of times.
const SLOWEST: usize = 20;

/// The duration of each stage and integration test.
struct Times {
    started: Instant,
    stages: Vec<(&'static str, Duration)>,
    tests: Vec<Outcome>,
}

impl Default for Times {
    fn default() -> Self {
        Self { started: Instant::now(), stages: Vec::new(), tests: Vec::new() }
    }
}

impl Times {
    /// Runs a stage and records its duration.
    fn stage<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.add_stage(name, started.elapsed());
        done
    }

    fn add_stage(&mut self, name: &'static str, time: Duration) {
        self.stages.push((name, time));
    }

    /// The time since the start.
    fn total(&self) -> Duration {
        self.started.elapsed()
    }

    /// Prints a table of the stages and of the slowest tests.
    fn show(&self) {
        say("\nstages:");
        for (name, time) in &self.stages {
            say(&format!("{:>10}  {name}", seconds(*time)));
        }
        let mut tests: Vec<_> = self.tests.iter().collect();
        tests.sort_by_key(|test| std::cmp::Reverse(test.time));
        if !tests.is_empty() {
            let sum: Duration = tests.iter().map(|test| test.time).sum();
            say(&format!("slowest of {} integration tests ({} in all):", tests.len(), seconds(sum)));
        }
        for test in tests.into_iter().take(SLOWEST) {
            say(&format!("{:>10}  {}", seconds(test.time), test.name));
        }
    }
}

/// A duration for people.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Args =
        Args { quick: false, long: false, only: Vec::new(), kernel: Vec::new(), test_args: Vec::new() };

    #[test]
    fn no_choice_is_all_stages_of_the_suite() {
        assert_eq!(ALL.stages(), Stage::ALL);
        assert_eq!(Args { quick: true, ..ALL }.stages(), Stage::QUICK);
        let some = Args { only: vec![Stage::Doc, Stage::Unit], ..ALL };
        assert_eq!(some.stages(), [Stage::Unit, Stage::Doc]);
        assert_eq!(Args { quick: true, only: vec![Stage::Fuzz], ..ALL }.stages(), []);
        assert_eq!(Args { long: true, ..ALL }.stages().last(), Some(&Stage::Kernels));
        assert_eq!(Args { kernel: vec!["6.1".to_owned()], ..ALL }.stages(), [Stage::Kernels]);
    }

    #[test]
    fn the_way_to_root_repeats_the_request() {
        let test_args = vec!["roaming".to_owned()];
        let args = Args { only: vec![Stage::Unit, Stage::Integration], test_args, ..ALL };
        assert_eq!(args.command_line(), "test --only unit --only integration -- roaming");
        assert_eq!(ALL.command_line(), "test");
        assert_eq!(Args { long: true, ..ALL }.command_line(), "test --long");
        let kernel = vec!["6.1".to_owned(), "arm64".to_owned()];
        assert_eq!(Args { kernel, ..ALL }.command_line(), "test --kernel 6.1 --kernel arm64");
    }
}
