//! Where figures come from. A new benchmark is a line here, and a block in `render`.

/// Something that is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Its name in `docs/figures.json`.
    pub(super) name: &'static str,
    /// How it is measured.
    pub(super) how: How,
}

/// How something is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// `vethpath bench --json` on a lab with so many bridges in a row.
    Bench {
        /// How many.
        bridges: usize,
        /// `bridge-nf-call-iptables` where they are.
        netfilter: bool,
        /// What is measured.
        work: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// What `cargo bench` prints of one benchmark.
    Cargo {
        /// Its name.
        bench: &'static str,
        /// Seconds or rounds, where it takes them.
        most: Option<u64>,
        /// What else it is told.
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

/// For the command line.
pub(super) fn names() -> Vec<&'static str> {
    ALL.iter().map(|source| source.name).collect()
}
