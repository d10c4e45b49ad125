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

/// No command may take longer, unless the test says so.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A private machine: its own network, mounts and processes, with `lo` up, no bpffs and nothing else. So tests run in
/// parallel, and each may call its bridge `docker0`. When the test is over, it checks that nothing is left of what
/// the test made. Then it kills everything inside.
pub(crate) struct Host {
    inside: Inside,
    folder: TempDir,
    at_first: Option<Inventory>,
    /// How long the final check may take.
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

    /// Declares the present state to be what must be there at the end.
    pub(crate) fn remember(&mut self) {
        self.at_first = Some(Inventory::of(self));
    }

    /// The same, once nothing changes any more by itself.
    #[track_caller]
    pub(crate) fn remember_when_still(&mut self) {
        self.at_first = Some(when_still(|| Inventory::of(self)));
    }

    /// What differs from the start (or the last [`Host::remember`]). Of nftables, only table names are compared.
    pub(crate) fn changes(&self) -> Option<String> {
        Inventory::in_short(self).since(self.at_first.as_ref()?)
    }

    /// The same, with all rules.
    fn all_changes(&self) -> Option<String> {
        Inventory::of(self).since(self.at_first.as_ref()?)
    }

    /// Checks that everything is as it was. Processes and namespaces take a while to disappear.
    #[track_caller]
    pub(crate) fn is_as_it_was(&self, when: &str) {
        wait_until(SLACK, || self.changes().map_or(Ok(()), |changes| Err(format!("{when}: {changes}"))));
    }

    /// Runs a command to its end: `host.run("ip -n ns0 link")`.
    #[track_caller]
    pub(crate) fn run(&self, args: impl Args) -> Done {
        self.spawn(args).wait(TIMEOUT)
    }

    /// Runs a command with this standard input.
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

    /// Runs it once the lab's lock is free: a child that a killed `vethpath` was just starting holds it for a moment.
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

    /// Starts `vethpath`. The kernel refuses netlink sockets of a protocol to it and its children.
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

    /// Runs a command that must succeed, and returns the JSON that it prints: `host.json("ip -j link")`.
    #[track_caller]
    pub(crate) fn json(&self, args: impl Args) -> Value {
        self.run(args).ok().json()
    }

    /// Whether a process inside exists. (There are no zombies here.)
    pub(crate) fn lives(&self, pid: i32) -> bool {
        self.path(&format!("/proc/{pid}")).exists()
    }

    /// Waits until a process inside has ended.
    #[track_caller]
    pub(crate) fn ends(&self, pid: i32) {
        wait_for(SLACK, "it lives", || !self.lives(pid));
    }

    /// Removes a folder inside, in which another process may be creating files meanwhile.
    #[track_caller]
    pub(crate) fn remove(&self, folder: &str) {
        wait_for(SLACK, "files come again", || self.run(["rm", "-rf", folder]).succeeded());
    }

    /// The path outside of `path` inside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.inside.path(path)
    }

    /// The host's own network namespace.
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

    /// The binary under test: this build's, or `VETHPATH_BIN`, such as an installed package's.
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

    /// A copy of `vethpath` that every user may run.
    pub(crate) fn public_exe(&self) -> String {
        let path = self.folder.path().join("vethpath");
        let done = process::Command::new("install").args(["-m", "755", &self.exe()]).arg(&path).output();
        let done = done.expect("coreutils are installed");
        assert!(done.status.success(), "the binary under test: {}", String::from_utf8_lossy(&done.stderr));
        path.to_str().expect("the folder has a plain name").to_owned()
    }

    /// Checks that nothing is left, and ends. Dropping does the same; this reads better.
    pub(crate) fn finish(self) {}

    /// The same with another timeout, for tests that leave something on purpose.
    pub(crate) fn finish_within(mut self, patience: Duration) {
        self.patience = patience;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !thread::panicking() {
            // Processes and namespaces take a while to disappear.
            wait_until(self.patience, || {
                self.all_changes().map_or(Ok(()), |left| Err(format!("the host is not as it was:\n{left}")))
            });
        }
    }
}
