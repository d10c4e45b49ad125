//! Runs the tests inside a guest and reports each as a line on the console. Also defines the format of these lines.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    boot,
    kernel::{ALL, Kernel, LIMIT, SLOTS},
};
use crate::{
    error::Error,
    test::{
        runner::{self, Binary, Outcome, Plan},
        select,
        stage::Suite,
    },
    tools::{command, output, say},
};

/// Paths in the guest: this program, and the request.
pub(super) const XTASK: &str = "/xtask";
pub(super) const REQUEST: &str = "/request.json";

/// The prefix of the report lines.
const MARK: &str = "xtask-guest ";
/// How many bytes of a failed test's output are kept, from its end.
const OUTPUT: usize = 40_000;
/// Messages of the kernel that indicate a fault.
const COMPLAINTS: [&str; 7] =
    ["WARNING:", "BUG:", "Oops", "stall", "blocked for more than", "unregister_netdevice", "refcount"];

/// Arguments of the hidden command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file with the request of the machine outside
    #[arg(default_value = REQUEST)]
    request: PathBuf,
}

/// The request to a guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// One of [`ALL`].
    pub(super) kernel: String,
    pub(super) binary: PathBuf,
    pub(super) vethpath: PathBuf,
    /// Filters that replace the kernel's own list of tests.
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
}

/// A message of a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line {
    /// The tests start.
    Begin { release: String, tests: usize },
    /// A test has ended. `log` has its output if it failed.
    Test { outcome: Outcome, log: String },
    /// The tests cannot be run.
    Error(String),
    /// All tests have ended.
    End { complaints: Vec<String> },
}

/// The text of a request.
pub(super) fn json(request: &Request) -> String {
    serde_json::to_string(request).unwrap_or_default()
}

/// Parses a console line; `None` if it is not a message of ours.
pub(super) fn parse(line: &str) -> Option<Line> {
    // Kernel messages may precede and follow it in a line.
    let (_, json) = line.split_once(MARK)?;
    serde_json::Deserializer::from_str(json).into_iter().next()?.ok()
}

fn report(line: &Line) {
    let json = serde_json::to_string(line).unwrap_or_default();
    say(&format!("{MARK}{json}"));
    let _ = std::io::stdout().flush();
}

/// Runs the requested tests.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let done = run_tests(&args.request);
    match &done {
        Ok(()) => {
            report(&Line::End { complaints: complaints(&output(&mut command("dmesg")).unwrap_or_default()) })
        }
        Err(error) => report(&Line::Error(error.to_string())),
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
    report(&Line::Begin { release: release(), tests: tests.len() });
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
        report(&Line::Test { outcome, log });
    })
}

/// The tests for a kernel. Those that the host's kernel cannot run are included for all native kernels.
fn selected(kernel: &Kernel, names: &[String], ignored: &[String]) -> Vec<String> {
    let begins = |name: &String, with: &str| name.starts_with(with);
    let is_for = |name: &&String| kernel.tests.iter().any(|with| begins(name, with));
    let is_skipped = |name: &&String| kernel.skipped.iter().any(|(with, _)| begins(name, with));
    let is_native = kernel.machine.cross.is_none();
    let is_of_boot = |name: &&String| begins(name, boot::TESTS);
    let wanted = |name: &&String| is_for(name) || is_native && ignored.contains(name) && !is_of_boot(name);
    names.iter().filter(wanted).filter(|name| !is_skipped(name)).cloned().collect()
}

/// The last `OUTPUT` bytes of a file, as text.
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

/// Lines of the kernel log that indicate a fault.
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
