//! Names of hosts: what programs that `exec` starts find in `/etc`, and which host name they have. `getent` and `hostname`
//! judge.

use std::fs;

use crate::harness::{Host, Output};

/// What a command prints in a host.
#[track_caller]
fn exec(host: &Host, namespace: &str, command: &str) -> String {
    host.vethpath(format!("exec {namespace} -- {command}")).ok().stdout
}

/// The addresses of a name in a host, in the order in which programs try them.
#[track_caller]
fn addresses(host: &Host, namespace: &str, family: &str, name: &str) -> Vec<String> {
    let found = exec(host, namespace, &format!("getent {family} {name}"));
    let streams = found.lines().filter(|line| line.contains("STREAM"));
    streams.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn hosts_know_each_other_by_name_and_themselves() {
    let host = Host::new();
    let machine = (host.run("hostname").ok().stdout, fs::read_to_string("/etc/hosts").ok());
    let lab = host.lab("two-families").up();
    assert_eq!(addresses(&host, "ns0", "ahostsv4", "ns1"), ["10.0.0.11"]);
    assert_eq!(addresses(&host, "ns0", "ahostsv6", "ns1"), ["fd00::11"]);
    assert_eq!(addresses(&host, "ns1", "ahostsv6", "br0"), ["fd00::1"]);
    for family in ["-4", "-6"] {
        let _ = host.vethpath(format!("exec ns0 -- ping {family} -n -q -c 1 -W 30 ns1")).ok();
    }
    assert_eq!(exec(&host, "ns0", "hostname"), "ns0\n");
    assert_eq!(addresses(&host, "ns0", "ahostsv4", "ns0"), ["10.0.0.10"]);
    // Programs of all users read them, whatever the umask of the caller is.
    let mode = format!("umask 077; {} exec ns0 -- stat -c %a /etc/hosts", host.exe());
    assert_eq!(host.run(["sh", "-c", &mode]).ok().stdout, "644\n");
    let shell = ["env", "SHELL=/bin/sh", &host.exe(), "shell", "ns1"].map(str::to_owned).to_vec();
    let _ = host.run_with_input(shell, "hostname\n").ok().stdout_has("ns1");
    // The host name and the files are those of these programs alone.
    let now = (host.run("hostname").ok().stdout, fs::read_to_string("/etc/hosts").ok());
    assert_eq!(now, machine);
    let _ = host.run("getent hosts ns1").fails(2);
    lab.down();
    host.finish();
}

#[test]
fn name_servers_are_those_of_the_file_at_any_time() {
    let host = Host::new();
    let machine = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lab = host.lab("two-families").up();
    assert_eq!(exec(&host, "ns0", "cat /etc/resolv.conf"), machine);
    let more = "[namespace.ns0]\nnameservers = [\"10.0.0.11\", \"fd00::11\"]\nsearch = [\"lab.test\"]\n";
    let file = host.lab("two-families").and(more).write();
    let changed = host.vethpath(format!("up {file} --json")).ok().json();
    assert_eq!(changed["changes"], serde_json::json!([]), "nothing of the kernel's state");
    let expected = "nameserver 10.0.0.11\nnameserver fd00::11\nsearch lab.test\n";
    assert_eq!(exec(&host, "ns0", "cat /etc/resolv.conf"), expected);
    assert_eq!(exec(&host, "ns1", "cat /etc/resolv.conf"), machine);
    lab.down();
    host.finish();
}

/// Puts a copy of `/etc` that is the host's own over the machine's, with this file in it.
fn own_etc(host: &mut Host, path: &str, text: &str) -> Output {
    for command in [
        "mkdir -p /run/own/upper /run/own/work",
        "mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/own/upper,workdir=/run/own/work /etc",
    ] {
        let _ = host.run(command).ok();
    }
    let written = host.run(["sh", "-c", &format!("mkdir -p $(dirname {path}) && printf '{text}' > {path}")]);
    host.set_baseline();
    written.ok()
}

#[test]
fn files_of_etc_netns_come_before_those_of_the_lab() {
    let mut host = Host::new();
    let _ = own_etc(&mut host, "/etc/netns/ns0/hosts", "192.0.2.1 ns1\\n");
    let lab = host.lab("two-families").up();
    assert_eq!(exec(&host, "ns0", "cat /etc/hosts"), "192.0.2.1 ns1\n");
    assert_eq!(addresses(&host, "ns1", "ahostsv4", "ns0"), ["10.0.0.10"], "of another host");
    lab.down();
    host.finish();
}

#[test]
fn a_machine_without_hosts_is_reported_and_the_program_runs() {
    let mut host = Host::new();
    let _ = own_etc(&mut host, "/etc/own", "");
    let _ = host.run("rm /etc/hosts").ok();
    host.set_baseline();
    let lab = host.lab("two-families").up();
    let output = host.vethpath("exec ns0 -- hostname").ok().stderr_has("to /etc/hosts");
    assert_eq!(output.stdout, "ns0\n");
    lab.down();
    host.finish();
}
