//! What a process has open from whoever started it.
#![expect(unsafe_code, reason = "nothing safe marks descriptors that nobody here owns")]

use nix::libc;

/// Keeps descriptors that this process was given, but for the standard three, from those that it starts: one that
/// lives on would hold somebody's lock, or the end of their pipe, for good. On kernels before 5.11 it does not.
pub fn close_inherited_on_exec() {
    // SAFETY: it closes nothing, but marks descriptors to be closed in what is executed from now on, as all
    // that are opened here are marked anyway.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed());
    }
}
