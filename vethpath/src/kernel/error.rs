//! The error of the kernel, and of the programs and maps in it.

use std::{fmt, io};

use aya::{
    EbpfError,
    maps::{MapError, xdp::XdpMapError},
    pin::PinError,
    programs::{ProgramError, links::LinkError},
};
use caps::errors::CapsError;
use nix::errno::Errno;

use super::netlink::NetlinkError;

/// The result of every operation in this layer.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation: what was tried, on which object, and the cause, which may have an errno.
#[derive(Debug)]
pub struct Error {
    /// Empty if the cause says everything.
    operation: &'static str,
    object: String,
    source: io::Error,
    hint: Option<&'static str>,
}

impl Error {
    /// A failure of `operation` on `object`.
    pub fn new(operation: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        Self { operation, object: object.into(), source, hint: None }
    }

    /// A failure whose text is that of `source` alone.
    #[must_use]
    pub fn plain(source: io::Error) -> Self {
        Self::new("", "", source)
    }

    /// The error of a link that does not exist.
    pub(super) fn missing_link(name: &str) -> Self {
        Self::new("find link", name, io::Error::from_raw_os_error(nix::libc::ENODEV))
    }

    /// Sets the hint, in place of that of the errno.
    #[must_use]
    pub fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
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

    /// Whether the object exists already.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
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
        match self.source.raw_os_error() {
            Some(errno) => LACKING.contains(&errno),
            None => self.source.kind() == io::ErrorKind::Unsupported,
        }
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
        self.hint.or_else(|| match self.source.raw_os_error()? {
            nix::libc::EPERM | nix::libc::EACCES => Some("run vethpath as root"),
            nix::libc::EOPNOTSUPP => {
                Some("this kernel lacks that feature; `vethpath doctor` shows what it has")
            }
            nix::libc::ENOSPC => Some("a kernel limit is reached (see `vethpath doctor`)"),
            nix::libc::EXFULL => {
                Some("a Linux bridge has at most 1023 ports; use a second bridge and a trunk")
            }
            _ => None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operation {
            "" => fmt::Display::fmt(&self.source, f),
            operation => write!(f, "cannot {operation} {}: {}", self.object, self.source),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Adds operation and object to an error.
pub(crate) trait Context<T> {
    /// Adds what was tried, and on which object.
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T>;
}

impl<T, E: Cause> Context<T> for std::result::Result<T, E> {
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| {
            let (source, hint) = cause.explain();
            Error { operation, object: object.to_string(), source, hint }
        })
    }
}

/// An error of the system or of a library. By default, one of aya.
pub(crate) trait Cause: std::error::Error + Sized {
    /// The error with its errno, if it has one, or with its whole text. The hint is for errors without an errno.
    fn explain(self) -> (io::Error, Option<&'static str>) {
        (io::Error::other(with_sources(&self)), Some("`vethpath doctor` shows what this kernel lacks"))
    }
}

impl Cause for EbpfError {}
impl Cause for LinkError {}
impl Cause for MapError {}
impl Cause for PinError {}
impl Cause for ProgramError {}
impl Cause for XdpMapError {}
impl Cause for aya_log::Error {}

impl Cause for io::Error {
    fn explain(self) -> (io::Error, Option<&'static str>) {
        (self, None)
    }
}

impl Cause for Errno {
    fn explain(self) -> (io::Error, Option<&'static str>) {
        (self.into(), None)
    }
}

impl Cause for CapsError {
    fn explain(self) -> (io::Error, Option<&'static str>) {
        (io::Error::other(self), None)
    }
}

impl Cause for rtnetlink::Error {
    fn explain(self) -> (io::Error, Option<&'static str>) {
        (to_io(self), None)
    }
}

impl Cause for NetlinkError {
    fn explain(self) -> (io::Error, Option<&'static str>) {
        match self {
            Self::Refused(source) => (source, None),
            // An errno of the socket is not about the object.
            other => (io::Error::other(other), None),
        }
    }
}

/// The kernel's error, as an errno if it is one.
pub(super) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// The text of an error of aya, whose cause and verifier log may be in its sources.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let cause = inner.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = inner.source();
    }
    text
}
