//! Hostile and broken topology files.

use crate::harness::Host;

#[test]
fn every_error_of_a_file_has_its_line() {
    let host = Host::new();
    let file = host.topology("wrong", WRONG);
    for verb in ["validate", "plan", "up"] {
        let output = host.vethpath(format!("{verb} {file}")).fails(1);
        // An unknown key, with the closest known one; a bad address; a link to nowhere.
        let output = output
            .stderr_has(&format!("{file}:4:1"))
            .stderr_has("adresses")
            .stderr_has("`addresses`")
            .stderr_has("hint:");
        let _ = output
            .stderr_has(&format!("{file}:7:8"))
            .stderr_has("br1")
            .stderr_has(&format!("{file}:8:"))
            .stderr_has("10.0.0.300/24");
    }
    assert_eq!(host.changes(), None);
    host.finish();
}

/// A file with three faults, and where each is.
const WRONG: &str = r#"name = "wrong"

[bridge.br0]
adresses = ["10.0.0.1/24"]

[namespace.ns0.interface.eth0]
link = "br1"
addresses = ["10.0.0.300/24"]
"#;

#[test]
fn broken_toml_has_its_line() {
    let host = Host::new();
    let file = host.topology("broken", "[bridge.br0]\naddresses = [\"10.0.0.1/24\"\n\n[namespace.ns0]\n");
    let _ = host.vethpath(format!("up {file}")).fails(1).stderr_has(&format!("{file}:"));
    assert_eq!(host.changes(), None);
    host.finish();
}

/// Such files neither block `vethpath` nor are read without end.
#[test]
fn files_that_are_not_regular_or_too_long_are_refused() {
    let host = Host::new();
    let folder = host.topology("x", "").replace("/x.toml", "");
    let _ = host.run(format!("mkfifo {folder}/fifo.toml")).ok();
    let _ = host.run(format!("truncate --size 1048577 {folder}/long.toml")).ok();
    let (fifo, long) = (format!("{folder}/fifo.toml"), format!("{folder}/long.toml"));
    for file in ["/dev/zero", "/dev/null", "/", &fifo] {
        for verb in ["validate", "plan"] {
            let output = host.vethpath(format!("{verb} {file}")).fails(1);
            let _ = output
                .stderr_has(&format!("cannot read {file}: it is not a regular file"))
                .stderr_has("hint:");
        }
    }
    let _ = host
        .vethpath(format!("validate {long}"))
        .fails(1)
        .stderr_has("longer than 1048576 bytes")
        .stderr_has("hint:");
    host.finish();
}

/// Names that would lead to other paths or that a shell would interpret, and numbers beyond any lab.
#[test]
fn hostile_names_and_counts_are_refused_with_their_line_and_nothing_is_done() {
    let host = Host::new();
    let long = "x".repeat(300);
    let many = (0..100_000).fold(String::new(), |all, n| all + &format!("[namespace.n{n}]\n"));
    for (what, text) in [
        ("a path", "name = \"../../etc\"\n[bridge.br0]\n"),
        ("a path as a namespace", "[namespace.\"../x\"]\n"),
        ("a shell's words", "[namespace.\"a;touch /tmp/x\"]\n"),
        ("a command", "[bridge.\"$(id)\"]\n"),
        ("nothing", "[namespace.\"\"]\n"),
        ("a dot", "[namespace.\"..\"]\n"),
        ("a zero", "[namespace.\"a\\u0000b\"]\n"),
        ("a line end", "[namespace.\"a\\nb\"]\n"),
        ("a path as a setting", "[namespace.a]\nsysctls = { \"../../../etc/passwd\" = 1 }\n"),
        ("a long name", &format!("[namespace.{long}]\n")),
        ("a long bridge", "[bridge.abcdefghijklmnopqrst]\n"),
        ("an MTU", "[bridge.br0]\nmtu = 99999999999\n"),
        ("many namespaces", &many),
    ] {
        let file = host.topology("hostile", text);
        for verb in ["validate", "plan", "up"] {
            let output = host.vethpath(format!("{verb} {file}"));
            assert!(output.code() == Some(1), "{what}: {output}");
            assert!(output.stderr.contains(&format!("{file}:")), "{what} has no line: {output}");
        }
        assert_eq!(host.changes(), None, "{what}");
    }
    host.finish();
}
