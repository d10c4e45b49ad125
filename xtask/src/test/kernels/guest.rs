//! Inside a guest: runs the tests and tells of each in a line of the console. Also the form of these lines.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{ALL, Kernel, LIMIT, SLOTS};
use crate::{
    error::Error,
    test::{
        runner::{self, Binary, Outcome, Plan},
        select,
        suite::Suite,
    },
    tools::{command, output, say},
};

/// Where this program is in a guest, and what it is asked for.
pub(super) const XTASK: &str = "/xtask";
pub(super) const REQUEST: &str = "/request.json";

/// How a line begins that is not the kernel's.
const MARK: &str = "xtask-guest ";
/// What is kept of the output of a test that failed, from its end.
const OUTPUT: usize = 40_000;
/// What a kernel says when something is wrong with it.
const COMPLAINTS: [&str; 7] =
    ["WARNING:", "BUG:", "Oops", "stall", "blocked for more than", "unregister_netdevice", "refcount"];

/// What to do in a guest.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the machine outside has asked for
    #[arg(default_value = REQUEST)]
    request: PathBuf,
}

/// What is asked of a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// One of [`ALL`].
    pub(super) kernel: String,
    pub(super) binary: PathBuf,
    /// Which tests, if not those of the kernel.
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
}

/// What a guest tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line {
    /// Tests begin.
    Begin { release: String, tests: usize },
    /// A test has ended; with its output if it did not pass.
    Test { outcome: Outcome, log: String },
    /// Nothing can be run.
    Error(String),
    /// All tests have ended.
    End { complaints: Vec<String> },
}

/// What a line of the console tells; `None` if it is the kernel's or another program's.
pub(super) fn parse(line: &str) -> Option<Line> {
    // Messages of the kernel may be before and behind it in a line.
    let (_, json) = line.split_once(MARK)?;
    serde_json::Deserializer::from_str(json).into_iter().next()?.ok()
}

fn tell(line: &Line) {
    let json = serde_json::to_string(line).unwrap_or_default();
    say(&format!("{MARK}{json}"));
    let _ = std::io::stdout().flush();
}

/// Runs the tests that were asked for.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let done = run_tests(&args.request);
    match &done {
        Ok(()) => {
            tell(&Line::End { complaints: complaints(&output(&mut command("dmesg")).unwrap_or_default()) })
        }
        Err(error) => tell(&Line::Error(error.to_string())),
    }
    done
}

fn run_tests(path: &Path) -> Result<(), Error> {
    let file = |source| Error::File { path: path.to_owned(), source };
    let text = fs::read(path).map_err(file)?;
    let request: Request = serde_json::from_slice(&text).map_err(|error| file(error.into()))?;
    let kernel = ALL.iter().find(|kernel| kernel.name == request.kernel);
    let kernel = kernel.ok_or_else(|| Error::Guest(format!("no kernel is named {}", request.kernel)))?;
    let binary = Binary::at(request.binary);
    let names = binary.names(&[], &request.arguments)?;
    let ignored = binary.names(&["--ignored"], &request.arguments)?;
    let tests = if request.arguments.is_empty() { selected(kernel, &names, &ignored) } else { names };
    if tests.is_empty() {
        return Err(Error::NoTests(request.arguments.join(" ")));
    }
    tell(&Line::Begin { release: release(), tests: tests.len() });
    let plan = Plan {
        suite: Suite::Full,
        tests: select::in_groups(tests),
        slots: SLOTS,
        alone: Vec::new(),
        limit: LIMIT,
        environment: request.environment,
    };
    runner::run_each(&binary, &plan, |outcome, log| {
        let log = if outcome.passed() { String::new() } else { end_of(log) };
        tell(&Line::Test { outcome, log });
    })
}

/// The tests for a kernel. Those that the usual kernel cannot run are all for this one.
fn selected(kernel: &Kernel, names: &[String], ignored: &[String]) -> Vec<String> {
    let begins = |name: &String, with: &str| name.starts_with(with);
    let is_for = |name: &&String| kernel.tests.iter().any(|with| begins(name, with));
    let is_skipped = |name: &&String| kernel.skipped.iter().any(|(with, _)| begins(name, with));
    let is_native = kernel.machine.cross.is_none();
    let wanted = |name: &&String| is_for(name) || is_native && ignored.contains(name);
    names.iter().filter(wanted).filter(|name| !is_skipped(name)).cloned().collect()
}

/// The end of a file.
fn end_of(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let from = text.len().saturating_sub(OUTPUT);
    let from = (from..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[from..].to_owned()
}

/// Release and version: `6.12.48+deb12-amd64 (Debian 6.12.48-1~bpo12+1)`.
fn release() -> String {
    let read = |what: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{what}")).unwrap_or_default();
        text.trim().to_owned()
    };
    let version = read("version");
    let version = version.split_once("Debian ").map_or("", |(_, package)| package);
    format!("{} (Debian {})", read("osrelease"), version.split(' ').next().unwrap_or_default())
}

/// Lines of the kernel's log that speak of a fault in it.
fn complaints(log: &str) -> Vec<String> {
    let is_one = |line: &&str| COMPLAINTS.iter().any(|word| line.contains(word));
    log.lines().filter(is_one).take(20).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::named, *};

    #[test]
    fn lines_are_told_from_those_of_the_kernel() {
        let line = Line::Error("a\nb".to_owned());
        let text = format!("[    1.0] noise {MARK}{}", serde_json::to_string(&line).expect("JSON"));
        assert!(matches!(parse(&text), Some(Line::Error(error)) if error == "a\nb"));
        assert!(parse("[    1.0] Run /init as init process").is_none());
        assert!(parse(&format!("{MARK}{{")).is_none());
        let end = format!("{MARK}{{\"End\":{{\"complaints\":[]}}}}[  422.4] sysrq: Power Off");
        assert!(matches!(parse(&end), Some(Line::End { .. })));
    }

    #[test]
    fn a_kernel_gets_its_tests_and_those_that_others_cannot_run() {
        let names = ["bench::speed", "hazards::a::b", "hazards::delivery::losses::c", "settings::vlan"];
        let names = names.map(str::to_owned);
        let ignored = ["settings::vlan".to_owned()];
        let of = |kernel: &str| selected(named(&[kernel.to_owned()])[0], &names, &ignored);
        assert_eq!(of("6.12"), ["hazards::a::b", "settings::vlan"]);
        assert!(of("arm64").is_empty());
    }

    #[test]
    fn faults_of_the_kernel_are_seen() {
        let log = "[ 1.0] Run /init\n[ 2.0] WARNING: CPU: 1 PID: 3 at net/core/dev.c:1\n[ 3.0] br0: port 1(v) entered";
        assert_eq!(complaints(log), ["[ 2.0] WARNING: CPU: 1 PID: 3 at net/core/dev.c:1"]);
    }
}
