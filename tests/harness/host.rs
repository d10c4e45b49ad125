//! A private machine for one test: its namespaces, and the inventory of what is there before and after.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use serde_json::Value;
use tempfile::TempDir;
use vethpath::kernel::Netns;

use super::{
    Args, LabFile, Output, Process, Refusal, SLACK,
    netlink::{Netlink, nf_tables},
    wait_for, wait_until, wait_until_stable,
};

/// No command may take longer, unless the test says so.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// A private machine: its own network, mounts and processes, with `lo` up, no bpffs and nothing else. So tests run in
/// parallel, and each may call its bridge `docker0`. When the test is over, it checks that nothing is left of what
/// the test made. Then it kills everything inside.
pub(crate) struct Host {
    inside: Inside,
    folder: TempDir,
    baseline: Option<Inventory>,
    /// How long the final check may take.
    timeout: Duration,
}

impl Host {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("vethpath-test-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a folder for topology files");
        let mut host = Self { inside: Inside::new(), folder, baseline: None, timeout: TIMEOUT };
        host.set_baseline();
        host
    }

    /// Declares the present state to be what must be there at the end.
    pub(crate) fn set_baseline(&mut self) {
        self.baseline = Some(Inventory::of(self));
    }

    /// The same, once nothing changes any more by itself.
    #[track_caller]
    pub(crate) fn set_baseline_when_stable(&mut self) {
        self.baseline = Some(wait_until_stable(|| Inventory::of(self)));
    }

    /// What differs from the start (or the last [`Host::set_baseline`]). Of nftables, only table names are compared.
    pub(crate) fn changes(&self) -> Option<String> {
        Inventory::without_rules(self).diff(self.baseline.as_ref()?)
    }

    /// The same, with all rules.
    fn all_changes(&self) -> Option<String> {
        Inventory::of(self).diff(self.baseline.as_ref()?)
    }

    /// Checks that everything is as it was. Processes and namespaces take a while to disappear.
    #[track_caller]
    pub(crate) fn assert_restored(&self, when: &str) {
        wait_until(SLACK, || self.changes().map_or(Ok(()), |changes| Err(format!("{when}: {changes}"))));
    }

    /// Runs a command to its end: `host.run("ip -n ns0 link")`.
    #[track_caller]
    pub(crate) fn run(&self, args: impl Args) -> Output {
        self.spawn(args).wait(TIMEOUT)
    }

    /// Runs a command with this standard input.
    #[track_caller]
    pub(crate) fn run_with_input(&self, args: impl Args, input: &str) -> Output {
        Process::start(&self.inside, args.words(), input).wait(TIMEOUT)
    }

    /// Starts a command, which is killed when the returned guard is dropped.
    #[track_caller]
    pub(crate) fn spawn(&self, args: impl Args) -> Process {
        Process::start(&self.inside, args.words(), "")
    }

    /// Runs `vethpath` to its end: `host.vethpath("down three-hosts")`.
    #[track_caller]
    pub(crate) fn vethpath(&self, args: impl Args) -> Output {
        self.spawn_vethpath(args).wait(TIMEOUT)
    }

    /// Runs it once the lab's lock is free: a child that a killed `vethpath` was just starting holds it for a moment.
    #[track_caller]
    pub(crate) fn vethpath_after_a_kill(&self, args: &str) -> Output {
        wait_until(SLACK, || {
            let output = self.vethpath(args);
            if output.stderr.contains("wait until it has finished") {
                Err(output.to_string())
            } else {
                Ok(output)
            }
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
        let change = |command: &mut Command| Refusal::prepare(command, protocol);
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
    pub(crate) fn is_alive(&self, pid: i32) -> bool {
        self.path(&format!("/proc/{pid}")).exists()
    }

    /// Waits until a process inside has ended.
    #[track_caller]
    pub(crate) fn wait_for_exit(&self, pid: i32) {
        wait_for(SLACK, "it lives", || !self.is_alive(pid));
    }

    /// Waits until a link of the host is up.
    #[track_caller]
    pub(crate) fn wait_for_link(&self, link: &str) {
        wait_for(SLACK, &format!("{link} is not up"), || {
            self.run(format!("ip -o link show {link}")).ok().stdout.contains("state UP")
        });
    }

    /// The number of running agents of a lab.
    pub(crate) fn agents(&self, lab: &str) -> usize {
        let count = self.run(format!("pgrep -c -f agent.{lab}"));
        count.stdout.trim().parse().unwrap_or_else(|_| panic!("no count: {count}"))
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
        let output = Command::new("install").args(["-m", "755", &self.exe()]).arg(&path).output();
        let output = output.expect("coreutils are installed");
        assert!(
            output.status.success(),
            "the binary under test: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        path.to_str().expect("the folder has a plain name").to_owned()
    }

    /// Checks that nothing is left, and ends. Dropping does the same; this reads better.
    pub(crate) fn finish(self) {}

    /// The same with another timeout, for tests that leave something on purpose.
    pub(crate) fn finish_within(mut self, timeout: Duration) {
        self.timeout = timeout;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !thread::panicking() {
            // Processes and namespaces take a while to disappear.
            wait_until(self.timeout, || {
                self.all_changes().map_or(Ok(()), |left| Err(format!("the host is not as it was:\n{left}")))
            });
        }
    }
}

/// The command of the first process. It dies with the thread that started it, even when the test is killed, and
/// everything inside dies with it. It ignores SIGCHLD, so orphans leave no zombies.
const INIT: &str = "mount -t proc proc /proc && ip link set lo up && echo ready &&
    exec env --ignore-signal=CHLD sleep infinity";

type Reply = mpsc::Sender<io::Result<Child>>;

/// The namespaces, which exist as long as this.
pub(crate) struct Inside {
    init: Child,
    jobs: Option<mpsc::Sender<(Command, Reply)>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    /// New namespaces with `lo` up, an empty `/run`, and `/proc` and `/sys` that show them.
    pub(crate) fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<(Command, Reply)>();
        let (started, first) = mpsc::channel();
        let thread = thread::spawn(move || {
            started.send(enter().and_then(|()| init().spawn())).expect("the test waits for this");
            for (mut command, reply) in inbox {
                // A test that has panicked meanwhile no longer receives.
                let _ = reply.send(command.spawn());
            }
        });
        let mut init = first
            .recv()
            .expect("the thread answers before it ends")
            .expect("namespaces of its own (the tests need root)");
        let mut line = String::new();
        BufReader::new(init.stdout.take().expect("it is piped")).read_line(&mut line).expect("readable");
        assert_eq!(line, "ready\n", "the first process inside did not start");
        Self { init, jobs: Some(jobs), thread: Some(thread) }
    }

    /// Starts a process inside.
    pub(crate) fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = mpsc::channel();
        let jobs = self.jobs.as_ref().expect("it is open until drop");
        jobs.send((command, reply)).expect("the thread runs until drop");
        answer.recv().expect("the thread answers every job")
    }

    /// The path outside of `path` inside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init.id()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // When init dies, everything inside dies. wait() returns when all processes are gone.
        let _ = self.init.kill();
        let _ = self.init.wait();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread to new namespaces.
fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    // Mounts that a new one would merely hide are still listed, so they are unmounted.
    for point in mount_points_below(&["/run", "/sys"])?.iter().rev() {
        umount2(point.as_str(), MntFlags::MNT_DETACH)?;
    }
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    Ok(())
}

/// Mount points at or below some folders, in the order they were mounted.
fn mount_points_below(folders: &[&str]) -> io::Result<Vec<String>> {
    let below = |point: &&str| {
        folders
            .iter()
            .any(|f| point.strip_prefix(f).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    Ok(table.lines().filter_map(|l| l.split(' ').nth(4)).filter(below).map(str::to_owned).collect())
}

fn init() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", INIT]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The state of a host as comparable text, by subject.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Inventory(BTreeMap<&'static str, String>);

impl Inventory {
    /// The complete state. Rules are listed by `nft`.
    pub(crate) fn of(host: &Host) -> Self {
        let mut inventory = Self::without_rules(host);
        inventory.0.insert("nftables", host.run("nft list ruleset").ok().stdout);
        inventory
    }

    /// The state without starting a process: of nf_tables, only the names of tables.
    pub(crate) fn without_rules(host: &Host) -> Self {
        let netns = host.netns();
        let netlink = Netlink::route(&netns);
        let links: Vec<_> = netlink.links().iter().map(|link| format!("{link:?}")).collect();
        let table = fs::read_to_string(host.path("/proc/1/mountinfo"));
        Self(BTreeMap::from([
            ("links", links.join("\n")),
            ("addresses", netlink.addresses().join("\n")),
            ("routes", netlink.routes().join("\n")),
            ("tables of nf_tables", nf_tables(&netns).join("\n")),
            ("forwarding", netns.run(forwarding).expect("it can be entered")),
            ("mounts", mounts(&table.expect("its first process lives"))),
            ("files in /run", files(&host.path("/run"))),
            ("files in /sys/fs/bpf", files(&host.path("/sys/fs/bpf"))),
            ("processes", processes(host)),
        ]))
    }

    /// The differences to an earlier one, for people. What only one of them has is left out.
    pub(crate) fn diff(&self, earlier: &Self) -> Option<String> {
        let changed = |(subject, now): (&&str, &String)| {
            let then = earlier.0.get(subject)?;
            (now != then).then(|| format!("=== {subject}, then:\n{then}\n=== {subject}, now:\n{now}"))
        };
        let changes: Vec<_> = self.0.iter().filter_map(changed).collect();
        (!changes.is_empty()).then(|| changes.join("\n"))
    }
}

/// Whether the calling thread's namespace forwards.
fn forwarding() -> String {
    let switch = |path: &str| {
        let value = fs::read_to_string(format!("/proc/sys/net/{path}")).expect("every kernel has it");
        format!("{path} = {}\n", value.trim())
    };
    switch("ipv4/ip_forward") + &switch("ipv6/conf/all/forwarding")
}

/// Mount points and their filesystems, but for `/run/netns` on itself, which iproute2 leaves too.
fn mounts(table: &str) -> String {
    let line = |l: &str| {
        let (left, right) = l.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        (point != "/run/netns").then(|| format!("{point} {}\n", right.split(' ').next().unwrap_or_default()))
    };
    table.lines().filter_map(line).collect()
}

/// All paths below a folder; the folder of named namespaces itself may stay, as iproute2 leaves it.
fn files(folder: &Path) -> String {
    let mut found: Vec<String> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let name = entry.path().strip_prefix(folder).expect("it is below").display().to_string();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                folders.push(entry.path());
            }
            if name != "netns" {
                found.push(name);
            }
        }
    }
    found.sort();
    found.join("\n")
}

/// Pids and names of all processes inside but the first.
fn processes(host: &Host) -> String {
    let name = |pid: String| {
        let number: u32 = pid.parse().ok()?;
        let name = fs::read_to_string(host.path(&format!("/proc/{pid}/comm"))).ok()?;
        (number != 1).then(|| format!("{number} {name}"))
    };
    let pids = fs::read_dir(host.path("/proc")).into_iter().flatten().flatten();
    pids.filter_map(|entry| name(entry.file_name().into_string().ok()?)).collect()
}
