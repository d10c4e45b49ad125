//! Network namespaces: creating, finding and removing them, and running code inside one.
//!
//! Code runs inside a namespace on a thread of its own. The calling thread changes its namespace only in
//! [`Netns::create_around_thread`] and [`Netns::enter_for_good`].

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

use super::{Error, Result, error::Context, namespace_id};
use crate::topology::{NsName, Place};

/// Where `ip netns` keeps namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// Label of the namespace that this process runs in.
pub const HOST: &str = "host";

/// Identity of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsId {
    /// Its inode in nsfs, which may be reused after the namespace is gone.
    pub inode: u64,
    /// Its cookie, which is never reused.
    /// Minimum kernel: Linux 5.14 (`SO_NETNS_COOKIE`); `None` before.
    #[serde(default)]
    pub cookie: Option<u64>,
}

impl NetnsId {
    /// Whether both identify the same namespace. Cookies are compared only if both are known.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.inode == other.inode
            && (self.cookie.is_none() || other.cookie.is_none() || self.cookie == other.cookie)
    }
}

/// The format of the journal.
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
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net".as_ref(), HOST)
    }

    /// The namespace of a place.
    ///
    /// # Errors
    /// It does not exist.
    pub fn of(place: &Place) -> Result<Self> {
        match place {
            Place::Host => Self::current(),
            Place::Namespace(name) => Self::named(name),
        }
    }

    /// The namespace that `ip netns` knows by this name.
    ///
    /// # Errors
    /// The file does not exist, or is not a namespace.
    pub fn named(name: &NsName) -> Result<Self> {
        Self::open(&path(name), name.as_str())
    }

    /// The namespace of a path such as `/proc/4242/ns/net`.
    ///
    /// # Errors
    /// The file does not exist, or is not a namespace.
    pub fn open(path: &Path, label: &str) -> Result<Self> {
        // The path may be user input. Without O_NONBLOCK, opening a FIFO would block.
        let file = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
        let file = file.doing("open namespace", label)?;
        let kind = nix::sys::statfs::fstatfs(&file).doing("inspect namespace", label)?.filesystem_type();
        if kind != NSFS_MAGIC {
            let source = io::Error::other("the file is not a namespace");
            return Err(Error::new("open namespace", path.display().to_string(), source));
        }
        Ok(Self { file: Arc::new(file), label: label.into() })
    }

    /// A new namespace without a name. It is destroyed with its last [`Netns`].
    ///
    /// # Errors
    /// `unshare` is refused.
    pub fn create(label: &str) -> Result<Self> {
        thread::scope(|scope| match scope.spawn(|| Self::create_around_thread(label)).join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Moves the calling thread into a new namespace for good, and returns that namespace. For threads of a
    /// [pool](super::pool).
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
    /// The name is taken (`EEXIST`), or the mount is refused. No file is left behind.
    pub fn bind(&self, name: &NsName) -> Result<()> {
        let target = path(name);
        fs::OpenOptions::new().write(true).create_new(true).open(&target).doing("name namespace", name)?;
        let source = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .doing("bind namespace", name)
            .inspect_err(|_| {
                // This function created the file.
                let _ = fs::remove_file(&target);
            })
    }

    /// Runs `work` inside the namespace, on a thread of its own.
    ///
    /// # Errors
    /// `setns` is refused. Errors of `work` are part of its return value.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| {
            setns(&*self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .doing("enter namespace", self)
    }

    /// Moves the calling thread into the namespace for good, for `exec` and for threads that never leave.
    ///
    /// # Errors
    /// `setns` is refused.
    pub fn enter_for_good(&self) -> Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).doing("enter namespace", self)
    }

    /// Its inode in nsfs.
    ///
    /// # Errors
    /// Never in practice: the file is open.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.file.metadata().doing("inspect namespace", self)?.ino())
    }

    /// Whether a name in `/run/netns` refers to this namespace. An errno other than `ENOENT` counts as yes. Opens no
    /// file.
    #[must_use]
    pub fn has_name(&self, name: &NsName) -> bool {
        match (fs::metadata(path(name)), self.file.metadata()) {
            (Ok(named), Ok(held)) => (named.dev(), named.ino()) == (held.dev(), held.ino()),
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
            (_, Err(_)) => true,
        }
    }

    /// Its identity. With a cookie, it is unique until the machine reboots.
    ///
    /// # Errors
    /// `setns` is refused.
    pub fn id(&self) -> Result<NetnsId> {
        Ok(NetnsId { inode: self.inode()?, cookie: self.run(namespace_id::netns_cookie)? })
    }

    /// As [`Self::id`], for a thread that is in the namespace.
    ///
    /// # Errors
    /// Never in practice: the file is open.
    pub fn id_here(&self) -> Result<NetnsId> {
        Ok(NetnsId { inode: self.inode()?, cookie: namespace_id::netns_cookie() })
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

/// Whether this name is taken, by a namespace or by a left-over file.
#[must_use]
pub fn exists(name: &NsName) -> bool {
    fs::symlink_metadata(path(name)).is_ok()
}

/// Whether the name is a file without a namespace mounted on it, as left by a kill during [`Netns::bind`].
#[must_use]
pub fn is_left_over(name: &NsName) -> bool {
    exists(name) && statfs(&path(name)).is_ok_and(|fs| fs.filesystem_type() != NSFS_MAGIC)
}

/// Whether a namespace has this name.
#[must_use]
pub fn is_present(name: &NsName) -> bool {
    exists(name) && !is_left_over(name)
}

/// Whether the namespace of a place exists.
#[must_use]
pub fn place_exists(place: &Place) -> bool {
    match place {
        Place::Host => true,
        Place::Namespace(name) => is_present(name),
    }
}

/// Removes a name. The namespace is destroyed when its last user is gone.
///
/// # Errors
/// The file cannot be unmounted or removed. A missing name is not an error.
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

/// Makes `/run/netns` a shared mount of its own, as `ip netns add` does, so that new namespaces show up in other
/// mount namespaces. Returns whether it was not a mount before.
///
/// # Errors
/// The folder or the mount is refused.
pub fn mount_directory() -> Result<bool> {
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

/// Undoes [`mount_directory`] if no namespace is left in it.
///
/// # Errors
/// The mount is empty and cannot be unmounted.
pub fn unmount_directory() -> Result<()> {
    if fs::read_dir(DIRECTORY).is_ok_and(|mut entries| entries.next().is_none()) {
        match umount2(DIRECTORY, MntFlags::MNT_DETACH) {
            // EINVAL: it is not mounted any more.
            Ok(()) | Err(nix::Error::EINVAL) => {}
            Err(errno) => return Err(Error::new("unmount", DIRECTORY, errno.into())),
        }
        // The folder below the mount stays if it is not empty.
        let _ = fs::remove_dir(DIRECTORY);
    }
    Ok(())
}

/// Runs `work` on a temporary thread. A panic of `work` is propagated.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("netns".to_owned());
        match builder.spawn_scoped(scope, work)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
