//! Arrays mapped into memory (`BPF_F_MMAPABLE`). An update by system call would copy the whole value byte by byte while
//! programs read it.
#![expect(unsafe_code, reason = "memory that programs read and write meanwhile")]

use std::{
    io,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use vethpath_common::Config;

/// The elements of an array, mapped into memory.
pub(super) struct MappedArray<T> {
    first: NonNull<T>,
    count: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and stays valid until `drop` unmaps it.
unsafe impl<T: Send> Send for MappedArray<T> {}

impl<T> MappedArray<T> {
    /// Maps `count` elements, whose size is a multiple of eight bytes, as in the kernel.
    /// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
    ///
    /// # Errors
    /// The BPF map cannot be mapped into memory, or is smaller.
    pub(super) fn map(fd: impl AsFd, count: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "the kernel pads values to 8 bytes") };
        let size = size_of::<T>().checked_mul(count).and_then(NonZeroUsize::new);
        let size = size.ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: this creates a new mapping, and aliases no other memory of this process.
        let memory = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { first: memory.cast(), count })
    }

    /// Pointer to an element. It is valid as long as `self`.
    ///
    /// # Panics
    /// `index` is out of range.
    pub(super) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.count, "{index} of {}", self.count);
        // SAFETY: by the assertion, the element is in the mapping.
        unsafe { self.first.as_ptr().add(index) }
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was created with this size, and no reference to it is left.
        let _ = unsafe { munmap(self.first.cast(), size_of::<T>() * self.count) };
    }
}

impl MappedArray<Config> {
    /// Loads each field atomically.
    pub(super) fn load(&self) -> Config {
        let load = |field: *mut u32| {
            // SAFETY: the field is in the mapping, and aligned.
            unsafe { AtomicU32::from_ptr(field) }.load(Ordering::Acquire)
        };
        // SAFETY: as above.
        unsafe {
            let config = self.at(0);
            Config {
                abi: load(&raw mut (*config).abi),
                generation: load(&raw mut (*config).generation),
                lease_until_ns: AtomicU64::from_ptr(&raw mut (*config).lease_until_ns)
                    .load(Ordering::Acquire),
                epoch: load(&raw mut (*config).epoch),
                confirmed: load(&raw mut (*config).confirmed),
            }
        }
    }

    /// Stores each field atomically. Programs need no order among the fields (docs/architecture.md, Memory ordering).
    pub(super) fn store(&self, config: Config) {
        let Config { abi, generation, lease_until_ns, epoch, confirmed } = config;
        let store = |field: *mut u32, value| {
            // SAFETY: the field is in the mapping, and aligned.
            unsafe { AtomicU32::from_ptr(field) }.store(value, Ordering::Release);
        };
        // SAFETY: as above.
        unsafe {
            let config = self.at(0);
            store(&raw mut (*config).abi, abi);
            store(&raw mut (*config).generation, generation);
            store(&raw mut (*config).epoch, epoch);
            store(&raw mut (*config).confirmed, confirmed);
            AtomicU64::from_ptr(&raw mut (*config).lease_until_ns).store(lease_until_ns, Ordering::Release);
        }
    }
}
