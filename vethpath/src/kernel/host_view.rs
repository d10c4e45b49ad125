//! What a program in a host sees of the machine: its own host name, `/sys`, and files of `/etc`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::sethostname,
};

use super::{Error, Result, error::Context};
use crate::topology::NsName;

/// A file of `/etc`: its name there, and its text.
pub type EtcFile = (&'static str, String);

/// Gives this process, which is already in the network namespace, a UTS and a mount namespace of its own, and makes them
/// those of a host. The host name is that of the namespace. `/sys` shows its devices. Files are bound over those of `/etc`:
/// `files`, and then, as `ip netns exec` does, those of `/etc/netns/NAME`. The process keeps all other mounts, and other
/// processes are not affected. Nothing is left when the process and its children have ended.
///
/// Returns an error for each file that could not be bound, for example because `/etc` has no file of that name.
///
/// # Errors
/// A namespace, or a mount of `/sys`, is refused.
pub fn enter(name: &NsName, files: &[EtcFile]) -> Result<Vec<Error>> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .doing("leave the mount and UTS namespaces for", name)?;
    sethostname(name.as_str()).doing("set the host name", name)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .doing("make private", "/")?;
    // It is no error if /sys is not mounted. bpffs and cgroups below it are hidden, as with `ip netns exec`.
    let _ = umount2("/sys", MntFlags::MNT_DETACH);
    let mut refused = bind_texts(files)?;
    mount(Some(name.as_str()), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
        .doing("mount", "/sys")?;
    let own = Path::new("/etc/netns").join(name.as_str());
    for entry in fs::read_dir(&own).into_iter().flatten().flatten() {
        refused.extend(bind(&entry.path(), &Path::new("/etc").join(entry.file_name())).err());
    }
    Ok(refused)
}

/// Binds files with these texts over those of `/etc`. They are on a file system in memory, which is mounted on `/sys` until
/// they are bound, and which lives as long as their mounts.
fn bind_texts(files: &[EtcFile]) -> Result<Vec<Error>> {
    const PLACE: &str = "/sys";
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("vethpath"), PLACE, Some("tmpfs"), flags, Some("mode=0755")).doing("mount", "a tmpfs")?;
    let bind_text = |(name, text): &EtcFile| {
        let file = PathBuf::from(PLACE).join(name);
        fs::write(&file, text).doing("write", file.display())?;
        // Whatever the umask is: programs of all users read them.
        fs::set_permissions(&file, Permissions::from_mode(0o644)).doing("write", file.display())?;
        bind(&file, &Path::new("/etc").join(name))
    };
    let refused = files.iter().filter_map(|file| bind_text(file).err()).collect();
    umount2(PLACE, MntFlags::MNT_DETACH).doing("unmount", "a tmpfs")?;
    Ok(refused)
}

fn bind(file: &Path, target: &Path) -> Result<()> {
    let bound = mount(Some(file), target, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bound.doing("bind", format!("{} to {}", file.display(), target.display()))
}
