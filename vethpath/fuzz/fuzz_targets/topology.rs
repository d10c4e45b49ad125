//! Topology files: any bytes give a topology or printable errors, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethpath::topology::{LONGEST_FILE, Source, Topology, check, expand, read};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let source = Source { path: "lab.toml", text };
    match read(source, Some("lab")) {
        Ok(topology) => {
            // In the journal's format.
            let kept = serde_json::to_string(&topology).expect("a topology can be kept");
            let again: Topology = serde_json::from_str(&kept).expect("what was kept can be read");
            assert_eq!(again, topology);
            assert_eq!(read(source, Some("lab")).as_ref(), Ok(&topology), "the same file is the same lab");
            let shown = check(source, Some("lab")).map(|checked| checked.warnings.render(source, false));
            assert!(shown.is_ok_and(|shown| !shown.contains(|c: char| c.is_control() && c != '\n')));
            let written = expand(&topology).to_string();
            if written.len() <= LONGEST_FILE {
                let plain = Source { text: &written, ..source };
                assert_eq!(read(plain, None).as_ref(), Ok(&topology), "written out, it is the same lab");
            }
        }
        Err(faults) => {
            assert!(!faults.faults.is_empty(), "a file is not refused without a reason");
            let shown = faults.render(source, false);
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
            let _ = faults.render(source, true);
        }
    }
});
