//! The sizes of tests that repeat something: larger in the long suite.

use std::env;

/// `short`, or `long` where the long suite runs (`VETHPATH_LONG=1`).
pub(crate) fn sized<T>(short: T, long: T) -> T {
    if env::var_os("VETHPATH_LONG").is_some() { long } else { short }
}

/// A seed from `VETHPATH_SEED`, which differs for each commit and is printed by `cargo xtask test`. A test with
/// several runs gives each a number.
pub(crate) fn seed(number: u64) -> u64 {
    let text = env::var("VETHPATH_SEED").unwrap_or_else(|_| "1".to_owned());
    let seed: u64 = text.parse().unwrap_or_else(|_| panic!("VETHPATH_SEED is a number, not {text:?}"));
    eprintln!("VETHPATH_SEED={seed}, run {number}");
    seed.wrapping_mul(1_000_003).wrapping_add(number)
}
