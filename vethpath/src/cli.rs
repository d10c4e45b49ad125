//! The command line: types only.
#![expect(missing_docs, reason = "flattened arguments are documented by their own types")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    bench::{Peer, Shape, Wait, Workload},
    datapath::Hook,
    stats::SortKey,
    topology::Overrides,
};

/// Network labs on one Linux host whose switches are as fast as a cable.
#[derive(Debug, Parser)]
#[command(name = "vethpath", version, about, max_term_width = 100)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Which lab a command is about.
#[derive(Args, Clone, Debug)]
pub struct LabArg {
    /// Name or file of the lab; may be omitted while one lab is up.
    #[arg(value_name = "LAB")]
    pub lab: Option<String>,
}

/// Output for programs.
#[derive(Args, Clone, Copy, Debug)]
pub struct JsonArg {
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Options that stand for keys of the file.
#[derive(Args, Clone, Copy, Debug)]
pub struct OverrideArgs {
    /// Put bridges without a namespace into a namespace of the lab, like `fabric = true` in the file.
    #[arg(long)]
    pub fabric: bool,
}

impl From<OverrideArgs> for Overrides {
    fn from(OverrideArgs { fabric }: OverrideArgs) -> Self {
        Self { fabric }
    }
}

/// `--hook` of `up`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum HookArg {
    /// tcx links (Linux 6.6 and later).
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

impl From<HookArg> for Hook {
    fn from(hook: HookArg) -> Self {
        match hook {
            HookArg::Tcx => Self::Tcx,
            HookArg::Clsact => Self::Clsact,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a lab up, or change a running lab to match its file.
    Up {
        /// The topology file.
        file: PathBuf,
        /// How to attach programs of a new lab [default: tcx where the kernel has it].
        #[arg(long, value_enum)]
        hook: Option<HookArg>,
        /// Bring the lab up even if netfilter rules of this machine drop its packets.
        #[arg(long)]
        allow_drops: bool,
        /// Stay in the foreground, and plug in containers of the file that start again.
        ///
        /// Ctrl-C ends this and leaves the lab up. It also ends when the lab is taken down.
        #[arg(long)]
        follow: bool,
        #[command(flatten)]
        overrides: OverrideArgs,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Take a lab down. Removes only what the lab created.
    Down {
        #[command(flatten)]
        lab: LabArg,
        /// Take all labs down.
        #[arg(long, conflicts_with = "lab")]
        all: bool,
        /// Take it down even if foreign devices depend on its bridges or namespaces.
        #[arg(long)]
        force: bool,
    },
    /// Accelerate the ports of a bridge that another program made, such as docker0.
    Accelerate(AccelerateArgs),
    /// Show what `up` would create, change and delete.
    Plan {
        /// The topology file.
        file: PathBuf,
        /// Print every change without a limit, as JSON always does.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        overrides: OverrideArgs,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Validate a topology file; report all errors and warnings.
    Validate(ValidateArgs),
    /// Print the JSON Schema of topology files, for editors.
    Schema,
    /// Show namespaces, interfaces, bridges, and which pairs are armed.
    Show {
        #[command(flatten)]
        lab: LabArg,
        #[command(flatten)]
        json: JsonArg,
    },
    /// List the labs that are up.
    List {
        #[command(flatten)]
        json: JsonArg,
    },
    /// Run a command in a namespace.
    Exec {
        /// The lab, if several labs have a namespace of this name.
        #[arg(long)]
        lab: Option<String>,
        /// The namespace.
        namespace: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Open a shell in a namespace.
    Shell {
        /// The lab, if several labs have a namespace of this name.
        #[arg(long)]
        lab: Option<String>,
        /// The namespace.
        namespace: String,
    },
    /// Stop hosts: their interfaces go down, and the rest of the lab goes on. They stay stopped over an `up`.
    Stop(HostsArgs),
    /// Start hosts that are stopped, as they were before.
    Start(HostsArgs),
    /// Stop hosts and start them.
    Restart(HostsArgs),
    /// Show which interface is the other end of a veth, whoever made it.
    Peer(PeerArgs),
    /// Show which hosts of a lab reach which, by IPv4 and IPv6. Exit code 3: not all do.
    ///
    /// Each host asks each other one for an ICMP echo, all at the same time.
    Ping(PingArgs),
    /// Try the expectations of a lab: each `[[expect]]` of its file. Exit code 3: one does not hold.
    Test(TestArgs),
    /// Draw a lab, or a file that is not up.
    ///
    /// A file is drawn with the names that a new lab of it would have. Guest ports are not drawn.
    Graph(GraphArgs),
    /// Show the traffic of each pair by path, with the reasons for slow packets.
    Stats(StatsArgs),
    /// Show the events of a lab: each change of its state.
    Events(EventsArgs),
    /// Serve the counts of all labs to Prometheus, until interrupted.
    ///
    /// A file with `metrics = "127.0.0.1:9466"` has those of its lab served as long as the lab is up.
    Metrics {
        /// The address and the port. Whoever reaches it can read the counts.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
    /// Compare cable, plain bridge and fast path in interleaved rounds.
    Bench(Box<BenchArgs>),
    /// Check this machine for what vethpath needs.
    Doctor {
        #[command(flatten)]
        json: JsonArg,
    },
    /// The agent of a lab; `up` starts it.
    #[command(hide = true)]
    Agent {
        /// The lab.
        lab: String,
    },
    /// The reader of a lab's metrics; `up` starts it with a listening socket as standard input.
    #[command(hide = true)]
    MetricsOf {
        /// The lab.
        lab: String,
    },
    /// The server of metrics; their reader starts it with a listening socket as standard input.
    #[command(hide = true)]
    MetricsServer,
    /// One end of a workload; `bench` starts it with a socket as standard input.
    #[command(hide = true)]
    BenchEnd(Peer),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Arguments of `accelerate`.
#[derive(Args, Clone, Debug)]
pub struct AccelerateArgs {
    /// The bridge.
    pub bridge: String,
    /// The network namespace that it is in, by its name in /run/netns [default: the caller's].
    #[arg(long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Stay in the foreground: wait for the bridge, and accelerate it again when it is made again.
    #[arg(long, conflicts_with_all = ["stop", "json"])]
    pub follow: bool,
    /// Let go of the bridge. Its ports become ordinary ones.
    #[arg(long)]
    pub stop: bool,
    #[command(flatten)]
    pub json: JsonArg,
}

/// Arguments of `validate`.
#[derive(Args, Clone, Debug)]
pub struct ValidateArgs {
    /// The topology file.
    pub file: PathBuf,
    /// Print the lab with every group, mesh and chain expanded.
    #[arg(long, conflicts_with = "json")]
    pub expand: bool,
    /// Also check the netfilter rules and routes of this machine. Needs root.
    #[arg(long)]
    pub host: bool,
    #[command(flatten)]
    pub overrides: OverrideArgs,
    #[command(flatten)]
    pub json: JsonArg,
}

/// `--format` of `graph`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphFormat {
    /// A picture for a browser, light or dark as the reader's page.
    Svg,
    /// A flowchart, which GitHub and GitLab draw in Markdown.
    Mermaid,
    /// The language of Graphviz.
    Dot,
    /// Nodes and links, for programs; hosts that are alike are never one node.
    Json,
}

/// Arguments of `graph`.
#[derive(Args, Clone, Debug)]
pub struct GraphArgs {
    #[command(flatten)]
    pub lab: LabArg,
    /// The language of the picture.
    #[arg(long, value_enum, default_value = "svg", conflicts_with = "json")]
    pub format: GraphFormat,
    #[command(flatten)]
    pub json: JsonArg,
    /// Colour the links of a lab that is up by state and rate, from two readings a second apart.
    #[arg(long)]
    pub live: bool,
}

/// Arguments of `stop`, `start` and `restart`.
#[derive(Args, Clone, Debug)]
pub struct HostsArgs {
    /// The lab, if several labs have a namespace of this name.
    #[arg(long)]
    pub lab: Option<String>,
    /// The namespaces, of one lab.
    #[arg(value_name = "NS", required = true)]
    pub namespaces: Vec<String>,
}

/// Arguments of `peer`.
#[derive(Args, Clone, Debug)]
pub struct PeerArgs {
    /// Either end of the veth.
    pub interface: String,
    /// Where this end is: a host of a lab, a name in /run/netns, a pid or a container [default: the caller's namespace].
    #[arg(long = "in", value_name = "NS")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub json: JsonArg,
}

/// Arguments of `ping`.
#[derive(Args, Clone, Debug)]
pub struct PingArgs {
    #[command(flatten)]
    pub lab: LabArg,
    /// Only these hosts ask [default: all].
    #[arg(long, value_name = "NS", value_delimiter = ',')]
    pub from: Vec<String>,
    /// Only these hosts are asked [default: all].
    #[arg(long, value_name = "NS", value_delimiter = ',')]
    pub to: Vec<String>,
    /// How long each host waits for a reply, such as `500ms` or `5s`. Requests are repeated meanwhile.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = wait)]
    pub within: Duration,
    #[command(flatten)]
    pub json: JsonArg,
}

/// A time to wait: a number of seconds, or a time with its unit.
fn wait(text: &str) -> Result<Duration, String> {
    let time = period(text)?;
    if time <= Duration::from_secs(60) {
        Ok(time)
    } else {
        Err("expected a time from 100ms to 1m".to_owned())
    }
}

/// Arguments of `test`.
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    #[command(flatten)]
    pub lab: LabArg,
    /// Also write the results as JUnit's XML, for a CI system.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArg,
}

/// Arguments of `stats`.
#[derive(Args, Clone, Debug)]
pub struct StatsArgs {
    #[command(flatten)]
    pub lab: LabArg,
    #[command(flatten)]
    pub json: JsonArg,
    /// Repeat, every second by default, until interrupted: on a terminal a view with keys (`?` lists them), else a table.
    #[arg(long, value_name = "TIME", num_args = 0..=1, conflicts_with_all = ["json", "interval"], value_parser = period)]
    pub watch: Option<Option<Duration>>,
    /// Repeat a table, or with `--json` a line of JSON, at this interval, such as `1s`, `500ms` or `2` (seconds), until
    /// interrupted.
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub interval: Option<Duration>,
    /// The order of pairs [default: file; in the view of `--watch`, traffic].
    #[arg(long, value_name = "KEY", value_enum)]
    pub sort: Option<SortKey>,
    /// Only pairs with this text in their name, port, bridge or state.
    #[arg(long, value_name = "TEXT")]
    pub pair: Option<String>,
    /// Show a matrix of fast packets by sender and receiver.
    #[arg(long, conflicts_with_all = ["watch", "interval", "sort", "pair", "rtt"])]
    pub matrix: bool,
    /// Show round-trip times of the TCP connections between hosts of the lab.
    #[arg(long)]
    pub rtt: bool,
}

/// The shortest and the longest interval.
const PERIOD: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// An interval: a number of seconds, or a time with its unit.
fn period(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().map(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.unwrap_or_else(|| duration(text).ok());
    let time = time.ok_or_else(|| "expected a time such as `1s`, `500ms` or `2`".to_owned())?;
    if PERIOD.contains(&time) { Ok(time) } else { Err("expected a time from 100ms to 1h".to_owned()) }
}

/// Arguments of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    #[command(flatten)]
    pub lab: LabArg,
    /// Also print new events, until interrupted or until the lab is down.
    #[arg(long, short)]
    pub follow: bool,
    /// Only events of this pair, such as `ns0:eth0`.
    #[arg(long, value_name = "PAIR")]
    pub pair: Option<String>,
    /// Only events newer than this, such as `10m` or `1h30m`.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub since: Option<Duration>,
    /// Print a line of JSON for each event.
    #[arg(long)]
    pub json: bool,
}

fn duration(text: &str) -> Result<Duration, jiff::Error> {
    text.parse::<jiff::SignedDuration>()?.try_into()
}

/// `--cores` of `bench`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CoresArg {
    /// Both ends on one CPU.
    Same,
    /// Each end on a CPU of its own.
    Cross,
    /// Both, in turn.
    Both,
}

/// Arguments of `bench`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Without --work and --all: UDP and TCP round trips of 64 bytes, on one CPU and across two."
)]
pub struct BenchArgs {
    #[command(flatten)]
    pub lab: LabArg,
    /// Measure between two ports of other programs on this bridge, which is accelerated for that.
    #[arg(long, value_name = "BRIDGE", conflicts_with_all = ["lab", "chain", "hosts"])]
    pub bridge: Option<String>,
    /// The network namespace that the bridge is in, by its name in /run/netns [default: the caller's].
    #[arg(long, value_name = "NS", requires = "bridge")]
    pub namespace: Option<String>,
    /// Client namespace; with `--bridge`, also a container or the pid of a process [default: the first with an armed pair].
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    pub from: Option<String>,
    /// Server namespace [default: the second on the same bridge].
    #[arg(long, value_name = "NAMESPACE", requires = "from")]
    pub to: Option<String>,
    /// Measure a temporary lab: this many bridges in a row, with a host at either end.
    #[arg(long, value_name = "BRIDGES", conflicts_with_all = ["lab", "from", "hosts"],
          value_parser = clap::value_parser!(u64).range(Shape::CHAIN))]
    pub chain: Option<u64>,
    /// Measure a temporary lab: one bridge with this many hosts, from the first to the last.
    #[arg(long, value_name = "HOSTS", conflicts_with_all = ["lab", "from"],
          value_parser = clap::value_parser!(u64).range(Shape::HOSTS))]
    pub hosts: Option<u64>,
    /// Measure XDP too, in a temporary lab with the same number of bridges.
    #[arg(long)]
    pub xdp: bool,
    /// Workloads; the first one gives the headline figure.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub work: Vec<Workload>,
    /// Measure every workload in every sensible variant.
    #[arg(long, conflicts_with = "work")]
    pub all: bool,
    /// Bytes of a message, datagram or write, 1 to 65536 [default: 64; 65536 for streams].
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub size: Vec<u32>,
    /// How the ends wait for data [default: blocking].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub wait: Vec<Wait>,
    /// CPUs of the two ends [default: both; streams and rates across CPUs].
    #[arg(long, value_enum)]
    pub cores: Option<CoresArg>,
    /// Time limit in seconds; ends earlier once the confidence intervals are narrow.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Seed of the order of rounds.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Write an HTML report with charts; it loads nothing from the network.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Compare with the JSON of an earlier run.
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArg,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_a_unit_or_is_in_seconds() {
        let millis = |text| period(text).map(|time| time.as_millis());
        assert_eq!(
            [millis("1s"), millis("500ms"), millis("2"), millis("0.5")],
            [Ok(1000), Ok(500), Ok(2000), Ok(500)]
        );
        assert_eq!(millis("1m30s"), Ok(90_000));
        for text in ["", "s", "0", "-1", "-1s", "50ms", "2h", "three-hosts", "inf", "NaN"] {
            assert!(period(text).is_err(), "{text}");
        }
    }
}
