//! `cargo xtask demo`: the main features on a small lab, with a build like users'.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::Error,
    interrupt,
    setup::{self, Need},
    tools::{self, cargo, command, is_root, say, target_dir},
};

/// The demo's topology and the names in it.
const FILE: &str = "examples/demo.toml";
const LAB: &str = "vethpath-demo";

/// The steps: a heading and the arguments of `vethpath`. Taking the lab down follows in any case.
const STEPS: &[(&str, &[&str])] = &[
    ("Bring up three namespaces on one bridge", &["up", FILE]),
    ("Look at the lab", &["show", LAB]),
    (
        "Run a command in a namespace: ping its neighbour",
        &["exec", "--lab", LAB, "vpdemo-a", "--", "ping", "-c", "3", "10.211.7.12"],
    ),
    (
        "Compare round trips: the cable, the bridge with the programs detached, the fast path, in turns",
        &["bench", LAB, "--from", "vpdemo-a", "--to", "vpdemo-b", "--seconds", "10"],
    ),
    ("Read what each pair carried, and by which path", &["stats", LAB]),
];
const END: (&str, &[&str]) = ("Take the lab down", &["down", LAB]);

/// Runs the demo.
pub(crate) fn run() -> Result<(), Error> {
    if !is_root() {
        return Err(Error::NeedsRoot { chore: "demo".to_owned() });
    }
    setup::run(&[Need::Build, Need::Demo])?;
    let vethpath = build()?;
    interrupt::watch()?;
    let shown = show(&vethpath);
    let ended = end(&vethpath);
    shown.and(ended)?;
    say(&format!("\nThat was {FILE}. `vethpath up {FILE}` brings it up to stay."));
    Ok(())
}

/// Builds the program and returns its path.
pub(crate) fn build() -> Result<PathBuf, Error> {
    heading(0, "Build vethpath");
    let target = target_dir();
    let mut build = cargo();
    build.args(["build", "--profile", "demo", "--package", "vethpath", "--target-dir"]).arg(&target);
    tools::run(&mut build)?;
    Ok(target.join("demo/vethpath"))
}

/// Runs the steps until one fails or a signal arrives.
fn show(vethpath: &Path) -> Result<(), Error> {
    for (index, (about, args)) in STEPS.iter().enumerate() {
        heading(index + 1, about);
        let done = tools::run(command(vethpath).args(*args));
        if interrupt::seen() {
            return Err(Error::Interrupted);
        }
        done?;
    }
    Ok(())
}

/// Takes the lab down, if there is one.
fn end(vethpath: &Path) -> Result<(), Error> {
    if !Path::new("/run/vethpath").join(LAB).exists() {
        return Ok(());
    }
    let (about, args) = END;
    heading(STEPS.len() + 1, about);
    tools::run(shielded(command(vethpath).args(args)))
}

/// Sets a process group of its own, which a second Ctrl-C does not reach.
fn shielded(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Prints the heading of a step.
fn heading(step: usize, about: &str) {
    say(&format!("\n== {step}/{} {about}", STEPS.len() + 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_speak_of_the_file_as_it_is() {
        let text = std::fs::read_to_string(tools::root().join(FILE)).expect("the demo's topology");
        assert!(text.contains(&format!("name = \"{LAB}\"")));
        for word in ["[namespace.vpdemo-a]", "[namespace.vpdemo-b]", "10.211.7.12/24"] {
            assert!(text.contains(word), "{word}");
        }
    }

    #[test]
    fn every_step_names_its_lab() {
        for (about, args) in STEPS.iter().chain([&END]) {
            assert!(args.contains(&LAB) || args.contains(&FILE), "{about}");
        }
    }
}
