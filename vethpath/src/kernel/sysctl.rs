//! Settings under `/proc/sys/net`, which show the namespace of the thread that opens them.

use std::{fs, path::PathBuf};

use super::{Error, Netns, Result, bounded, error::Context, netns::HOST};
use crate::topology::Sysctl;

/// Writes settings in `netns`, in order.
///
/// # Errors
/// One does not exist or refuses its value; those before it are written.
pub fn write(netns: &Netns, settings: &[Sysctl]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    netns.run(|| write_here(netns, settings))?
}

/// The same on a thread that is in `netns`.
///
/// # Errors
/// As [`write()`].
pub fn write_here(netns: &Netns, settings: &[Sysctl]) -> Result<()> {
    let place = || match netns.to_string().as_str() {
        HOST => "on the host".to_owned(),
        name => format!("in namespace {name}"),
    };
    for setting in settings {
        let Sysctl { path, value } = setting;
        fs::write(file(setting), value)
            .map_err(|source| (source, format!("{} = {value} {}", path.join("."), place())))
            .map_err(|(source, object)| Error::new("set sysctl", object, source))?;
    }
    Ok(())
}

/// Reads a setting in `netns`, without the line's end. The value of `setting` does not matter.
///
/// # Errors
/// It does not exist.
pub fn read(netns: &Netns, setting: &Sysctl) -> Result<String> {
    netns.run(|| {
        let text =
            bounded::read(&file(setting), bounded::LIST).doing("read sysctl", setting.path.join("."))?;
        Ok(text.trim_end().to_owned())
    })?
}

/// Reads settings in `netns`, in their order; `None` for one that cannot be read.
///
/// # Errors
/// The namespace cannot be entered.
pub fn read_all(netns: &Netns, settings: &[&Sysctl]) -> Result<Vec<Option<String>>> {
    if settings.is_empty() {
        return Ok(Vec::new());
    }
    let read = |setting: &&Sysctl| bounded::read(&file(setting), bounded::LIST).ok();
    netns
        .run(|| settings.iter().map(|setting| read(setting).map(|text| text.trim_end().to_owned())).collect())
}

fn file(setting: &Sysctl) -> PathBuf {
    std::iter::once("/proc/sys").chain(setting.path.iter().map(String::as_str)).collect()
}

/// A setting made of literal path components.
#[must_use]
pub fn setting(path: &[&str], value: &str) -> Sysctl {
    Sysctl { path: path.iter().map(|&part| part.to_owned()).collect(), value: value.to_owned() }
}
