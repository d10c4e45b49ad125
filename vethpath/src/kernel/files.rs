//! How many files a process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process have as many files open as the system allows it: a lab of a thousand hosts needs
/// more than the usual 1024, which is a bound for programs that use `select`. Where it is
/// refused, large labs fail and say so.
pub fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
