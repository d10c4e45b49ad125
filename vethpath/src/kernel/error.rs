//! Errors of the kernel.

use std::{fmt, io};

/// The result of every operation in this layer.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation: what was tried, on which object, and the errno.
#[derive(Debug)]
pub struct Error {
    operation: &'static str,
    object: String,
    source: io::Error,
}

impl Error {
    /// A failure of `operation` on `object`.
    pub fn new(operation: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        Self { operation, object: object.into(), source }
    }

    /// The operation that was tried.
    #[must_use]
    pub(super) fn operation(&self) -> &'static str {
        self.operation
    }

    /// Whether the kernel reported that the object does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        const GONE: [i32; 3] = [nix::libc::ENODEV, nix::libc::ENOENT, nix::libc::ESRCH];
        self.source.raw_os_error().is_some_and(|errno| GONE.contains(&errno))
    }

    /// Whether the kernel denied permission.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// Whether the kernel reported that the object exists already.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.source.raw_os_error() == Some(nix::libc::EEXIST)
    }

    /// Whether the kernel reported that there is no such address.
    #[must_use]
    pub fn is_unassigned(&self) -> bool {
        self.source.raw_os_error() == Some(nix::libc::EADDRNOTAVAIL)
    }

    /// Whether the kernel returned `EINVAL`, as it does for a netns id that no longer exists.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.source.raw_os_error() == Some(nix::libc::EINVAL)
    }

    /// Whether the kernel lacks the feature.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        const LACKING: [i32; 2] = [nix::libc::EOPNOTSUPP, nix::libc::EAFNOSUPPORT];
        self.source.raw_os_error().is_some_and(|errno| LACKING.contains(&errno))
    }

    /// Whether the kernel has no such socket family (`netlink_create` in net/netlink/af_netlink.c). A module may add it
    /// later.
    #[must_use]
    pub fn lacks_protocol(&self) -> bool {
        self.source.raw_os_error() == Some(nix::libc::EPROTONOSUPPORT)
    }

    /// A hint, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.source.raw_os_error()? {
            nix::libc::EPERM | nix::libc::EACCES => Some("run vethpath as root"),
            nix::libc::EOPNOTSUPP => {
                Some("this kernel lacks that feature; `vethpath doctor` shows what it has")
            }
            nix::libc::ENOSPC => Some("a kernel limit is reached (see `vethpath doctor`)"),
            nix::libc::EXFULL => {
                Some("a Linux bridge has at most 1023 ports; use a second bridge and a trunk")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.object, self.source)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Adds operation and object to an I/O or netlink error.
pub(crate) trait Context<T> {
    /// Adds what was tried, and on which object.
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|source| Error::new(operation, object.to_string(), source))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::new(operation, object.to_string(), errno.into()))
    }
}

impl<T> Context<T> for std::result::Result<T, rtnetlink::Error> {
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(operation, object.to_string(), to_io(error)))
    }
}

/// The kernel's error, as an errno if it is one.
pub(super) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
