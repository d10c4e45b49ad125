//! What this kernel has, by the probes of `vethpath doctor`.

use vethpath::kernel::{probe, xdp};

/// Those of some datapaths that this kernel has. Without XDP features, files with `datapath = "xdp"` are refused.
pub(crate) fn of_this_kernel(datapaths: &[&'static str]) -> Vec<&'static str> {
    let has_xdp = xdp::is_known().is_ok();
    datapaths.iter().copied().filter(|&datapath| has_xdp || datapath != "xdp").collect()
}

/// Goes on where a check of `vethpath doctor` finds what it is about.
pub(crate) fn requires(name: &str) {
    let checks = probe::checks();
    let check = checks.iter().find(|check| check.name == name).expect("a check of doctor");
    if !check.found.starts_with("supported") {
        lacks(&format!("{name}: {}", check.found));
    }
}

/// Ends a test that cannot hold on this kernel, as failed: one that passes by skipping would go unnoticed. A run on
/// another kernel counts it apart, by the first words of this message.
pub(crate) fn lacks(what: &str) -> ! {
    panic!("this kernel lacks {what}")
}
