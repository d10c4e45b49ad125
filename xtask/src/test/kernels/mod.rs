//! Integration tests on other kernels: Debian's kernel packages, booted under QEMU without KVM.
//!
//! A guest has neither disk nor network. Its root is an initramfs of Debian packages (`root`) with the test binary,
//! `vethpath`, this program and the sources. In it, this program runs the tests (`guest`) and prints a line for each to
//! the console, which `console` reads. `matrix` stores the results in docs/kernels.md.

mod boot;
mod console;
mod guest;
mod kernel;
mod matrix;
mod root;
mod run;

pub(crate) use guest::{Args as GuestArgs, run as run_guest};
pub(super) use kernel::{named, names};
pub(super) use run::run;
