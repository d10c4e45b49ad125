//! Builds the programs for a guest, boots it, and collects its results.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    boot,
    console::{Console, Init},
    guest::{self, Line, Request},
    kernel::{Kernel, LIMIT, Machine, Results, SILENCE, SLOTS, SLOWNESS, folder},
    matrix::Record,
    root,
};
use crate::{
    error::Error,
    test::{
        runner::{Binary, Outcome},
        select,
        stage::cargo_with,
    },
    tools::{command, output, run as run_command, say},
};

/// Runs the tests on each of `kernels`, even if some fail. The error names the failed tests.
pub(in crate::test) fn run(kernels: &[&'static Kernel], arguments: &[String]) -> Result<(), Error> {
    if env::consts::ARCH != "x86_64" {
        return Err(Error::Guest("guests are emulated on x86-64 machines alone".to_owned()));
    }
    let folder = folder();
    let file = |source| Error::File { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(file)?;
    let alone = File::create(folder.join("lock")).map_err(file)?;
    if alone.try_lock().is_err() {
        return Err(Error::Guest(format!("another run holds {}/lock: wait until it ends", folder.display())));
    }
    // Read first: writing a kernel's record must not mark the commit as dirty for the next one.
    let commit = commit();
    let mut failed = Vec::new();
    for kernel in kernels {
        say(&format!("\n-- Linux {}", kernel.name));
        let results = match run_one(kernel, arguments) {
            Ok(results) => results,
            Err(Error::Guest(why)) => {
                say(&format!("FAILED Linux {}: {why}", kernel.name));
                failed.push(format!("the guest with Linux {}", kernel.name));
                continue;
            }
            Err(error) => return Err(error),
        };
        let (passed, lacking, bad) = results.counts();
        say(&format!("Linux {}: {passed} passed, {bad} failed, {lacking} lack what they test", kernel.name));
        for complaint in &results.complaints {
            say(&format!("note: the kernel said: {complaint}"));
        }
        let name = |outcome: &Outcome| format!("{} ({})", outcome.name, kernel.name);
        failed.extend(results.outcomes.iter().filter(|outcome| outcome.has_failed()).map(name));
        if arguments.is_empty() {
            Record::of(kernel, &results, commit.clone()).keep(kernel)?;
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::TestsFailed(failed)) }
}

/// Builds, boots, and collects results until the guest powers off.
fn run_one(kernel: &'static Kernel, arguments: &[String]) -> Result<Results, Error> {
    // First, so that a missing network fails before the build.
    root::prepare(kernel)?;
    let built = Built::build(kernel)?;
    let request = Request {
        kernel: kernel.name.to_owned(),
        binary: built.tests.clone(),
        vethpath: built.vethpath.clone(),
        arguments: arguments.to_owned(),
        environment: vec![select::seed(), (SLOWNESS.0.to_owned(), SLOWNESS.1.to_owned())],
    };
    let initrd = root::initrd(kernel, &built.files(), &request)?;
    let mut results = Results::default();
    let (of_boot, others): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| argument.starts_with(boot::TESTS.trim_end_matches(':')));
    if arguments.is_empty() || !others.is_empty() {
        run_tests(kernel, &initrd, &mut results)?;
    }
    if kernel.machine.cross.is_none() && (arguments.is_empty() || !of_boot.is_empty()) {
        boot::run(kernel, &initrd, &request, &mut results)?;
    }
    Ok(results)
}

/// Boots a guest that runs its tests and powers off, and collects the results.
fn run_tests(kernel: &'static Kernel, initrd: &Path, results: &mut Results) -> Result<(), Error> {
    let logs = kernel.folder().join("tests");
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).map_err(|source| Error::File { path: logs.clone(), source })?;
    let mut console = Console::boot(kernel, &root::kernel_image(kernel), initrd, Init::Script)?;
    // A guest whose console closes early has crashed.
    loop {
        match console.next(LIMIT + SILENCE)? {
            Line::Begin { release, tests } => {
                say(&format!("{release}: {tests} tests, {SLOTS} at a time"));
                results.release = release;
            }
            Line::Test { outcome, log } => {
                let file = logs.join(outcome.name.replace("::", "."));
                fs::write(&file, log).map_err(|source| Error::File { path: file.clone(), source })?;
                match outcome.lacks() {
                    Some(what) => say(&format!("lacks           {}: {what}", outcome.name)),
                    None => outcome.show(&file),
                }
                results.outcomes.push(outcome);
            }
            Line::Error(error) => return Err(Error::Guest(error)),
            Line::End { complaints } => {
                results.complaints = complaints;
                break;
            }
        }
    }
    console.ends()
}

/// The programs for a guest.
struct Built {
    tests: PathBuf,
    vethpath: PathBuf,
    xtask: PathBuf,
    strip: &'static str,
}

impl Built {
    fn build(kernel: &Kernel) -> Result<Self, Error> {
        let Machine { cross, strip, .. } = kernel.machine;
        let binary = Binary::build(|command| for_machine(command, *cross))?;
        let tests = binary.path().to_owned();
        // `target/debug/deps/integration-...`
        let profile = tests.ancestors().nth(2).map(Path::to_owned).unwrap_or_default();
        let xtask = if cross.is_some() {
            let mut command = cargo_with(&["build", "--package", "xtask"]);
            for_machine(&mut command, *cross);
            run_command(&mut command)?;
            profile.join("xtask")
        } else {
            env::current_exe().map_err(|source| Error::File { path: "xtask".into(), source })?
        };
        Ok(Self { vethpath: profile.join("vethpath"), tests, xtask, strip })
    }

    /// Each file with its path in the guest and its `strip`.
    fn files(&self) -> [(&Path, &Path, &'static str); 3] {
        [
            (&self.tests, &self.tests, self.strip),
            (&self.vethpath, &self.vethpath, self.strip),
            (&self.xtask, Path::new(guest::XTASK), self.strip),
        ]
    }
}

/// Makes cargo build for the guest's CPU.
fn for_machine(command: &mut Command, cross: Option<(&'static str, &'static str)>) {
    if let Some((target, linker)) = cross {
        let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        command.args(["--target", target]).env(variable, linker);
    }
}

/// The tested commit, with `+` if the work tree has changes.
fn commit() -> Option<String> {
    let described = output(command("git").args(["describe", "--always", "--dirty=+", "--exclude=*"]))?;
    Some(described.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{kernels::kernel::ARM, stage::OTHER_CPU};

    #[test]
    fn cargo_is_told_target_and_linker() {
        let mut command = Command::new("cargo");
        for_machine(&mut command, ARM.cross);
        let variable = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";
        assert!(command.get_envs().any(|(name, value)| name == variable && value.is_some()));
        assert!(command.get_args().any(|word| word == OTHER_CPU));
    }
}
