//! A bar on the terminal while a large lab comes up. Nothing where standard error is no terminal.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{output::printable, state};

/// A lab with fewer steps is up before anybody has read a word of a bar.
const MANY: usize = 200;

static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// Shows how many of the steps are done, and takes the bar away after the last one.
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

/// Says who is at work on a lab, for which this command waits.
pub fn waiting(busy: &state::Error) {
    // Who does not want to hear it waits all the same.
    let _ = writeln!(io::stderr(), "waiting: {}", printable(&busy.to_string()));
}

/// Takes the bar away, of work that has ended before its last step.
pub fn clear() {
    if let Some(bar) = BAR.get() {
        bar.finish_and_clear();
    }
}
