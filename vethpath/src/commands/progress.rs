//! A progress bar while a large lab comes up. Nothing is shown if standard error is not a terminal.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{output::printable, state};

/// A lab with fewer steps is up before a progress bar would be of use.
const MANY: usize = 200;

static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// Shows how many steps are done, and removes the bar after the last one.
pub fn show(done: usize, all: usize) {
    if all < MANY {
        return;
    }
    let bar = BAR.get_or_init(|| {
        let bar = ProgressBar::new(all as u64);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {elapsed}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    bar.set_position(done as u64);
    if done >= all {
        bar.finish_and_clear();
    }
}

/// Reports which process is working on a lab, while this command waits for it.
pub fn waiting(busy: &state::Error) {
    // A closed stderr does not affect the wait.
    let _ = writeln!(io::stderr(), "waiting: {}", printable(&busy.to_string()));
}

/// Removes the bar if the work ended before its last step.
pub fn clear() {
    if let Some(bar) = BAR.get() {
        bar.finish_and_clear();
    }
}
