//! The rendered output.

use super::{super::Source, bad, parse, show};

const TWICE: &str = r#"[bridge.br0]
addresses = ["10.0.0.1/24"]

[namespace.ns0.interface.eth0]
link = "br1"
addresses = ["10.0.0.1/24"]
"#;

#[test]
fn faults_look_like_those_of_rustc() {
    let shown = show(&bad(TWICE), TWICE);
    assert_eq!(
        shown,
        r#"error: there is no bridge `br1`
 --> topo.toml:5:8
  |
5 | link = "br1"
  |        ^^^^^ not declared
  |
  = hint: did you mean `br0`?

error: address 10.0.0.1 is used twice
 --> topo.toml:6:14
  |
2 | addresses = ["10.0.0.1/24"]
  |              ------------- first used here
...
6 | addresses = ["10.0.0.1/24"]
  |              ^^^^^^^^^^^^^ used again
  |
  = hint: give each interface an address of its own
"#
    );
}

#[test]
fn colour_is_optional_and_contents_cannot_bring_any() {
    let text = "name = \"\\u001b[31m\"\n\u{202e} = 1\n";
    let faults = parse(text).expect_err("bad names");
    let source = Source { path: "a\u{1b}[31m.toml", text };
    assert!(!faults.render(source, false).contains('\u{1b}'));
    assert!(!faults.render(source, false).contains('\u{202e}'));
    assert!(faults.render(source, true).contains("\u{1b}["));
}

#[test]
fn a_second_header_shows_the_first() {
    let text = "[bridge.br0]\nstp = true\n\n[bridge.br0]\nstp = true\n";
    let faults = bad(text).faults;
    let also: Vec<_> = faults.iter().map(|fault| fault.also.clone().map(|(span, _)| span)).collect();
    assert_eq!(faults.len(), 2);
    assert_eq!(also, [Some(0..12), None]);
}

#[test]
fn every_fault_comes_at_once_and_in_order() {
    let text = r#"name = "no spaces"
colour = "red"

[bridge.br0]
adresses = ["10.0.0.1/24"]
mtu = "large"
ageing_time = -1

[bridge.a-name-that-is-too-long]

[namespace.ns0]
gateway = "10.9.0.1"

[namespace.ns0.interface.eth0]
link = "br00"
addresses = ["10.0.0.2"]

[namespace.ns1.interface.eth0]
mac = "01:00:00:00:00:00"
"#;
    let faults = bad(text);
    let lines: Vec<usize> = faults.faults.iter().map(|fault| fault.position(text).0).collect();
    assert_eq!(lines, [1, 2, 5, 6, 7, 9, 15, 16, 18, 19], "{}", show(&faults, text));
}

#[test]
fn very_many_faults_are_counted() {
    let text: String = (0..250).map(|n| format!("key{n} = 1\n")).collect();
    let faults = bad(&text);
    assert_eq!(faults.faults.len(), 250);
    assert!(show(&faults, &text).ends_with("\n… and 150 more\n"));
}
