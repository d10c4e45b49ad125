//! Files: read up to a limit, and created for this user (root) only, whatever the umask.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use nix::{libc, unistd::geteuid};

/// More bytes than a file of one value has.
pub const VALUE: u64 = 4096;

/// More bytes than the longest list under /proc that is read here.
pub const LIST: u64 = 16 << 20;

/// The text of a file of at most `most` bytes. Does not block on a FIFO without a writer.
///
/// # Errors
/// The file cannot be read, is longer, or is not UTF-8.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<String> {
    read_from(&OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?, most)
}

/// The same for a file that not every kernel has; `None` if missing. `folder` is its folder, or another that exists
/// whenever such files can: without it, nothing is known.
///
/// # Errors
/// As [`read_bounded`]; or neither the file nor the folder exists.
pub fn read_optional(path: &Path, folder: &Path, most: u64) -> io::Result<Option<String>> {
    match read_bounded(path, most) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => Ok(None),
        other => other.map(Some),
    }
}

/// The text of an open file of at most `most` bytes, from its current offset.
///
/// # Errors
/// The file cannot be read, is longer, or is not UTF-8.
pub fn read_from(file: &File, most: u64) -> io::Result<String> {
    String::from_utf8(read_bytes_from(file, most)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// The bytes of an open file of at most `most` bytes, from its current offset.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read_bytes_from(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if length as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// Mode of folders and of files.
const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;

/// Write permission of group and others.
const OTHERS_WRITE: u32 = 0o022;

/// Creates a folder for this user only. An existing folder gets mode 0700, unless another user may have written to it.
/// Its parent must not be writable by others, as `/run` is not.
///
/// # Errors
/// The file system refuses; or what exists there is a symbolic link, no folder, another user's, or writable by others.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_private_folder(path)?,
        Err(error) => return Err(error),
    }
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    set_mode(&OpenOptions::new().read(true).custom_flags(flags).open(path)?, FOLDER)
}

/// Checks that the contents of a folder can be trusted: this user or root owns it, and others cannot write to it.
///
/// # Errors
/// It does not exist, or is a symbolic link, no folder, another user's, or writable by others.
pub fn check_private_folder(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let bad = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if found.is_symlink() {
        return bad("it is a symbolic link, and links are not followed; remove it".to_owned());
    }
    if !found.is_dir() {
        return bad("it exists and is not a directory; remove it".to_owned());
    }
    if found.uid() != 0 && found.uid() != geteuid().as_raw() {
        return bad(format!("it belongs to user {}; remove it or chown it", found.uid()));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        let mode = found.mode() & 0o7777;
        return bad(format!("others may write to it (mode {mode:04o}); check its contents, then chmod 0700"));
    }
    Ok(())
}

/// Opens a file with `options`. A new file is created with mode 0600, and an existing one gets it. Symbolic links are
/// not followed, and the call does not block.
///
/// # Errors
/// The file system refuses, or it is a symbolic link or no regular file.
pub fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(FILE).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    set_mode(&file, FILE)?;
    Ok(file)
}

/// Whether [`open_private`] failed because it found something other than a regular file.
#[must_use]
pub fn is_not_a_file(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory)
        || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}

/// Writes a file for this user only.
///
/// # Errors
/// As [`open_private`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    open_private(OpenOptions::new().write(true).create(true).truncate(true), path)?.write_all(bytes)
}

/// By descriptor: the file cannot be replaced under its name meanwhile.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    if file.metadata()?.mode() & 0o7777 == mode {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), "12345");
        assert_eq!(read_bounded(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(
            read_bounded(Path::new("/dev/zero"), 4096).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn with_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn folders_are_made_or_tightened() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("lab");
        make_private_folder(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        with_mode(&path, 0o755);
        make_private_folder(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn what_others_may_have_made_is_refused_and_untouched() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("lab");
        let refused = |word: &str| {
            let error = make_private_folder(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        symlink("/tmp", &path).unwrap();
        refused("symbolic link");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "x").unwrap();
        refused("not a directory");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        with_mode(&path, 0o777);
        refused("mode 0777");
        assert_eq!(mode(&path), 0o777);
        if geteuid().is_root() {
            with_mode(&path, 0o700);
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            refused("user 65534");
        }
    }

    #[test]
    fn files_are_tightened_and_links_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let (file, link) = (base.path().join("file"), base.path().join("link"));
        fs::write(&file, "before").unwrap();
        with_mode(&file, 0o644);
        symlink(&file, &link).unwrap();
        assert!(write_private(&link, b"planted").is_err());
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("before", 0o644));
        write_private(&file, b"after").unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("after", 0o600));
    }
}
