//! Settings under `/proc/sys/net`. They belong to the namespace of the thread that opens them.

use std::{fs, path::PathBuf};

use super::{Error, Netns, Result, error::Context, files, netns::HOST};
use crate::topology::{Sysctl, SysctlKey};

/// Writes settings in `netns`, in order.
///
/// # Errors
/// A setting does not exist or refuses its value. Those before it are written.
pub fn write(netns: &Netns, settings: &[Sysctl]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    netns.run(|| write_here(netns, settings))?
}

/// As [`write()`], for a thread that is in `netns`.
///
/// # Errors
/// As [`write()`].
pub fn write_here(netns: &Netns, settings: &[Sysctl]) -> Result<()> {
    let place = || match netns.to_string().as_str() {
        HOST => "on the host".to_owned(),
        name => format!("in namespace {name}"),
    };
    for setting in settings {
        let Sysctl { key, value } = setting;
        // With a newline, since an empty value would not be written at all.
        fs::write(file(key), format!("{value}\n"))
            .map_err(|source| (source, format!("{key} = {value} {}", place())))
            .map_err(|(source, object)| Error::new("set sysctl", object, source))?;
    }
    Ok(())
}

/// Writes settings in `netns`, in order. Skips those that do not exist, because the interface is gone or the kernel
/// lacks the address family.
///
/// # Errors
/// A setting refuses its value. Those before it are written.
pub fn write_existing(netns: &Netns, settings: &[Sysctl]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    netns.run(|| write_existing_here(netns, settings))?
}

/// As [`write_existing()`], for a thread that is in `netns`.
///
/// # Errors
/// As [`write_existing()`].
pub fn write_existing_here(netns: &Netns, settings: &[Sysctl]) -> Result<()> {
    settings.iter().try_for_each(|setting| match write_here(netns, std::slice::from_ref(setting)) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    })
}

/// Reads a setting in `netns`, without the trailing newline.
///
/// # Errors
/// It does not exist.
pub fn read(netns: &Netns, key: &SysctlKey) -> Result<String> {
    netns.run(|| {
        let text = files::read_bounded(&file(key), files::LIST).doing("read sysctl", key)?;
        Ok(text.trim_end().to_owned())
    })?
}

/// Reads settings in `netns`, in order. `None` for one that cannot be read.
///
/// # Errors
/// The namespace cannot be entered.
pub fn read_all(netns: &Netns, keys: &[SysctlKey]) -> Result<Vec<Option<String>>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    netns.run(|| keys.iter().map(value_here).collect())
}

/// The value of a setting in the namespace of the calling thread. `None` if it cannot be read.
#[must_use]
pub fn value_here(key: &SysctlKey) -> Option<String> {
    files::read_bounded(&file(key), files::LIST).ok().map(|text| text.trim_end().to_owned())
}

fn file(key: &SysctlKey) -> PathBuf {
    std::iter::once("/proc/sys").chain(key.path().iter().map(String::as_str)).collect()
}
