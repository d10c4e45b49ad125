//! The sources of figures. A new benchmark needs a line here and a block in `render`.

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Its name in `docs/figures.json`.
    pub(super) name: &'static str,
    /// How it is measured.
    pub(super) how: How,
}

/// How a source is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// `vethpath bench --json` in a lab with this many bridges in a row.
    Bench {
        /// The number of bridges.
        bridges: usize,
        /// `bridge-nf-call-iptables` in the bridges' namespace.
        netfilter: bool,
        /// The arguments that select the work.
        work: &'static str,
        /// The time limit.
        seconds: u64,
    },
    /// The output of one `cargo bench` benchmark.
    Cargo {
        /// Its name.
        bench: &'static str,
        /// Seconds or rounds, if the benchmark takes them.
        most: Option<u64>,
        /// Other arguments.
        words: &'static str,
    },
}

const fn round_trips(name: &'static str, bridges: usize, netfilter: bool) -> Source {
    let work = "--work udp-rr --cores same";
    Source { name, how: How::Bench { bridges, netfilter, work, seconds: 25 } }
}

const EVERY_WORK: &str = "--work udp-rr,tcp-rr,tcp-connect,tcp-stream,udp-rate --cores same --xdp";

const fn printed(name: &'static str, most: Option<u64>) -> Source {
    Source { name, how: How::Cargo { bench: name, most, words: "" } }
}

const fn limit(name: &'static str, words: &'static str) -> Source {
    Source { name, how: How::Cargo { bench: "limit", most: Some(40), words } }
}

/// All, in the order they are measured.
pub(super) const ALL: [Source; 13] = [
    round_trips("one-bridge", 1, false),
    round_trips("one-bridge-netfilter", 1, true),
    round_trips("eight-bridges", 8, false),
    round_trips("eight-bridges-netfilter", 8, true),
    Source { name: "work", how: How::Bench { bridges: 1, netfilter: false, work: EVERY_WORK, seconds: 60 } },
    printed("program", None),
    limit("limit", ""),
    limit("limit-netfilter", "nf"),
    limit("limit-tcp", "tcp"),
    limit("limit-stats", "stats"),
    printed("frames", None),
    printed("others", Some(5)),
    printed("scale", None),
];

/// The names, for the command line.
pub(super) fn names() -> Vec<&'static str> {
    ALL.iter().map(|source| source.name).collect()
}
