//! The private machine: network, mounts and processes of its own, none of which outlives the benchmark.

use std::{
    env,
    process::{Command, ExitCode},
};

/// Says that the process is in it.
const INSIDE: &str = "VETHPATH_BENCH_INSIDE";

const PREPARE: &str =
    "mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys && ip link set lo up && exec \"$@\"";

/// Whether this process is in it.
pub(crate) fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program once more, where nothing else is. Its first process is this program again: when that
/// ends, or panics, the kernel kills every agent. When this process dies, `unshare` does, and the first
/// process with it; it would not go of itself, since what is first takes no SIGINT that it has no handler for
/// (`sig_task_ignored` in kernel/signal.c), and `unshare` blocks it.
pub(crate) fn start() -> ExitCode {
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"])
        .args(["--kill-child", "sh", "-c", PREPARE, "sh"])
        .arg(env::current_exe().unwrap())
        .args(env::args().skip(1))
        .env(INSIDE, "1")
        .status()
        .expect("setpriv and unshare of util-linux");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
