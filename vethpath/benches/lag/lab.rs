//! A lab of three hosts on one bridge, and commands that change something in it.

use std::{
    fs,
    io::Read as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Result,
    trial::{ADDRESSES, ENOUGH, GREETINGS, HOSTS, Traffic, Trial, realtime},
};

/// The MAC addresses of the hosts.
const MACS: [&str; 3] = ["02:00:00:79:00:01", "02:00:00:79:00:02", "02:00:00:79:00:03"];

const NAME: &str = "lag";
const TOPOLOGY: &str = "/run/lag.toml";
const RULES: &str = "/run/lag.nft";
const LOCK: &str = "/run/lag.bridge";

/// Timeout for frames to be fast after a change was undone. A pair that lost frames rests for 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time between two looks at whether frames are fast.
const POLL: Duration = Duration::from_millis(20);

/// The agent does some of its work at this interval, in milliseconds.
const TICK: u64 = 1000;

/// A change that a user makes with one command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The sender's port is isolated; the receiver's has been before.
    Isolated,
    /// The receiver's port goes down.
    PortDown,
    /// The bridge goes down.
    BridgeDown,
    /// The receiver's address moves to the third port.
    FdbMove,
    /// The bridge forgets the receiver, and floods from then on.
    FdbDel,
    /// The sender's port is locked, and the bridge forgets the sender, whose frames it drops from then on.
    Locked,
    /// The bridge filters by VLAN; the receiver's port is in none.
    VlanFiltering,
    /// A netfilter rule at the sender's port drops all frames.
    NftRule,
    /// A qdisc at the receiver's port drops all frames.
    TcRule,
}

/// The commands of a change.
struct Commands {
    /// Run once before the first trial.
    prepare: Option<String>,
    /// The change.
    change: String,
    /// Undoes it. Without one, the receiver's next frame does.
    undo: Option<String>,
    /// Undoes `prepare` after the last trial.
    restore: Option<String>,
}

/// The lab, which is taken down when this is dropped.
pub(crate) struct Lab {
    /// Whether its bridge has programs.
    is_accelerated: bool,
    /// The ports of the hosts.
    ports: [String; 3],
    traffic: Traffic,
}

impl Change {
    /// All, in the order in which they are measured.
    pub(crate) const ALL: [Self; 9] = [
        Self::Isolated,
        Self::PortDown,
        Self::BridgeDown,
        Self::FdbMove,
        Self::FdbDel,
        Self::Locked,
        Self::VlanFiltering,
        Self::NftRule,
        Self::TcRule,
    ];

    /// The name in the table and on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::PortDown => "port down",
            Self::BridgeDown => "bridge down",
            Self::FdbMove => "fdb move",
            Self::FdbDel => "fdb del",
            Self::Locked => "locked",
            Self::VlanFiltering => "vlan filtering",
            Self::NftRule => "nft rule",
            Self::TcRule => "tc rule",
        }
    }

    /// Whether the bridge floods frames afterwards. Then the receiver gets them as before, and only those that the
    /// third host does not see went the old way. After any other change, all that the receiver gets went the old way.
    const fn floods(self) -> bool {
        matches!(self, Self::FdbDel)
    }

    /// Its commands, for the ports of the hosts.
    fn commands(self, [a, b, c]: &[String; 3]) -> Commands {
        let mac = MACS[1];
        let command = |change, undo| Commands { prepare: None, change, undo: Some(undo), restore: None };
        match self {
            Self::Isolated => Commands {
                prepare: Some(format!("bridge link set dev {b} isolated on")),
                restore: Some(format!("bridge link set dev {b} isolated off")),
                ..command(
                    format!("bridge link set dev {a} isolated on"),
                    format!("bridge link set dev {a} isolated off"),
                )
            },
            Self::PortDown => command(format!("ip link set {b} down"), format!("ip link set {b} up")),
            Self::BridgeDown => command("ip link set br0 down".to_owned(), "ip link set br0 up".to_owned()),
            Self::FdbMove => command(
                format!("bridge fdb replace {mac} dev {c} master static"),
                format!("bridge fdb del {mac} dev {c} master"),
            ),
            Self::FdbDel => Commands {
                prepare: None,
                change: format!("bridge fdb del {mac} dev {b} master"),
                undo: None,
                restore: None,
            },
            Self::Locked => {
                command(format!("bridge -batch {LOCK}"), format!("bridge link set dev {a} locked off"))
            }
            Self::VlanFiltering => Commands {
                prepare: Some(format!("bridge vlan del vid 1 dev {b}")),
                restore: Some(format!("bridge vlan add vid 1 dev {b} pvid untagged")),
                ..command(
                    "ip link set br0 type bridge vlan_filtering 1".to_owned(),
                    "ip link set br0 type bridge vlan_filtering 0".to_owned(),
                )
            },
            Self::NftRule => command(format!("nft -f {RULES}"), "nft delete table netdev lag".to_owned()),
            // A token bucket drops every frame that is longer than its burst (`tbf_enqueue` in net/sched/sch_tbf.c).
            Self::TcRule => command(
                format!("tc qdisc replace dev {b} root tbf rate 8kbit burst 1 limit 1"),
                format!("tc qdisc del dev {b} root"),
            ),
        }
    }
}

impl Lab {
    /// Brings the lab up.
    pub(crate) fn up(datapath: &str) -> Result<Self> {
        write(TOPOLOGY, &topology(datapath))?;
        let _ = vethpath(&["up", TOPOLOGY])?;
        let stats = stats()?;
        let [a, b, c] = HOSTS.map(|host| port(&stats, host));
        let ports = [a?, b?, c?];
        write(RULES, &rules(&ports[0]))?;
        let (port, mac) = (&ports[0], MACS[0]);
        write(LOCK, &format!("link set dev {port} locked on\nfdb del {mac} dev {port} master\n"))?;
        // No ARP: a question from the receiver would teach the bridge its port again.
        for (at, of) in [(0, 1), (1, 0)] {
            let (host, address, mac) = (HOSTS[at], ADDRESSES[of], MACS[of]);
            run(&format!("ip -n {host} neigh replace {address} lladdr {mac} dev eth0 nud permanent"))?;
        }
        Ok(Self { is_accelerated: datapath != "bridge", ports, traffic: Traffic::open()? })
    }

    /// Runs `work` with the lab prepared for a change, and undoes that also if `work` fails.
    pub(crate) fn prepared<T>(&self, change: Change, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let commands = change.commands(&self.ports);
        run_if_any(commands.prepare.as_deref())?;
        let done = work();
        let restored = run_if_any(commands.restore.as_deref());
        let done = done?;
        restored?;
        Ok(done)
    }

    /// Makes a change while frames are sent, and undoes it also if the trial failed. The inner error is that of this
    /// trial alone. After the outer one the lab cannot be used.
    pub(crate) fn trial(&self, change: Change) -> Result<Result<Trial>> {
        let commands = change.commands(&self.ports);
        let before = self.wait_until_ready()?;
        thread::sleep(Duration::from_millis(fastrand::u64(..TICK)));
        let taken = self.traffic.trial(|| run(&commands.change), change.floods());
        let undone = run_if_any(commands.undo.as_deref());
        if taken.is_err() {
            // There may be nothing to undo. The next trial waits for fast frames in any case.
            return Ok(taken);
        }
        undone?;
        let fast = fast_frames(&stats()?)?.saturating_sub(before);
        if self.is_accelerated && fast < ENOUGH as u64 {
            return Ok(Err(format!("only {fast} frames were fast")));
        }
        Ok(taken)
    }

    /// Waits until all frames from the first host to the second arrive and are fast. Returns the number of fast frames.
    /// Both hosts send, so that the bridge learns them.
    fn wait_until_ready(&self) -> Result<u64> {
        let started = Instant::now();
        let mut before = fast_frames(&stats()?)?;
        loop {
            let is_late = started.elapsed() > PATIENCE;
            let arrived = self.traffic.greet()?;
            let stats = stats()?;
            let after = fast_frames(&stats)?;
            let is_fast = after.saturating_sub(before) >= GREETINGS as u64 && are_armed(&stats)?;
            if arrived >= GREETINGS && (is_fast || !self.is_accelerated) {
                return Ok(after);
            }
            if is_late {
                return Err(format!("frames are not fast after {} s: {stats:#}", PATIENCE.as_secs()));
            }
            before = after;
            thread::sleep(POLL);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = vethpath(&["down", NAME]) {
            eprintln!("{error}");
        }
    }
}

/// Whether the kernel has VLAN filtering.
pub(crate) fn has_vlan_filtering() -> bool {
    let is_made = run("ip link add probe type bridge vlan_filtering 1").is_ok();
    is_made && run("ip link del probe").is_ok()
}

/// Without IPv6, hosts send nothing of their own accord, so that the bridge does not learn them during a trial.
fn topology(datapath: &str) -> String {
    let mut text = format!("name = \"{NAME}\"\n[bridge.br0]\ndatapath = \"{datapath}\"\n");
    for ((host, address), mac) in HOSTS.iter().zip(ADDRESSES).zip(MACS) {
        text += &format!(
            "[namespace.{host}.sysctls]\n\
             \"net.ipv6.conf.all.disable_ipv6\" = 1\n\"net.ipv6.conf.default.disable_ipv6\" = 1\n\
             [namespace.{host}.interface.eth0]\n\
             link = \"br0\"\nmac = \"{mac}\"\naddresses = [\"{address}/24\"]\n"
        );
    }
    text
}

/// A table that drops all frames from a port. nft makes it in one transaction.
fn rules(port: &str) -> String {
    format!(
        "table netdev lag {{\nchain arrivals {{\n\
         type filter hook ingress device \"{port}\" priority 0;\ndrop\n}}\n}}\n"
    )
}

/// The account of a host's pair.
fn pair<'a>(stats: &'a Value, host: &str) -> Result<&'a Value> {
    let name = format!("{host}:eth0");
    let mut pairs = stats["pairs"].as_array().into_iter().flatten();
    let found = pairs.find(|pair| pair["name"].as_str() == Some(name.as_str()));
    found.ok_or_else(|| format!("no pair {name} in {stats:#}"))
}

/// The port of a host.
fn port(stats: &Value, host: &str) -> Result<String> {
    let port = pair(stats, host)?["port"].as_str();
    port.map(str::to_owned).ok_or_else(|| format!("no port of {host} in {stats:#}"))
}

/// Frames from the first host that took the fast path.
fn fast_frames(stats: &Value) -> Result<u64> {
    let frames = pair(stats, HOSTS[0])?["fast"]["tx"]["frames"].as_u64();
    frames.ok_or_else(|| format!("no fast frames in {stats:#}"))
}

/// Whether sender and receiver take part in the fast path.
fn are_armed(stats: &Value) -> Result<bool> {
    let [a, b, _] = HOSTS;
    Ok(pair(stats, a)?["state"] == "armed" && pair(stats, b)?["state"] == "armed")
}

fn stats() -> Result<Value> {
    let text = vethpath(&["stats", NAME, "--json"])?;
    serde_json::from_slice(&text).map_err(|error| format!("reading the output of stats: {error}"))
}

/// Runs `vethpath` and returns its standard output.
fn vethpath(arguments: &[&str]) -> Result<Vec<u8>> {
    let done = Command::new(env!("CARGO_BIN_EXE_vethpath")).args(arguments).output();
    let done = done.map_err(|error| format!("vethpath {arguments:?}: {error}"))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    Err(format!("vethpath {arguments:?}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}

/// Runs a command, if there is one.
fn run_if_any(line: Option<&str>) -> Result<()> {
    line.map_or(Ok(()), |line| run(line).map(|_| ()))
}

/// Runs a command, and returns when it returned, in the time since 1970. No word of it contains a space.
fn run(line: &str) -> Result<Duration> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{line}: {error}"))?;
    // What it prints on standard error is short enough for the pipe.
    let status = child.wait();
    let returned = realtime()?;
    let status = status.map_err(|error| format!("{line}: {error}"))?;
    if status.success() {
        return Ok(returned);
    }
    let mut why = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut why);
    }
    Err(format!("{line}: {status}: {}", why.trim()))
}

fn write(file: &str, text: &str) -> Result<()> {
    fs::write(file, text).map_err(|error| format!("writing {file}: {error}"))
}
