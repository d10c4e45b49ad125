//! Commands: exit codes, arguments, errors, and that `stats` and `show` report the same.

use serde_json::Value;

use crate::harness::{Host, SLACK, TIMEOUT, wait_for, wait_until};

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
    let _ = host.vethpath("exec ns1 -- ip -o -4 addr").ok().stdout_has("172.17.0.102/16");
    let _ = host.vethpath("exec ns1 -- ls /sys/class/net").ok().stdout_has("eth0");
    let _ = host.vethpath("exec ns1 -- ip netns identify").ok().stdout_has("ns1");
    lab.down();
    host.finish();
}

#[test]
fn exec_reports_missing_namespaces_and_commands() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.vethpath("exec ns7 -- true").fails(1).stderr_has("ns7");
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
    host.set_baseline();
    let lab = host.lab("three-hosts").up();
    let _ = host.vethpath("exec other -- true").fails(1).stderr_has("other");
    lab.down();
    host.finish();
}

#[test]
fn the_shell_prompt_names_the_namespace() {
    let host = Host::new();
    let exe = host.public_exe();
    let lab = host.lab("three-hosts").up();
    let shell =
        ["env", "SHELL=/bin/bash", "TERM=dumb", "script", "-qec", &format!("{exe} shell ns1"), "/dev/null"];
    let output = host.run_with_input(shell, "ip -o -4 addr\nexit\n").ok();
    let prompts = output.stdout.lines().filter(|l| l.contains("ns1") && l.contains("ip -o -4 addr")).count();
    assert_eq!(prompts, 1, "{output}");
    let _ = output.stdout_has("172.17.0.102/16");
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
        let _ = host.vethpath(format!("down {again}")).fails(1).stderr_has("three-hosts");
    }
    host.finish();
}

#[test]
fn down_accepts_a_file_or_no_argument() {
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
    let _ = host.vethpath("--version").ok().stdout_has(env!("CARGO_PKG_VERSION"));
    let help = host.vethpath("--help").ok();
    let verbs = "up down plan validate schema show list exec shell stop start restart ping test stats events bench doctor completions man";
    for verb in verbs.split(' ') {
        assert!(help.stdout.contains(&format!("  {verb}")), "{verb} is not in {help}");
        let _ = host.vethpath(format!("{verb} --help")).ok();
    }
    let _ = host.vethpath("completions bash").ok().stdout_has("vethpath");
    let _ = host.vethpath("man").ok().stdout_has(".TH");
    host.finish();
}

#[test]
fn unwritable_output_is_an_error() {
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
fn unknown_commands_exit_with_1() {
    let host = Host::new();
    let _ = host.vethpath("upp some.toml").fails(1).stderr_has("upp");
    let _ = host.vethpath("up").fails(1);
    host.finish();
}

#[test]
fn a_missing_file_is_named() {
    let host = Host::new();
    for verb in ["up", "plan", "validate"] {
        let _ = host.vethpath(format!("{verb} /nowhere/lab.toml")).fails(1).stderr_has("/nowhere/lab.toml");
    }
    host.finish();
}

#[test]
fn unknown_labs_exit_with_1() {
    let host = Host::new();
    for command in ["down nosuch", "show nosuch", "stats nosuch", "stats", "down", "exec ns0 -- true"] {
        let output = host.vethpath(command).fails(1);
        assert!(!output.stderr.trim().is_empty(), "{output}");
    }
    let _ = host.vethpath("down nosuch").fails(1).stderr_has("nosuch");
    for path in ["down ../../etc", "down ..", "down /", "stats a/b"] {
        let _ = host.vethpath(path).fails(1);
    }
    host.finish();
}

#[test]
fn counts_of_one_are_singular() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let counted = "3 namespaces, 1 bridge, 3 pairs";
    let _ = host.vethpath(format!("validate {}", lab.file)).ok().stderr_has(counted);
    let _ = host.vethpath("list").ok().stdout_has("3 namespaces, 1 bridge, 3 of 3 pairs armed");
    lab.down();
    host.finish();
}

/// For every kind of port, both `stats` and `show` report why it is not armed, as text and as JSON.
#[test]
fn stats_and_show_give_the_same_reason_for_each_port() {
    let host = Host::new();
    let more = "
[bridge.plain]
datapath = \"bridge\"
[namespace.ns0.interface.eth1]
link = \"plain\"
[namespace.ns1.interface.eth1]
link = \"ns2:eth1\"
";
    let lab = host.lab("trunk").and(more).named("three-hosts").up();
    let _ = host.run("ip link add stranger master left type veth peer name beyond").ok();
    let port = lab.port("ns0:eth0");
    let _ = host.run(format!("bridge link set dev {port} neigh_suppress on")).ok();
    wait_for(SLACK, "the pair is not armed", || {
        lab.stats().pair("ns0:eth0").state == "port flag neigh_suppress"
    });
    let trunk = "port flag learning off";
    let trunks = || host.vethpath("stats --json").ok().json()["trunks"].clone();
    let port = trunks()[0]["port"].as_str().expect("a port").to_owned();
    let _ = host.run(format!("bridge link set dev {port} learning off")).ok();
    wait_for(SLACK, "the trunk is not armed", || trunks()[0]["state"] == trunk);
    // If the agent answers one of them too late, that is all it reports.
    let [stats, show] = wait_until(TIMEOUT, || {
        let both = ["stats --json", "show --json"].map(|command| host.vethpath(command).ok());
        match both.iter().find(|report| report.stdout.contains("does not answer")) {
            Some(silent) => Err(silent.to_string()),
            None => Ok(both.map(|report| report.json())),
        }
    });
    let list = |list: &Value| list.as_array().cloned().expect("a list");
    let of_stats = [list(&stats["pairs"]), list(&stats["trunks"])].concat();
    let of_show: Vec<_> = list(&show["bridges"]).iter().flat_map(|bridge| list(&bridge["ports"])).collect();
    assert_eq!((of_stats.len(), of_show.len()), (4 + 2, 4 + 4 + 1), "{stats:#}\n{show:#}");
    for report in &of_stats {
        let shown = of_show.iter().find(|shown| shown["name"] == report["port"]).expect("each port is shown");
        assert_eq!(report["state"], shown["state"]);
    }
    let states: Vec<_> = of_show.iter().map(|shown| shown["state"].as_str().expect("a state")).collect();
    let count = |state: &str| states.iter().filter(|other| **other == state).count();
    // Two pairs, and both ends of one trunk.
    assert_eq!(
        [count("armed"), count("port flag neigh_suppress"), count("datapath is \"bridge\"")],
        [4, 1, 1]
    );
    assert_eq!((count(trunk), count("it is not of the lab")), (2, 1), "{states:?}");
    for (command, words) in [
        ("stats", "neigh_suppress"),
        ("stats", "learning off"),
        ("show", "neigh_suppress"),
        ("show", "not of"),
    ] {
        wait_until(TIMEOUT, || {
            let report = host.vethpath(command).ok();
            if report.stdout.contains(words) { Ok(()) } else { Err(format!("{words:?}: {report}")) }
        });
    }
    let _ = host.run("ip link del stranger").ok();
    lab.down();
    host.finish();
}

#[test]
fn show_has_routes_and_what_is_not_as_the_file_says() {
    let host = Host::new();
    let lab = host
        .lab("three-hosts")
        .with("172.17.0.1/16\"]", "172.17.0.1/16\"]\nnat = true")
        .up_with("--allow-drops");
    let shown = host.vethpath("show").ok();
    assert!(shown.stdout.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let shown = shown.stdout_has("default via 172.17.0.1");
    assert!(
        shown.stdout.lines().any(|line| line.starts_with("docker0 ") && line.ends_with(" nat")),
        "{shown}"
    );
    assert!(!shown.stdout.contains("not as the file says"), "{shown}");
    let json = host.vethpath("show --json").ok().json();
    let routes = serde_json::json!([{"to": "0.0.0.0/0", "via": "172.17.0.1", "device": "eth0"}]);
    assert_eq!(json["namespaces"][0]["routes"], routes);
    assert_eq!(json["drift"], serde_json::json!([]));

    let port = lab.port("ns1:eth0");
    for command in [format!("ip link set {port} down"), "ip -n ns2 route del default".to_owned()] {
        let _ = host.run(command).ok();
    }
    let expected = [
        format!("~ change interface host:{port}: down -> up"),
        "+ create route 0.0.0.0/0 via 172.17.0.1 in ns2".to_owned(),
    ];
    let shown = host.vethpath("show").ok().stdout_has("not as the file says; `vethpath up` with it would:\n");
    let json = host.vethpath("show --json").ok().json();
    assert_eq!(json["drift"], serde_json::json!(expected), "{shown}");
    assert!(expected.iter().all(|line| shown.stdout.contains(line)), "{shown}");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    assert_eq!(host.vethpath("show --json").ok().json()["drift"], serde_json::json!([]));
    lab.down();
    host.finish();
}
