//! Giving memory back that is not needed for long.
#![expect(unsafe_code, reason = "the C library's own function has no other interface")]

/// Gives the kernel the memory that this process has used and does not need any more: what a look at
/// everything takes is several times what is kept of it, and lies between that.
pub fn trim_heap() {
    // SAFETY: it takes no pointer, and locks the allocator itself (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
