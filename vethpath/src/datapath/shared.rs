//! Memory of arrays that the kernel shares with us (`BPF_F_MMAPABLE`): an update by system call copies the whole
//! value byte by byte, under the eyes of programs.
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
pub(super) struct Shared<T> {
    first: NonNull<T>,
    count: usize,
}

// SAFETY: the memory is this process's until it is unmapped in `drop`, from whichever thread.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    /// Maps as many elements, whose size is a multiple of eight bytes as it is in the kernel.
    ///
    /// # Errors
    /// The map is not one that can be mapped, or is smaller.
    pub(super) fn map(fd: impl AsFd, count: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "the kernel pads values to 8 bytes") };
        let size = size_of::<T>().checked_mul(count).and_then(NonZeroUsize::new);
        let size = size.ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, of which nobody else in this process knows.
        let memory = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { first: memory.cast(), count })
    }

    /// Where an element is. It is there as long as `self`.
    ///
    /// # Panics
    /// There are fewer elements.
    pub(super) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.count, "{index} of {}", self.count);
        // SAFETY: so it is in the mapping.
        unsafe { self.first.as_ptr().add(index) }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and nothing refers to it any more.
        let _ = unsafe { munmap(self.first.cast(), size_of::<T>() * self.count) };
    }
}

impl Shared<Config> {
    /// Each field as it is now.
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

    /// Writes each field in one store. Programs need no order among them (docs/architecture.md, Memory ordering).
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
