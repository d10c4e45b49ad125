//! The sources of figures, and how each is measured. A new benchmark needs a line here and a block in `render`.

use std::{fmt::Write as _, process::Stdio};

use serde_json::Value;

use crate::{
    documents,
    error::Error,
    tools::{self, cargo, command, display, say, target_dir},
};

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
        arguments: &'static str,
    },
}

const fn round_trips(name: &'static str, bridges: usize, netfilter: bool) -> Source {
    let work = "--work udp-rr --cores same";
    Source { name, how: How::Bench { bridges, netfilter, work, seconds: 25 } }
}

const EVERY_WORK: &str = "--work udp-rr,tcp-rr,tcp-connect,tcp-stream,udp-rate --cores same --xdp";

const fn benchmark(name: &'static str, most: Option<u64>) -> Source {
    Source { name, how: How::Cargo { bench: name, most, arguments: "" } }
}

const fn limit(name: &'static str, arguments: &'static str) -> Source {
    Source { name, how: How::Cargo { bench: "limit", most: Some(40), arguments } }
}

/// All, in the order they are measured.
pub(super) const ALL: [Source; 13] = [
    round_trips("one-bridge", 1, false),
    round_trips("one-bridge-netfilter", 1, true),
    round_trips("eight-bridges", 8, false),
    round_trips("eight-bridges-netfilter", 8, true),
    Source { name: "work", how: How::Bench { bridges: 1, netfilter: false, work: EVERY_WORK, seconds: 60 } },
    benchmark("program", None),
    limit("limit", ""),
    limit("limit-netfilter", "nf"),
    limit("limit-tcp", "tcp"),
    limit("limit-stats", "stats"),
    benchmark("frames", None),
    benchmark("others", Some(5)),
    benchmark("scale", None),
];

/// The names, for the command line.
pub(super) fn names() -> Vec<&'static str> {
    ALL.iter().map(|source| source.name).collect()
}

/// Runs in private network, mount and pid namespaces, unaffected by the host's configuration. `$1` is vethpath, `$2`
/// the lab's file, `$3` the value of bridge-nf-call-iptables, and the rest are arguments of `bench`.
const SCRIPT: &str = "mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys && ip link set lo up || exit
switch=/proc/sys/net/bridge/bridge-nf-call-iptables
if [ -e $switch ]; then echo $3 > $switch || exit; fi
vethpath=$1; \"$vethpath\" up \"$2\" >&2 || exit; shift 3
exec \"$vethpath\" bench figures --from a --to b --json \"$@\"";

/// Measures a source. With `quick`, for a tenth of the time.
pub(super) fn measure(source: &Source, quick: bool) -> Result<Value, Error> {
    let time = |seconds: u64| if quick { seconds.div_ceil(10) } else { seconds };
    match source.how {
        How::Bench { bridges, netfilter, work, seconds } => {
            let target = target_dir();
            let mut build = cargo();
            build.args(["build", "--release", "--package", "vethpath", "--target-dir"]).arg(&target);
            tools::run(&mut build)?;
            let file = target.join("figures.toml");
            documents::write(&file, &topology(bridges))?;
            let mut bench = command("unshare");
            bench.args([
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sh",
                "-c",
                SCRIPT,
            ]);
            bench
                .arg("sh")
                .arg(target.join("release/vethpath"))
                .arg(&file)
                .arg(u8::from(netfilter).to_string());
            bench.args(work.split(' ')).args(["--seconds", &time(seconds).to_string()]);
            say(&format!("$ vethpath bench {work} --seconds {} --json", time(seconds)));
            let text = stdout_of(&mut bench)?;
            serde_json::from_str(&text).map_err(|error| Error::Figures(format!("{}: {error}", source.name)))
        }
        How::Cargo { bench, most, arguments } => {
            let mut run = cargo();
            run.args(["bench", "--package", "vethpath", "--bench", bench]);
            run.arg("--").args(most.map(|most| time(most).to_string())).args(arguments.split_whitespace());
            say(&format!("$ {}", display(&run)));
            stdout_of(&mut run).map(Value::from)
        }
    }
}

/// The standard output of a command. Its standard error is inherited.
fn stdout_of(command: &mut std::process::Command) -> Result<String, Error> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let output = output.and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|source| Error::Start { command: display(command), source })?;
    if !output.status.success() {
        return Err(Error::Failed { command: display(command), status: output.status });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A topology of bridges in a row, with a host at each end. The bridges are in the namespace of the netfilter sysctl.
fn topology(bridges: usize) -> String {
    let mut text = "name = \"figures\"\n".to_owned();
    for bridge in 0..bridges {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[bridge.br{bridge}]");
        if bridge + 1 < bridges {
            let _ = writeln!(text, "trunks = [\"br{}\"]", bridge + 1);
        }
    }
    for (host, bridge, address) in [("a", 0, 1), ("b", bridges - 1, 2)] {
        let _ = writeln!(text, "[namespace.{host}.interface.eth0]\nlink = \"br{bridge}\"");
        let _ = writeln!(text, "addresses = [\"10.77.0.{address}/24\"]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_are_in_a_row() {
        let text = topology(2);
        assert!(text.contains("[bridge.br0]\ntrunks = [\"br1\"]\n[bridge.br1]\n[namespace.a"), "{text}");
        assert!(text.ends_with("link = \"br1\"\naddresses = [\"10.77.0.2/24\"]\n"), "{text}");
    }
}
