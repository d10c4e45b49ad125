//! Checks whether a requirement is installed.

use std::path::Path;

use crate::tools::{self, cargo, command, output};

/// How to check whether a requirement is installed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Probe {
    /// A program of this name is in the search path.
    Program(&'static str),
    /// This file exists.
    File(&'static str),
    /// A program prints exactly this version for `--version`.
    Version(&'static str, &'static str),
    /// `cargo NAME --version` works. Finding the program is not enough: rustup puts a proxy in PATH for components that
    /// are not installed.
    Cargo(&'static str),
    /// The toolchain's sysroot has this file or folder.
    Sysroot(&'static str),
    /// An unpacked package has this file.
    Unpacked(&'static str),
}

impl Probe {
    /// Runs the probe. Returns what is wrong, for people; `None` if the requirement is installed.
    pub(super) fn shortfall(self) -> Option<String> {
        let present = match self {
            Self::Program(name) => tools::find(name).is_some(),
            Self::File(path) => Path::new(path).is_file(),
            Self::Version(name, wanted) => {
                let Some(file) = tools::find(name) else {
                    return Some(self.absence());
                };
                let text = output(command(&file).arg("--version")).unwrap_or_default();
                return compare(&file, version(&text), wanted);
            }
            Self::Cargo(name) => output(cargo().args([name, "--version"])).is_some(),
            Self::Sysroot(file) => output(command("rustc").args(["--print", "sysroot"]))
                .is_some_and(|root| Path::new(root.trim_end()).join(file).exists()),
            Self::Unpacked(file) => tools::packages_dir().join(file).is_file(),
        };
        (!present).then(|| self.absence())
    }

    /// The message if nothing was found.
    fn absence(self) -> String {
        match self {
            Self::Program(name) | Self::Version(name, _) => format!("`{name}` is not in PATH"),
            Self::File(path) => format!("{path} is not there"),
            Self::Cargo(name) => format!("`cargo {name} --version` fails"),
            Self::Sysroot(file) => format!("the toolchain has no {file}"),
            Self::Unpacked(file) => format!("{} is not there", tools::packages_dir().join(file).display()),
        }
    }
}

/// What is wrong with the version of `file`, if it is not the required one.
fn compare(file: &Path, version: Option<&str>, wanted: &str) -> Option<String> {
    match version {
        Some(version) if version == wanted => None,
        Some(version) => Some(format!("{} is version {version}, not {wanted}", file.display())),
        None => Some(format!("{} does not have its version", file.display())),
    }
}

/// The version in a line such as `bpf-linker 0.10.4 (2f3a 2026-01-02)`.
fn version(text: &str) -> Option<&str> {
    let word = text.lines().next()?.split_whitespace().nth(1)?;
    let version = word.strip_prefix('v').unwrap_or(word);
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_first_line() {
        assert_eq!(version("bpf-linker 0.10.4\n"), Some("0.10.4"));
        assert_eq!(version("bpf-linker v0.9.15 (abc 2025-01-01)\nLLVM 19"), Some("0.9.15"));
        assert_eq!(version("bpf-linker"), None);
        assert_eq!(version("error: no such option"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn another_version_is_not_the_one_wanted() {
        let file = Path::new("/usr/local/bin/bpf-linker");
        assert_eq!(compare(file, Some("0.10.4"), "0.10.4"), None);
        let other = compare(file, Some("0.10.40"), "0.10.4");
        assert_eq!(other.as_deref(), Some("/usr/local/bin/bpf-linker is version 0.10.40, not 0.10.4"));
        assert!(compare(file, None, "0.10.4").is_some());
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert!(Probe::Program("no-such-program-anywhere").shortfall().is_some());
        assert!(Probe::Sysroot("no/such/file").shortfall().is_some());
    }
}
