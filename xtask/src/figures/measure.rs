//! Measures one source.

use std::{fmt::Write as _, fs, process::Stdio};

use serde_json::Value;

use super::sources::{How, Source};
use crate::{
    error::Error,
    tools::{self, cargo, command, display, say, target_dir},
};

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
            fs::write(&file, topology(bridges))
                .map_err(|source| Error::File { path: file.clone(), source })?;
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
            let text = printed(&mut bench)?;
            serde_json::from_str(&text).map_err(|error| Error::Figures(format!("{}: {error}", source.name)))
        }
        How::Cargo { bench, most, words } => {
            let mut run = cargo();
            run.args(["bench", "--package", "vethpath", "--bench", bench]);
            run.arg("--").args(most.map(|most| time(most).to_string())).args(words.split_whitespace());
            say(&format!("$ {}", display(&run)));
            printed(&mut run).map(Value::from)
        }
    }
}

/// The standard output of a command. Its standard error is inherited.
fn printed(command: &mut std::process::Command) -> Result<String, Error> {
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
