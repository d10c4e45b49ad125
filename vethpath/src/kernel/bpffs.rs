//! The BPF file system, where programs, links and maps are pinned.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        stat::{major, minor},
        statfs::{BPF_FS_MAGIC, statfs},
    },
};

use super::{Error, Result, error::Context, files};

/// Mounts of this thread's mount namespace.
const MOUNTS: &str = "/proc/thread-self/mounts";

/// The same with device numbers.
const MOUNT_TABLE: &str = "/proc/thread-self/mountinfo";

/// The mount point of bpffs.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";

/// The folder with the pins of all labs.
pub const DIRECTORY: &str = "/sys/fs/bpf/vethpath";

/// The device name in `/proc/mounts` of a bpffs that vethpath mounted.
const OUR_DEVICE: &str = "vethpath";

/// What the kernel itself creates in every new bpffs (kernel/bpf/preload).
const PRELOADED: [&str; 2] = ["maps.debug", "progs.debug"];

/// Whether bpffs is mounted.
#[must_use]
pub fn is_mounted() -> bool {
    statfs(MOUNT_POINT).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// The device number of the bpffs at the mount point, which identifies it; `None` if none is mounted.
#[must_use]
pub fn device() -> Option<u64> {
    is_mounted().then(|| fs::metadata(MOUNT_POINT).map(|found| found.dev()).ok()).flatten()
}

/// Whether the bpffs of a device number is mounted anywhere in this mount namespace, even if another mount hides it.
#[must_use]
pub fn is_mounted_as(device: u64) -> bool {
    let table = files::read_bounded(Path::new(MOUNT_TABLE), files::LIST).unwrap_or_default();
    let number = format!("{}:{}", major(device), minor(device));
    table.lines().any(|line| line.split(' ').nth(2) == Some(&number) && line.contains(" - bpf "))
}

/// Mounts bpffs if it is not mounted.
///
/// # Errors
/// The mount point does not exist (no sysfs), or the mount is refused.
pub fn ensure_mounted() -> Result<()> {
    if is_mounted() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(OUR_DEVICE), MOUNT_POINT, Some("bpf"), flags, Some("mode=0700"))
        .doing("mount bpffs at", MOUNT_POINT)
}

/// Creates a lab's folder of pins, or one below it, with access for root only.
///
/// # Errors
/// bpffs refuses, or what exists there is not a folder that only root could write to.
pub fn make_directory(lab: &Path) -> Result<()> {
    let folders = lab.ancestors().take_while(|path| path.starts_with(DIRECTORY));
    for path in folders.collect::<Vec<_>>().into_iter().rev() {
        files::make_private_folder(path).doing("make", path.display())?;
    }
    Ok(())
}

/// Removes a lab's folder of pins. Programs, links and maps are freed with their last user.
///
/// # Errors
/// A pin cannot be removed. A missing folder is no error.
pub fn remove_directory(lab: &Path) -> Result<()> {
    match fs::remove_dir_all(lab) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::new("remove", lab.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// Undoes [`ensure_mounted`] when no lab is left: removes our folder, and the mount if vethpath mounted it and nothing else is
/// pinned there.
///
/// # Errors
/// The mount is ours and empty, and cannot be unmounted.
pub fn unmount_unused() -> Result<()> {
    if !is_mounted() {
        return Ok(());
    }
    // Fails while another lab has pins there: then everything stays.
    if fs::remove_dir(DIRECTORY).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
        return Ok(());
    }
    if is_unused() && is_ours()? {
        match umount2(MOUNT_POINT, MntFlags::empty()) {
            // Another `down` has unmounted it meanwhile.
            Err(Errno::EINVAL) => {}
            unmounted => unmounted.doing("unmount", MOUNT_POINT)?,
        }
    }
    Ok(())
}

/// Whether nothing is pinned.
fn is_unused() -> bool {
    fs::read_dir(MOUNT_POINT).is_ok_and(|entries| {
        entries.flatten().all(|entry| PRELOADED.iter().any(|name| entry.file_name() == *name))
    })
}

/// Whether the last mount at the mount point has our device name.
fn is_ours() -> Result<bool> {
    let mounts = files::read_bounded(Path::new(MOUNTS), files::LIST).doing("read", MOUNTS)?;
    let mut at_point = mounts.lines().filter(|line| line.split(' ').nth(1) == Some(MOUNT_POINT));
    Ok(at_point.next_back().is_some_and(|line| line.split(' ').next() == Some(OUR_DEVICE)))
}
