//! The command line: types only.
#![expect(missing_docs, reason = "flattened arguments are documented by their own types")]

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    bench::{Peer, Shape, Wait, Work},
    datapath::Hook,
};

/// Network labs on one Linux host whose switches are as fast as a cable.
#[derive(Debug, Parser)]
#[command(name = "vethpath", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which lab a command is about.
#[derive(Args, Clone, Debug)]
pub struct LabArg {
    /// A lab's name, or its file. With one lab up it may be left out.
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

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a lab up, or make one that is up what its file says now.
    Up {
        /// The topology file.
        file: PathBuf,
        /// How to attach the programs [default: the best that the kernel has].
        #[arg(long, value_enum)]
        hook: Option<HookArg>,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Take a lab down. Removes only what carries the lab's mark.
    Down {
        #[command(flatten)]
        lab: LabArg,
        /// Take all labs down.
        #[arg(long, conflicts_with = "lab")]
        all: bool,
    },
    /// Show what `up` would create, change and delete, from what is there now.
    Plan {
        /// The topology file.
        file: PathBuf,
        /// Print every change, however many there are. JSON has them all in any case.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        json: JsonArg,
    },
    /// Check a topology file: all faults at once, and what may not be meant.
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
        /// The lab, where a namespace of this name is in more than one.
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
        /// The lab, where a namespace of this name is in more than one.
        #[arg(long)]
        lab: Option<String>,
        /// The namespace.
        namespace: String,
    },
    /// Show what each pair has sent and received, fast and slow, and why slow.
    Stats {
        #[command(flatten)]
        lab: LabArg,
        #[command(flatten)]
        json: JsonArg,
        /// Show again every so many seconds, until interrupted.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", conflicts_with = "json",
              value_parser = clap::value_parser!(u64).range(1..=3600))]
        watch: Option<u64>,
        /// Show who sent how much to whom by the fast path.
        #[arg(long, conflicts_with = "watch")]
        matrix: bool,
    },
    /// Show what has happened to a lab: each change of state, with its time.
    Events(EventsArgs),
    /// Compare cable, plain bridge and fast path, measured in turns.
    Bench(BenchArgs),
    /// Show what this host has for vethpath, and what to do where it lacks something.
    Doctor {
        #[command(flatten)]
        json: JsonArg,
    },
    /// The lab's own process; `up` starts it.
    #[command(hide = true)]
    Agent {
        /// The lab.
        lab: String,
    },
    /// An end of round trips; `bench` starts it, with a socket as standard input.
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

/// Arguments of `validate`.
#[derive(Args, Clone, Debug)]
pub struct ValidateArgs {
    /// The topology file.
    pub file: PathBuf,
    /// Print the same lab with every group, mesh and chain written out.
    #[arg(long, conflicts_with = "json")]
    pub expand: bool,
    #[command(flatten)]
    pub json: JsonArg,
}

/// Arguments of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    #[command(flatten)]
    pub lab: LabArg,
    /// Go on with each event as it comes, until interrupted or until the lab is down.
    #[arg(long, short)]
    pub follow: bool,
    /// Only events of this pair, such as `ns0:eth0`.
    #[arg(long, value_name = "PAIR")]
    pub pair: Option<String>,
    /// Only events that are not older than this, such as `10m` or `1h30m`.
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
    /// Each end on its own CPU.
    Cross,
    /// One after the other.
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
    /// The namespace that asks [default: the first with an armed pair].
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    pub from: Option<String>,
    /// The namespace that answers [default: the second on the same bridge].
    #[arg(long, value_name = "NAMESPACE", requires = "from")]
    pub to: Option<String>,
    /// Measure a lab of its own: this many bridges in a row, with a host at either end.
    #[arg(long, value_name = "BRIDGES", conflicts_with_all = ["lab", "from", "hosts"],
          value_parser = clap::value_parser!(u64).range(Shape::CHAIN))]
    pub chain: Option<u64>,
    /// Measure a lab of its own: one bridge with this many hosts, from the first to the last.
    #[arg(long, value_name = "HOSTS", conflicts_with_all = ["lab", "from"],
          value_parser = clap::value_parser!(u64).range(Shape::HOSTS))]
    pub hosts: Option<u64>,
    /// Measure XDP too, in a lab of its own that has as many bridges between the two.
    #[arg(long)]
    pub xdp: bool,
    /// What to measure, the answer's first.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub work: Vec<Work>,
    /// Measure everything that there is, in every way that makes sense.
    #[arg(long, conflicts_with = "work")]
    pub all: bool,
    /// Bytes of a message, datagram or write, 1 to 65536 [default: 64; 65536 for streams].
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub size: Vec<u32>,
    /// How the ends wait for each other [default: blocking].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub wait: Vec<Wait>,
    /// Where the two ends run [default: both, but streams and rates across CPUs].
    #[arg(long, value_enum)]
    pub cores: Option<CoresArg>,
    /// How long to measure at most, in seconds. It ends before that once the intervals are narrow.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Take turns in an order that depends on this number alone.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Write a page with charts of everything as well. It needs no network to be read.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Say what has changed since a former run, of which this is the JSON.
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArg,
}
