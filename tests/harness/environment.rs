//! What the environment of a test decides: how often it repeats something, its seed, and what the kernel supports.

use std::env;

use vethpath::kernel::{probe, xdp};

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

/// The given datapaths that this kernel has. Without XDP features, `datapath = "xdp"` is refused.
pub(crate) fn of_this_kernel(datapaths: &[&'static str]) -> Vec<&'static str> {
    let has_xdp = xdp::is_known().is_ok();
    datapaths.iter().copied().filter(|&datapath| has_xdp || datapath != "xdp").collect()
}

/// Fails the test unless this check of `vethpath doctor` reports support.
pub(crate) fn requires(name: &str) {
    let checks = probe::checks();
    let check = checks.iter().find(|check| check.name == name).expect("a check of doctor");
    if !check.found.starts_with("supported") {
        lacks(&format!("{name}: {}", check.found));
    }
}

/// Fails a test that cannot pass on this kernel: one that passes by skipping would go unnoticed. A run on another
/// kernel counts such failures separately, by the first words of this message.
pub(crate) fn lacks(what: &str) -> ! {
    panic!("this kernel lacks {what}")
}
