//! Settings under `/proc/sys/net`, which show the namespace of the thread that opens them.

use std::{fs, path::PathBuf};

use super::{Netns, Result, error::Context};
use crate::topology::Sysctl;

/// Writes settings in `netns`, in order.
///
/// # Errors
/// One does not exist or refuses its value; those before it are written.
pub fn write(netns: &Netns, settings: &[Sysctl]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    netns.run(|| {
        for Sysctl { path, value } in settings {
            let file: PathBuf = std::iter::once("/proc/sys").chain(path.iter().map(String::as_str)).collect();
            fs::write(&file, value).doing("set sysctl", format_args!("{} = {value}", path.join(".")))?;
        }
        Ok(())
    })?
}

/// A setting made of literal path components.
#[must_use]
pub fn setting(path: &[&str], value: &str) -> Sysctl {
    Sysctl { path: path.iter().map(|&part| part.to_owned()).collect(), value: value.to_owned() }
}
