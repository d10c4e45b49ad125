//! Whole files as input, labs or faults as output.

mod declaration;
mod fabric;
mod faults;
mod faults_across;
mod garbage;
mod labs;
mod meaning;
mod paths;
mod rendering;
mod routing;
mod shorthand;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{Checked, Faults, Source, Topology, check, read};

/// Parses the text as `topo.toml`, with `lab` as the default name.
fn parse(text: &str) -> Result<Topology, Faults> {
    read(Source { path: "topo.toml", text }, Some("lab"))
}

fn good(text: &str) -> Topology {
    parse(text).unwrap_or_else(|faults| panic!("{}", show(&faults, text)))
}

fn bad(text: &str) -> Faults {
    match parse(text) {
        Ok(lab) => panic!("no fault in\n{text}\n{lab:?}"),
        Err(faults) => faults,
    }
}

/// The warnings of a lab, as `line:column message`.
fn warnings(text: &str) -> Vec<String> {
    let source = Source { path: "topo.toml", text };
    match check(source, Some("lab")) {
        Ok(Checked { warnings, .. }) => {
            let line_of = |fault: &super::Fault| {
                let (line, column) = fault.position(text);
                format!("{line}:{column} {}", fault.message)
            };
            warnings.faults.iter().map(line_of).collect()
        }
        Err(faults) => panic!("{}", show(&faults, text)),
    }
}

fn show(faults: &Faults, text: &str) -> String {
    faults.render(Source { path: "topo.toml", text }, false)
}

/// Every example and every file in the documentation, with its name.
fn samples() -> Vec<(String, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(format!("{root}/examples")).expect("examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).expect("an example");
            samples.push((path.display().to_string(), text));
        }
    }
    for name in ["docs/topology.md", "README.md"] {
        let page = std::fs::read_to_string(format!("{root}/{name}")).expect(name);
        let before = samples.len();
        for (n, block) in page.split("```toml\n").skip(1).enumerate() {
            let text = block.split("```").next().expect("a closed block");
            samples.push((format!("{name}, block {}", n + 1), text.to_owned()));
        }
        assert!(samples.len() > before, "no block in {name}");
    }
    assert!(samples.len() > 20, "{} samples", samples.len());
    samples
}

/// The CPU time of the calling thread. It does not depend on the load of the machine.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every kernel has it").into()
}
