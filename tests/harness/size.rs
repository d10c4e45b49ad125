//! How much of what a test does again and again: more in the long suite.

use std::env;

/// `short`, or `long` where the long suite runs (`VETHPATH_LONG=1`).
pub(crate) fn sized<T>(short: T, long: T) -> T {
    if env::var_os("VETHPATH_LONG").is_some() { long } else { short }
}

/// What `VETHPATH_SEED` says: another seed for each commit, printed by `cargo xtask test`. A test that has several runs
/// gives each a number.
pub(crate) fn seed(number: u64) -> u64 {
    let text = env::var("VETHPATH_SEED").unwrap_or_else(|_| "1".to_owned());
    let seed: u64 = text.parse().unwrap_or_else(|_| panic!("VETHPATH_SEED is a number, not {text:?}"));
    eprintln!("VETHPATH_SEED={seed}, run {number}");
    seed.wrapping_mul(1_000_003).wrapping_add(number)
}
