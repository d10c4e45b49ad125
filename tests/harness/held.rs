//! Descriptors that are closed when they are dropped, for good.
//!
//! The tests are threads of one process. A child that one of them starts has copies of what all others have
//! open, until it executes its program; and a socket, or a program on an interface, is there until the last
//! copy is closed. So nobody starts a child while one of these is closed.

use std::{
    io::{self, Read as _},
    ops::{Deref, DerefMut},
    process::{Child, Command, Output, Stdio},
    sync::{PoisonError, RwLock},
};

/// Shared by who starts a child, until the program runs; held alone by who closes.
static COPIES: RwLock<()> = RwLock::new(());

/// What holds descriptors.
pub(crate) struct Held<T>(Option<T>);

impl<T> Held<T> {
    pub(crate) const fn new(holder: T) -> Self {
        Self(Some(holder))
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until drop")
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is there until drop")
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let _alone = COPIES.write().unwrap_or_else(PoisonError::into_inner);
        self.0 = None;
    }
}

/// Starts a child; returns when it has let go of its copies.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let _copies = COPIES.read().unwrap_or_else(PoisonError::into_inner);
    let (mut last, copied) = io::pipe()?;
    // Returns when the child has its own memory, and that is before its copies are closed (`begin_new_exec` in
    // fs/exec.c). This pipe's are closed with them.
    let child = command.spawn();
    drop(copied);
    let _ = last.read_to_end(&mut Vec::new())?;
    child
}

/// The same as [`Command::output`].
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command)?.wait_with_output()
}
