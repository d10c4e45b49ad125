//! Builds the eBPF programs with the current toolchain. The objects go to `OUT_DIR`, where `datapath/load.rs` and
//! others embed them.

use std::{env, fs, path::Path};

use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> aya_build::Result<()> {
    // Cargo shows every line of the child build as a warning, so the child prints errors only.
    //
    // Building core for the BPF target is an unstable feature of cargo. RUSTC_BOOTSTRAP enables it on a stable
    // toolchain, for this child build only, so that nightly is not needed.
    //
    // SAFETY: a build script is single-threaded here.
    #[expect(unsafe_code, reason = "set_var is unsafe; nothing else runs yet")]
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    if env::var_os("CARGO_FEATURE_FUZZING").is_some() {
        // The fuzzers load no programs. Without them the build takes a third less time.
        let folder = env::var("OUT_DIR")?;
        for object in ["vethpath-ebpf", "vethpath-constant"] {
            fs::write(Path::new(&folder).join(object), [])?;
        }
        return Ok(());
    }
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned());
    let features: &[&str] = if env::var_os("CARGO_FEATURE_EBPF_LOG").is_some() { &["log"] } else { &[] };
    println!("cargo:rerun-if-changed=../vethpath-common/src");
    let package = Package {
        name: "vethpath-ebpf",
        root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../vethpath-ebpf"),
        no_default_features: false,
        features,
    };
    build_ebpf([package], Toolchain::Custom(&toolchain))
}
