//! What this kernel supports, by the probes of `vethpath doctor`.

use vethpath::kernel::{probe, xdp};

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
