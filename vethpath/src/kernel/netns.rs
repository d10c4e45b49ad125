//! Network namespaces: making, finding, removing them, and running code inside one.
//!
//! Nothing here changes the namespace of the calling thread: code runs on a thread of its own,
//! which ends with it.

use std::{
    fmt, fs,
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

use serde::{Deserialize, Serialize};

use super::{Error, Result, cookie, error::Context};
use crate::topology::{NsName, Place};

/// Where `ip netns` keeps namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// What the namespace that we are in is called.
pub(super) const HOST: &str = "host";

/// What tells a network namespace from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsId {
    /// Its inode in nsfs, which another one may get when it is gone.
    pub inode: u64,
    /// Its cookie, which no other one gets; none before Linux 5.14.
    #[serde(default)]
    pub cookie: Option<u64>,
}

impl NetnsId {
    /// Whether both are of one namespace, as far as it can be told.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.inode == other.inode
            && (self.cookie.is_none() || other.cookie.is_none() || self.cookie == other.cookie)
    }
}

/// As it is in the journal.
impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inode)?;
        self.cookie.map_or(Ok(()), |cookie| write!(f, " {cookie}"))
    }
}

/// An open network namespace. Cheap to clone; the namespace lives at least as long.
#[derive(Clone, Debug)]
pub struct Netns {
    file: Arc<File>,
    label: Arc<str>,
}

impl Netns {
    /// The namespace this thread is in.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn current() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net".as_ref(), HOST)
    }

    /// The namespace of a place.
    ///
    /// # Errors
    /// It is not there.
    pub fn of(place: &Place) -> Result<Self> {
        match place {
            Place::Host => Self::current(),
            Place::Namespace(name) => Self::named(name),
        }
    }

    /// The namespace that `ip netns` knows by this name.
    ///
    /// # Errors
    /// It is not there, or the file is none.
    pub fn named(name: &NsName) -> Result<Self> {
        Self::open(&path(name), name.as_str())
    }

    /// The namespace behind any path, such as `/proc/4242/ns/net`.
    ///
    /// # Errors
    /// It is not there, or the file is none.
    pub fn open(path: &Path, label: &str) -> Result<Self> {
        // The path may be the user's, and lead to a FIFO.
        let file = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
        let file = file.doing("open namespace", label)?;
        let kind = nix::sys::statfs::fstatfs(&file).doing("inspect namespace", label)?.filesystem_type();
        if kind != NSFS_MAGIC {
            let source = io::Error::other("the file is not a namespace");
            return Err(Error::new("open namespace", path.display().to_string(), source));
        }
        Ok(Self { file: Arc::new(file), label: label.into() })
    }

    /// A new namespace that has no name yet. It goes away with the last [`Netns`] of it.
    ///
    /// # Errors
    /// `unshare` is refused.
    pub fn create(label: &str) -> Result<Self> {
        thread::scope(|scope| match scope.spawn(|| Self::create_around_thread(label)).join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Moves the calling thread into a new namespace for good, and returns that: for threads of a
    /// [crew](super::crew).
    ///
    /// # Errors
    /// `unshare` is refused.
    pub fn create_around_thread(label: &str) -> Result<Self> {
        let made = unshare(CloneFlags::CLONE_NEWNET)
            .map_err(io::Error::from)
            .and_then(|()| File::open("/proc/thread-self/ns/net"));
        Ok(Self { file: Arc::new(made.doing("make namespace", label)?), label: label.into() })
    }

    /// Gives the namespace a name in `/run/netns`, as `ip netns attach` does.
    ///
    /// # Errors
    /// The name is taken (`EEXIST`), or the mount is refused; then no file is left.
    pub fn bind(&self, name: &NsName) -> Result<()> {
        let target = path(name);
        fs::OpenOptions::new().write(true).create_new(true).open(&target).doing("name namespace", name)?;
        let source = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .doing("bind namespace", name)
            .inspect_err(|_| {
                // The file was made a moment ago by this function.
                let _ = fs::remove_file(&target);
            })
    }

    /// Runs `work` inside the namespace, on a thread of its own.
    ///
    /// # Errors
    /// `setns` is refused. What `work` returns is its own affair.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| {
            setns(&*self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .doing("enter namespace", self)
    }

    /// Moves the calling thread into the namespace for good. For `exec`, just before the program
    /// is replaced, and for threads that never leave.
    ///
    /// # Errors
    /// `setns` is refused.
    pub fn enter_for_good(&self) -> Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).doing("enter namespace", self)
    }

    /// What tells namespaces apart: their inode in nsfs.
    ///
    /// # Errors
    /// Never in practice: the file is open.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.file.metadata().doing("inspect namespace", self)?.ino())
    }

    /// Whether a name in `/run/netns` is that of this namespace, as far as it can be told. Opens no file.
    #[must_use]
    pub fn has_name(&self, name: &NsName) -> bool {
        match (fs::metadata(path(name)), self.file.metadata()) {
            (Ok(named), Ok(held)) => (named.dev(), named.ino()) == (held.dev(), held.ino()),
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
            (_, Err(_)) => true,
        }
    }

    /// Its identity, which tells it from others for as long as the machine runs.
    ///
    /// # Errors
    /// `setns` is refused.
    pub fn id(&self) -> Result<NetnsId> {
        Ok(NetnsId { inode: self.inode()?, cookie: self.run(cookie::of_this_thread)? })
    }

    /// The same on a thread that is in the namespace.
    ///
    /// # Errors
    /// Never in practice: the file is open.
    pub fn id_here(&self) -> Result<NetnsId> {
        Ok(NetnsId { inode: self.inode()?, cookie: cookie::of_this_thread() })
    }

    /// The descriptor, for netlink attributes.
    #[must_use]
    pub fn raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// The file of a named namespace.
#[must_use]
pub fn path(name: &NsName) -> PathBuf {
    Path::new(DIRECTORY).join(name.as_str())
}

/// All names of namespaces.
#[must_use]
pub fn names() -> Vec<NsName> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a namespace has this name (or a left-over file does).
#[must_use]
pub fn exists(name: &NsName) -> bool {
    fs::symlink_metadata(path(name)).is_ok()
}

/// Whether the name is a file on which no namespace is mounted: what a kill in [`Netns::bind`] leaves.
#[must_use]
pub fn is_left_over(name: &NsName) -> bool {
    exists(name) && statfs(&path(name)).is_ok_and(|fs| fs.filesystem_type() != NSFS_MAGIC)
}

/// Takes a name away. The namespace itself goes when nothing uses it any more.
///
/// # Errors
/// The file cannot be unmounted or removed. A name that is not there is no error.
pub fn unbind(name: &NsName) -> Result<()> {
    let file = path(name);
    match umount2(&file, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(errno) => return Err(Error::new("unmount namespace", name.to_string(), errno.into())),
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::new("remove namespace", name.to_string(), error))
        }
        _ => Ok(()),
    }
}

/// Gives the process, which is in the namespace, a view of the file system that fits it, as
/// `ip netns exec` does: `/sys` shows the namespace's devices, and files of `/etc/netns/NAME` stand
/// in for those of `/etc`. Other processes see nothing of it. Returns which files do not, having no counterpart in `/etc`,
/// say.
///
/// # Errors
/// A mount of `/sys` is refused.
pub fn show_in_sysfs(name: &NsName) -> Result<Vec<Error>> {
    unshare(CloneFlags::CLONE_NEWNS).doing("leave the mount namespace for", name)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .doing("make private", "/")?;
    // Where there is none, a lab does without; bpffs and cgroups below it are hidden, as by ip netns.
    let _ = umount2("/sys", MntFlags::MNT_DETACH);
    mount(Some(name.as_str()), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
        .doing("mount", "/sys")?;
    let own = Path::new("/etc/netns").join(name.as_str());
    let mut refused = Vec::new();
    for entry in fs::read_dir(&own).into_iter().flatten().flatten() {
        let target = Path::new("/etc").join(entry.file_name());
        let bound = mount(Some(&entry.path()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        let files = format!("{} to {}", entry.path().display(), target.display());
        refused.extend(bound.doing("bind", files).err());
    }
    Ok(refused)
}

/// Makes `/run/netns` what `ip netns add` makes it: a shared mount of its own, so that new
/// namespaces show up in other mount namespaces. Returns whether that was news.
///
/// # Errors
/// The folder or the mount is refused.
pub fn prepare_directory() -> Result<bool> {
    let shared =
        || mount(None::<&str>, DIRECTORY, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    fs::create_dir_all(DIRECTORY).doing("make", DIRECTORY)?;
    match shared() {
        Ok(()) => Ok(false),
        Err(nix::Error::EINVAL) => {
            mount(Some(DIRECTORY), DIRECTORY, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .and_then(|()| shared())
                .doing("mount", DIRECTORY)?;
            Ok(true)
        }
        Err(errno) => Err(Error::new("share", DIRECTORY, errno.into())),
    }
}

/// Undoes [`prepare_directory`] if no namespace is left in it.
///
/// # Errors
/// The mount is there, empty, and cannot be taken away.
pub fn retire_directory() -> Result<()> {
    if fs::read_dir(DIRECTORY).is_ok_and(|mut entries| entries.next().is_none()) {
        match umount2(DIRECTORY, MntFlags::MNT_DETACH) {
            // Somebody has unmounted it.
            Ok(()) | Err(nix::Error::EINVAL) => {}
            Err(errno) => return Err(Error::new("unmount", DIRECTORY, errno.into())),
        }
        // Others may use the folder below; it stays if it is not empty.
        let _ = fs::remove_dir(DIRECTORY);
    }
    Ok(())
}

/// Runs `work` on a thread that ends with it. A panic of `work` is passed on.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("netns".to_owned());
        match builder.spawn_scoped(scope, work)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
