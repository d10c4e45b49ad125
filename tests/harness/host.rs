//! A private machine for one test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use nix::errno::Errno;
use serde_json::Value;
use tempfile::TempDir;
use vethpath::kernel::Netns;

use super::{
    Args, Done, Inside, Inventory, LabFile, Process, Refusal, SLACK, wait_for, wait_until, when_still,
};

/// No command may take longer, if the test does not say so.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A private machine: network, mounts and processes of its own, `lo` up, no bpffs, nothing else. So
/// tests run side by side, and each may call its bridge `docker0`. When the test is over, it shows
/// that nothing is left of what the test made, then everything inside is killed.
pub(crate) struct Host {
    inside: Inside,
    folder: TempDir,
    at_first: Option<Inventory>,
    /// How long the final look may take.
    patience: Duration,
}

impl Host {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("vethpath-test-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a folder for topology files");
        let mut host = Self { inside: Inside::new(), folder, at_first: None, patience: TIMEOUT };
        host.remember();
        host
    }

    /// Declares what there is now to be what must be there at the end.
    pub(crate) fn remember(&mut self) {
        self.at_first = Some(Inventory::of(self));
    }

    /// The same, when nothing comes or goes any more by itself.
    #[track_caller]
    pub(crate) fn remember_when_still(&mut self) {
        self.at_first = Some(when_still(|| Inventory::of(self)));
    }

    /// What is not as it was at the start (or the last [`Host::remember`]); of rules, tables alone are looked at.
    pub(crate) fn changes(&self) -> Option<String> {
        Inventory::in_short(self).since(self.at_first.as_ref()?)
    }

    /// The same, with all rules.
    fn all_changes(&self) -> Option<String> {
        Inventory::of(self).since(self.at_first.as_ref()?)
    }

    /// Shows that all is as it was. Processes and namespaces go in their own time.
    #[track_caller]
    pub(crate) fn is_as_it_was(&self, when: &str) {
        wait_until(SLACK, || self.changes().map_or(Ok(()), |changes| Err(format!("{when}: {changes}"))));
    }

    /// Runs a command to its end: `host.run("ip -n ns0 link")`.
    #[track_caller]
    pub(crate) fn run(&self, args: impl Args) -> Done {
        self.spawn(args).wait(TIMEOUT)
    }

    /// Runs a command with something to read.
    #[track_caller]
    pub(crate) fn feed(&self, args: impl Args, input: &str) -> Done {
        Process::start(&self.inside, args.words(), input).wait(TIMEOUT)
    }

    /// Starts a command, which is killed when the returned guard is dropped.
    #[track_caller]
    pub(crate) fn spawn(&self, args: impl Args) -> Process {
        Process::start(&self.inside, args.words(), "")
    }

    /// Runs `vethpath` to its end: `host.vethpath("down three-hosts")`.
    #[track_caller]
    pub(crate) fn vethpath(&self, args: impl Args) -> Done {
        self.spawn_vethpath(args).wait(TIMEOUT)
    }

    /// Runs it as soon as nobody else is at the lab: a child that a killed `vethpath` was just starting
    /// holds the lab's lock for a moment more.
    #[track_caller]
    pub(crate) fn vethpath_after_a_kill(&self, args: &str) -> Done {
        wait_until(SLACK, || {
            let done = self.vethpath(args);
            if done.stderr.contains("wait until it has finished") { Err(done.to_string()) } else { Ok(done) }
        })
    }

    /// Starts `vethpath`.
    #[track_caller]
    pub(crate) fn spawn_vethpath(&self, args: impl Args) -> Process {
        let mut words = vec![self.exe()];
        words.extend(args.words());
        self.spawn(words)
    }

    /// Starts `vethpath`, to which and to whose children the kernel refuses netlink sockets of a protocol.
    #[track_caller]
    pub(super) fn spawn_vethpath_without(
        &self,
        args: impl Args,
        protocol: i32,
        errno: Errno,
    ) -> (Process, Refusal) {
        let mut words = vec![self.exe()];
        words.extend(args.words());
        let change = |command: &mut process::Command| Refusal::prepare(command, protocol);
        let process = Process::start_with(&self.inside, words, "", change);
        let refusal = Refusal::of(process.pid().as_raw().unsigned_abs(), errno);
        (process, refusal.expect("it is stopped at the first such socket, if it asks for any"))
    }

    /// The data of a command that must succeed and prints JSON: `host.json("ip -j link")`.
    #[track_caller]
    pub(crate) fn json(&self, args: impl Args) -> Value {
        self.run(args).ok().json()
    }

    /// Whether a process inside is there. (Nobody leaves zombies here.)
    pub(crate) fn lives(&self, pid: i32) -> bool {
        self.path(&format!("/proc/{pid}")).exists()
    }

    /// Waits until a process inside has ended.
    #[track_caller]
    pub(crate) fn ends(&self, pid: i32) {
        wait_for(SLACK, "it lives", || !self.lives(pid));
    }

    /// Removes a folder inside, in which somebody may be making files all the while.
    #[track_caller]
    pub(crate) fn remove(&self, folder: &str) {
        wait_for(SLACK, "files come again", || self.run(["rm", "-rf", folder]).succeeded());
    }

    /// How `path` inside is reached from outside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.inside.path(path)
    }

    /// Its own network namespace.
    pub(crate) fn netns(&self) -> Netns {
        Netns::open(&self.path("/proc/1/ns/net"), "host").expect("its first process lives")
    }

    /// The named namespaces.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("/run/netns")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A lab from `tests/topologies/<name>.toml`.
    pub(crate) fn lab(&self, name: &str) -> LabFile<'_> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/topologies/{name}.toml"));
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        LabFile::new(self, name, text)
    }

    /// The binary under test: this build's, or `VETHPATH_BIN`, as an installed package.
    pub(crate) fn exe(&self) -> String {
        env::var("VETHPATH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_vethpath").to_owned())
    }

    /// Writes a topology file that is visible inside, and returns its path.
    pub(crate) fn topology(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(format!("{name}.toml"));
        fs::write(&path, text).expect("the folder is ours");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .expect("so is the file");
        path.to_str().expect("the folder has a plain name").to_owned()
    }

    /// A copy of `vethpath` that anybody may run.
    pub(crate) fn public_exe(&self) -> String {
        let path = self.folder.path().join("vethpath");
        let done = process::Command::new("install").args(["-m", "755", &self.exe()]).arg(&path).output();
        let done = done.expect("coreutils are installed");
        assert!(done.status.success(), "the binary under test: {}", String::from_utf8_lossy(&done.stderr));
        path.to_str().expect("the folder has a plain name").to_owned()
    }

    /// Shows that nothing is left, and ends. Dropping does the same; this reads better.
    pub(crate) fn finish(self) {}

    /// The same where something is left for sure.
    pub(crate) fn finish_within(mut self, patience: Duration) {
        self.patience = patience;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !thread::panicking() {
            // Processes and namespaces go in their own time.
            wait_until(self.patience, || {
                self.all_changes().map_or(Ok(()), |left| Err(format!("the host is not as it was:\n{left}")))
            });
        }
    }
}
