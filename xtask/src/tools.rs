//! Finds and runs other programs.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::Error;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent().map_or(own.clone(), Path::to_path_buf)
}

/// Cargo's target folder, as an absolute path.
pub(crate) fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| PathBuf::from(dir)),
        None => root().join("target"),
    }
}

/// Where Debian packages are unpacked that would start daemons if they were installed.
pub(crate) fn packages_dir() -> PathBuf {
    root().join("target/packages")
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where `cargo install` puts programs.
fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).map(|home| home.join("bin"))
}

/// PATH with folders that it may lack. If cargo is run by its full path, PATH may lack `~/.cargo/bin`; PATH of users
/// other than root often lacks the `sbin` folders.
fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    completed(env::split_paths(&path).collect(), cargo_bin().into_iter().chain(more))
}

/// Appends those of `more` that `path` does not have.
fn completed(mut path: Vec<PathBuf>, more: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    for dir in more {
        if !path.contains(&dir) {
            path.push(dir);
        }
    }
    path
}

/// The file of `program`, if it is in the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A command in the workspace's folder, with an empty standard input and the full search path. Cargo's variables about
/// this crate are removed, since build scripts would use them.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    if let Ok(path) = env::join_paths(search_path()) {
        command.env("PATH", path);
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo that runs this chore.
pub(crate) fn cargo() -> Command {
    let mut command = command(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    if env::var_os("CARGO_TARGET_DIR").is_some() {
        command.env("CARGO_TARGET_DIR", target_dir());
    }
    command
}

/// The command line as a user would type it.
pub(crate) fn display(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let arguments = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy);
    arguments.map(|argument| quoted(&argument)).collect::<Vec<_>>().join(" ")
}

/// A word quoted for the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Prints a line. Unlike `println!` it ignores write errors (`| head`, a closed terminal): the demo must still take its
/// lab down.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Prints the command line and runs it.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    say(&format!("$ {}", display(command)));
    wait(command)
}

/// Runs a command with inherited output and waits for it.
pub(crate) fn wait(command: &mut Command) -> Result<(), Error> {
    match command.spawn().and_then(|mut child| child.wait()) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Failed { command: display(command), status }),
        Err(source) => Err(Error::Start { command: display(command), source }),
    }
}

/// The standard output of a command; `None` if it fails or does not exist.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_completed_but_not_reordered() {
        let dirs = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let path = completed(dirs(&["/usr/bin", "/sbin"]), dirs(&["/root/.cargo/bin", "/sbin"]));
        assert_eq!(path, dirs(&["/usr/bin", "/sbin", "/root/.cargo/bin"]));
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command.args(["test", "--", "two words", ""]);
        assert_eq!(display(&command), "cargo test -- 'two words' ''");
    }

    #[test]
    fn the_workspace_is_found() {
        assert!(root().join("vethpath-common/Cargo.toml").is_file());
    }
}
