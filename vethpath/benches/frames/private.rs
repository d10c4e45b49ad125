//! Private network, mount and pid namespaces, which end with the benchmark.

use std::{
    env,
    process::{Command, ExitCode},
};

/// Set in the private namespaces.
const INSIDE: &str = "VETHPATH_BENCH_INSIDE";

const PREPARE: &str =
    "mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys && ip link set lo up && exec \"$@\"";

/// Whether this process is in the private namespaces.
pub(crate) fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program again in private namespaces, as pid 1. When pid 1 ends or panics, the kernel kills every agent.
/// When this process dies, `unshare` and pid 1 are killed too. SIGINT would not end them: pid 1 ignores it without a
/// handler (`sig_task_ignored` in kernel/signal.c), and `unshare` blocks it.
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
