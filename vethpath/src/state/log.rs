//! The agent's log and its rotation.

use std::{fs, io, path::Path};

use super::Directory;

/// The size in bytes at which the log is rotated. One older log is kept.
const MOST_BYTES: u64 = 1 << 20;

/// Rotates the log when it is too long. The agent's standard error stays the same file, which is copied and truncated.
///
/// # Errors
/// A file operation fails.
pub fn rotate_if_long(directory: &Directory) -> io::Result<()> {
    rotate(&directory.log(), &directory.old_log())
}

fn rotate(log: &Path, old: &Path) -> io::Result<()> {
    match fs::metadata(log) {
        Ok(there) if there.len() > MOST_BYTES => {}
        _ => return Ok(()),
    }
    // The copy has the same mode. If it fails for lack of space, the log is truncated all the same.
    let copied = fs::copy(log, old).map(drop);
    fs::OpenOptions::new().write(true).open(log)?.set_len(0)?;
    copied
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_log_is_put_aside_when_it_is_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let (log, old) = (folder.path().join("log"), folder.path().join("old"));
        rotate(&log, &old).unwrap();
        fs::write(&log, "short").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
        rotate(&log, &old).unwrap();
        assert!(!old.exists());
        let long = "x".repeat(usize::try_from(MOST_BYTES).unwrap() + 1);
        fs::write(&log, &long).unwrap();
        rotate(&log, &old).unwrap();
        assert_eq!(
            (fs::read_to_string(&log).unwrap(), fs::read_to_string(&old).unwrap()),
            (String::new(), long)
        );
        assert_eq!(fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
