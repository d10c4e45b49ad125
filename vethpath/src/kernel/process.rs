//! Limits, memory and descriptors of this process.
#![expect(unsafe_code, reason = "close_range and malloc_trim have no safe interface")]

use nix::{
    libc,
    sys::resource::{Resource, getrlimit, setrlimit},
};

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

/// Keeps descriptors that this process was given, but for the standard three, from those that it starts: one that
/// lives on would hold somebody's lock, or the end of their pipe, for good. On kernels before 5.11 it does not.
pub fn close_inherited_on_exec() {
    // SAFETY: it closes nothing, but marks descriptors to be closed in what is executed from now on, as all
    // that are opened here are marked anyway.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed());
    }
}

/// Gives the kernel the memory that this process has used and does not need any more: what a look at
/// everything takes is several times what is kept of it, and lies between that.
pub fn trim_heap() {
    // SAFETY: it takes no pointer, and locks the allocator itself (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
