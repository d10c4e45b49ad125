//! Reading files, those of /proc included, no further than they can rightly go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::libc;

/// More bytes than a file of one value has.
pub const VALUE: u64 = 4096;

/// More bytes than the longest list under /proc that is read here.
pub const LIST: u64 = 16 << 20;

/// The text of a file of at most `most` bytes. Never waits for a writer.
///
/// # Errors
/// It cannot be read, is longer, or no UTF-8.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<String> {
    read_from(&OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?, most)
}

/// The same of a file that the kernel may not have; `None` then. The `folder` is where it would be, or another that is
/// there whenever such files are: without it, nothing is known.
///
/// # Errors
/// As [`read`]; and neither the file nor the folder is there.
pub fn read_optional(path: &Path, folder: &Path, most: u64) -> io::Result<Option<String>> {
    match read_bounded(path, most) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => Ok(None),
        other => other.map(Some),
    }
}

/// The text of an open file of at most `most` bytes, from where it stands.
///
/// # Errors
/// It cannot be read, is longer, or no UTF-8.
pub fn read_from(file: &File, most: u64) -> io::Result<String> {
    String::from_utf8(read_bytes_from(file, most)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// The bytes of an open file of at most `most` bytes, from where it stands.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), "12345");
        assert_eq!(read_bounded(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(
            read_bounded(Path::new("/dev/zero"), 4096).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
