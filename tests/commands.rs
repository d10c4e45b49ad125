//! `exec`, `shell`, and the command line itself.

use crate::harness::Host;

#[test]
fn exec_passes_exit_codes_and_arguments() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    for code in [0, 1, 2, 7, 130, 255] {
        let _ = host.vethpath(["exec", "ns0", "--", "sh", "-c", &format!("exit {code}")]).fails(code);
    }
    let printed =
        host.vethpath(["exec", "ns0", "--", "printf", "%s|", "a b", "$HOME", "", "--json", "-v", "*"]).ok();
    assert_eq!(printed.stdout, "a b|$HOME||--json|-v|*|");
    let _ = host.vethpath("exec ns1 -- ip -o -4 addr").ok().prints("172.17.0.102/16");
    let _ = host.vethpath("exec ns1 -- ls /sys/class/net").ok().prints("eth0");
    let _ = host.vethpath("exec ns1 -- ip netns identify").ok().prints("ns1");
    lab.down();
    host.finish();
}

#[test]
fn exec_says_what_it_cannot_do() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.vethpath("exec ns7 -- true").fails(1).says("ns7");
    let missing = host.vethpath("exec ns0 -- no-such-command");
    assert!(!missing.succeeded() && missing.stderr.contains("no-such-command"), "{missing}");
    lab.down();
    host.finish();
}

/// `exec` refuses a namespace that no lab made.
#[test]
fn exec_is_for_the_labs_own_namespaces() {
    let mut host = Host::new();
    let _ = host.run("ip netns add other").ok();
    host.remember();
    let lab = host.lab("three-hosts").up();
    let _ = host.vethpath("exec other -- true").fails(1).says("other");
    lab.down();
    host.finish();
}

#[test]
fn a_shell_says_where_it_is() {
    let host = Host::new();
    let exe = host.public_exe();
    let lab = host.lab("three-hosts").up();
    let shell =
        ["env", "SHELL=/bin/bash", "TERM=dumb", "script", "-qec", &format!("{exe} shell ns1"), "/dev/null"];
    let done = host.feed(shell, "ip -o -4 addr\nexit\n").ok();
    let prompts = done.stdout.lines().filter(|l| l.contains("ns1") && l.contains("ip -o -4 addr")).count();
    assert_eq!(prompts, 1, "{done}");
    let _ = done.prints("172.17.0.102/16");
    lab.down();
    host.finish();
}

#[test]
fn down_twice() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let file = lab.file.clone();
    lab.down();
    for again in ["three-hosts", &file] {
        let _ = host.vethpath(format!("down {again}")).fails(1).says("three-hosts");
    }
    host.finish();
}

#[test]
fn down_takes_the_file_or_nothing_too() {
    let host = Host::new();
    for which in [true, false] {
        let lab = host.lab("three-hosts").up();
        let file = if which { lab.file.clone() } else { String::new() };
        lab.forget();
        let _ = host.vethpath(format!("down {file}")).ok();
        assert!(host.namespaces().is_empty());
    }
    host.finish();
}

#[test]
fn help_version_completions_and_manual_need_nothing() {
    let host = Host::new();
    let _ = host.vethpath("--version").ok().prints(env!("CARGO_PKG_VERSION"));
    let help = host.vethpath("--help").ok();
    let verbs = "up down plan validate schema show list exec shell stats events bench doctor completions man";
    for verb in verbs.split(' ') {
        assert!(help.stdout.contains(&format!("  {verb}")), "{verb} is not in {help}");
        let _ = host.vethpath(format!("{verb} --help")).ok();
    }
    let _ = host.vethpath("completions bash").ok().prints("vethpath");
    let _ = host.vethpath("man").ok().prints(".TH");
    host.finish();
}

#[test]
fn what_cannot_be_written_is_no_panic() {
    let host = Host::new();
    let exe = host.public_exe();
    for verb in ["completions bash", "man"] {
        let full = host.run(["bash", "-c", &format!("{exe} {verb} > /dev/full")]).fails(2);
        assert!(full.stderr.starts_with("error: cannot write the output"), "{full}");
        let script = format!("set -o pipefail; {exe} {verb} | true");
        let closed = host.run(["bash", "-c", &script]).ok();
        assert_eq!(closed.stderr, "", "{closed}");
    }
    host.finish();
}

#[test]
fn a_mistyped_command_is_the_users_fault() {
    let host = Host::new();
    let _ = host.vethpath("upp some.toml").fails(1).says("upp");
    let _ = host.vethpath("up").fails(1);
    host.finish();
}
