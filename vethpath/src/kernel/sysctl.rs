//! Settings under `/proc/sys/net`. They belong to the namespace of the thread that opens them.
//!
//! procfs has the folders of all network namespaces in one chain of its dentry cache, and compares each of them at a lookup
//! (`proc_sys_compare` in fs/proc/proc_sysctl.c): beside a thousand namespaces that takes 30 us. So each folder of a family
//! is opened once for many settings.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::PathBuf,
};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};

use super::{Error, Netns, Result, error::Context, files, netns::HOST};
use crate::topology::{Sysctl, SysctlKey};

/// Opens settings in the namespace of the calling thread. The folders of families stay open.
#[derive(Default)]
struct Folders(BTreeMap<String, OwnedFd>);

impl Folders {
    fn open(&mut self, key: &SysctlKey, flags: OFlag) -> io::Result<File> {
        let (folder, rest) = match key.path() {
            [net, family, rest @ ..] if !rest.is_empty() => (format!("/proc/sys/{net}/{family}"), rest),
            all => ("/proc/sys".to_owned(), all),
        };
        if !self.0.contains_key(&folder) {
            let opened =
                open(&*folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            let _ = self.0.insert(folder.clone(), opened);
        }
        let rest: PathBuf = rest.iter().collect();
        Ok(openat(&self.0[&folder], &rest, flags | OFlag::O_CLOEXEC, Mode::empty())?.into())
    }

    /// Writes a setting. It may not exist.
    fn write(&mut self, netns: &Netns, Sysctl { key, value }: &Sysctl) -> Result<()> {
        let place = || match netns.to_string().as_str() {
            HOST => "on the host".to_owned(),
            name => format!("in namespace {name}"),
        };
        // With a newline, since an empty value would not be written at all.
        self.open(key, OFlag::O_WRONLY | OFlag::O_TRUNC)
            .and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()))
            .map_err(|source| Error::new("set sysctl", format!("{key} = {value} {}", place()), source))
    }

    /// The value of a setting. `None` if it cannot be read.
    fn value(&mut self, key: &SysctlKey) -> Option<String> {
        let file = self.open(key, OFlag::O_RDONLY).ok()?;
        files::read_from(&file, files::LIST).ok().map(|text| text.trim_end().to_owned())
    }
}

/// Writes settings in `netns`, in order.
///
/// # Errors
/// A setting does not exist or refuses its value. Those before it are written.
pub fn write(netns: &Netns, settings: &[Sysctl]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    netns.run(|| {
        let mut folders = Folders::default();
        settings.iter().try_for_each(|setting| folders.write(netns, setting))
    })?
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
    let mut folders = Folders::default();
    settings.iter().try_for_each(|setting| match folders.write(netns, setting) {
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
        let text = Folders::default()
            .open(key, OFlag::O_RDONLY)
            .and_then(|file| files::read_from(&file, files::LIST))
            .doing("read sysctl", key)?;
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
    netns.run(|| values_here(keys))
}

/// As [`read_all()`], for the namespace of the calling thread.
#[must_use]
pub fn values_here(keys: &[SysctlKey]) -> Vec<Option<String>> {
    let mut folders = Folders::default();
    keys.iter().map(|key| folders.value(key)).collect()
}
