//! For tests: a network namespace for the lifetime of one thread.

use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread of its own in a new, empty network namespace. Commands that it starts are in that
/// namespace too. Without the privilege to create one, the test is skipped with a message; under CI it fails.
pub(crate) fn in_new_namespace(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => test(),
            Err(errno) => {
                assert!(std::env::var_os("CI").is_none(), "no network namespace: {errno}");
                eprintln!("SKIPPED: no network namespace: {errno}");
            }
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs a command in the calling thread's namespace and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs one command of the `nft` language, as an independent check.
pub(crate) fn nft(command: &str) -> String {
    run("nft", &["-j", command])
}

/// Whether a command succeeds that this kernel or tool may not support.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
