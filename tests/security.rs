//! Privileges: the agent has few, state and pins are accessible to root only, and its socket answers only root. Names
//! that others choose harm nothing.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::harness::{Host, SLACK, TIMEOUT, wait_for, wait_until};

const NS1: &str = "172.17.0.102";

/// CAP_NET_ADMIN, CAP_NET_BROADCAST, CAP_SYS_ADMIN of linux/capability.h.
const KEPT: u64 = 1 << 12 | 1 << 11 | 1 << 21;

const STATE: &str = "/run/vethpath";
const PINS: &str = "/sys/fs/bpf/vethpath";

/// Command prefix for another user, without capabilities.
pub(crate) const NOBODY: &str =
    "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all";

#[test]
fn the_agent_keeps_three_capabilities_and_can_gain_none() {
    let host = Host::new();
    for hook in ["tcx", "clsact"] {
        let file = host.lab("three-hosts").write();
        let _ = host.vethpath(format!("up --hook {hook} {file}")).ok();
        let stats = live_stats(&host);
        let status = host.run(format!("cat /proc/{}/status", stats["agent"]["pid"])).ok().stdout;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
        };
        let mask = |name: &str| u64::from_str_radix(&field(name), 16).expect("hexadecimal");
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(mask(set), KEPT, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(mask(set), 0, "{set}");
        }
        assert_eq!(field("NoNewPrivs"), "1");
        let stat = host.run(format!("cat /proc/{}/stat", stats["agent"]["pid"])).ok().stdout;
        // The name may contain spaces. `nice` is the 19th field.
        let nice = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(16));
        assert_eq!(nice, Some("-20"), "it acts at once on a busy machine: {stat}");
        // The agent reports them in its status and in its log.
        let names = ["CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_SYS_ADMIN"];
        assert_eq!(stats["agent"]["capabilities"], json!(names));
        let log = fs::read_to_string(host.path("/run/vethpath/three-hosts/agent.log")).expect("its log");
        assert!(log.contains(&names.join(", ")), "{log}");
        let _ = host.vethpath("down three-hosts").ok();
    }
    host.finish();
}

#[test]
fn state_and_pins_are_roots_alone_whatever_the_umask() {
    for umask in ["0000", "0022", "0077", "0777"] {
        let host = Host::new();
        // NAT changes a sysctl of the host. With that, and after a second agent, all files exist.
        let file = host.lab("three-hosts").with("[bridge.docker0]", "[bridge.docker0]\nnat = true").write();
        let exe = host.public_exe();
        let up = format!("umask {umask}; exec {exe} up {file}");
        let _ = host.run(["sh", "-c", &up]).ok();
        let _ = host.run(format!("kill -KILL {}", live_stats(&host)["agent"]["pid"])).ok();
        let _ = host.run(["sh", "-c", &up]).ok();
        assert_root_only(&host, umask);
        let _ = host.vethpath("down three-hosts").ok();
        host.finish();
    }
}

#[test]
fn a_looser_folder_is_tightened() {
    let host = Host::new();
    let lab = format!("{STATE}/three-hosts");
    let _ = host.run(format!("mkdir -p {lab}")).ok();
    let _ = host.run(format!("chmod 0755 {STATE} {lab}")).ok();
    let lab = host.lab("three-hosts").up();
    // Modes that were loosened later are tightened too.
    let _ = host.run(format!("chmod -R a+rX {STATE} {PINS}")).ok();
    let _ = host.run(format!("kill -KILL {}", live_stats(&host)["agent"]["pid"])).ok();
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    for folder in [STATE, &format!("{STATE}/three-hosts"), PINS, &format!("{PINS}/three-hosts")] {
        assert_eq!(mode(&host.path(folder)), 0o700, "{folder}");
    }
    lab.down();
    host.finish();
}

#[test]
fn a_folder_that_others_could_have_filled_is_refused_and_untouched() {
    for (place, prepare, reason) in [
        (STATE, "mkdir -m 0777 {}", "others may write to it (mode 0777)"),
        (STATE, "mkdir -m 0700 {} && chown 65534 {}", "it belongs to user 65534"),
        (STATE, "mkdir -m 0777 /run/planted && ln -s /run/planted {}", "it is a symbolic link"),
        (STATE, "touch {}", "it exists and is not a directory"),
        (
            "/run/vethpath/three-hosts",
            "mkdir -m 0700 /run/vethpath && ln -s /run {}",
            "it is a symbolic link",
        ),
        ("/run/vethpath/three-hosts", "mkdir -m 0700 /run/vethpath && mkdir -m 0770 {}", "mode 0770"),
    ] {
        let mut host = Host::new();
        let _ = host.run(["sh", "-c", &prepare.replace("{}", place)]).ok();
        host.set_baseline();
        let listing = || host.run(["find", "/run", "-printf", "%p %m %U\n"]).ok().stdout;
        let before = listing();
        let file = host.lab("three-hosts").write();
        let output = host.vethpath(format!("up {file}")).fails(2);
        let _ = output.stderr_has(place).stderr_has(reason);
        assert_eq!(listing(), before, "{prepare}");
        assert_eq!(host.changes(), None, "{prepare}");
        host.finish();
    }
}

/// A symbolic link that was planted while others could write to the folder is not followed.
#[test]
fn planted_links_are_not_followed() {
    for name in ["journal", "agent.log", "agent.lock"] {
        let mut host = Host::new();
        let _ = host.run(format!("mkdir -m 0700 -p {STATE} {STATE}/three-hosts")).ok();
        let _ = host.run(["sh", "-c", "echo precious > /run/precious"]).ok();
        let _ = host.run(format!("ln -s /run/precious {STATE}/three-hosts/{name}")).ok();
        host.set_baseline();
        let file = host.lab("three-hosts").write();
        let _ = host.vethpath(format!("up {file}")).fails(2);
        assert_eq!(host.run("cat /run/precious").ok().stdout, "precious\n", "{name}");
        let _ = host.vethpath("down three-hosts");
        let _ = host.run(format!("rm -rf {STATE} {PINS}"));
        host.set_baseline();
        host.finish();
    }
}

#[test]
fn the_socket_answers_root_alone() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let socket = format!("{STATE}/three-hosts/agent.sock");
    let query = |who: &str| host.run(query_command(who, &socket));
    assert!(query("").ok().stdout.contains("\"generation\""));
    let _ = query(NOBODY).fails(1);
    // The agent also checks the credentials of the peer.
    let _ = host.run(format!("chmod 0777 {STATE} {STATE}/three-hosts {socket}")).ok();
    assert_eq!(query(NOBODY).ok().stdout, "");
    assert!(query("").ok().stdout.contains("\"generation\""));
    let _ = host.run(format!("chmod 0700 {STATE} {STATE}/three-hosts")).ok();
    lab.down();
    host.finish();
}

/// Clients that connect and do not read do not keep the agent from its work.
#[test]
fn thousands_of_idle_clients_harm_nothing() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    let socket = host.path(&format!("{STATE}/three-hosts/agent.sock"));
    let descriptors = || host.run(format!("ls /proc/{pid}/fd")).ok().stdout.lines().count();
    let before = descriptors();
    // Connects that fail are skipped: the test may fill the queue.
    let idle: Vec<UnixStream> = (0..5000).filter_map(|_| connect(&socket).ok()).collect();
    assert!(idle.len() >= 1000, "{} connected", idle.len());
    wait_until(SLACK, || match descriptors() {
        few if few <= before + 20 => Ok(()),
        many => Err(format!("{many} descriptors, {before} before")),
    });
    let left = || stats(&host)["agent"]["lease_left_ms"].as_u64();
    wait_for(SLACK, "the lease is renewed", || left().is_some_and(|left| left > 2000));
    lab.is_fast("ns0:eth0", NS1);
    drop(idle);
    wait_for(SLACK, "descriptors come back", || descriptors() <= before + 1);
    assert_eq!(lab.pid(), pid);
    lab.down();
    host.finish();
}

/// Names of foreign devices are shown without control characters.
#[test]
fn control_characters_of_others_do_not_reach_the_terminal() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let evil = "x\u{1b}[31mx";
    let _ = host.run(["ip", "link", "add", evil, "type", "veth", "peer", "name", "other0"]).ok();
    let _ = host.run(["ip", "link", "set", evil, "alias", "\u{1b}]0;owned\u{7}"]).ok();
    let _ = host.run(["ip", "link", "set", evil, "master", "docker0"]).ok();
    let shown = host.vethpath("show").ok().stdout;
    assert!(shown.contains(r"x\u{1b}[31mx"), "{shown}");
    for command in ["show", "show --json", "stats", "list", &format!("plan {}", lab.file)] {
        let output = host.vethpath(command);
        let raw = format!("{}{}", output.stdout, output.stderr).replace('\n', "");
        assert!(!raw.contains(char::is_control), "{command}: {raw:?}");
    }
    let _ = host.run(["ip", "link", "del", evil]).ok();
    lab.down();
    // A topology file is not trusted either.
    let file = host.topology("evil", "name = \"\u{1b}[31m\"\n\u{9b}x = 1\n[bridge.\"\u{1b}c\"]\n");
    let stderr = host.vethpath(format!("validate {file}")).fails(1).stderr.replace('\n', "");
    assert!(!stderr.contains(char::is_control), "{stderr:?}");
    host.finish();
}

fn stats(host: &Host) -> Value {
    host.vethpath("stats --json").ok().json()
}

/// The same once the agent answers.
#[track_caller]
fn live_stats(host: &Host) -> Value {
    wait_until(TIMEOUT, || {
        let stats = stats(host);
        if stats["agent"]["alive"] == true { Ok(stats) } else { Err("the agent does not answer".to_owned()) }
    })
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).mode() & 0o7777
}

/// Checks owner and mode of everything in and above the lab's folders.
#[track_caller]
fn assert_root_only(host: &Host, about: &str) {
    let mut seen = Vec::new();
    for root in [STATE, PINS] {
        let mut todo = vec![host.path(root)];
        while let Some(path) = todo.pop() {
            let found = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), expected, "umask {about}: {}", path.display());
            assert_eq!((found.uid(), found.gid()), (0, 0), "umask {about}: {}", path.display());
            if found.is_dir() {
                let entries = fs::read_dir(&path).expect("it can be listed");
                todo.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            seen.push(path);
        }
    }
    // The name of the file with the host's saved settings ends with the number of its network namespace.
    let there = |name: &str| {
        let is_file = |found: &str| found == name || found.starts_with(&format!("{name}."));
        seen.iter()
            .any(|path: &PathBuf| path.file_name().and_then(|found| found.to_str()).is_some_and(is_file))
    };
    for name in ["journal", "agent.sock", "agent.log", "agent.lock", ".host-sysctls", "CONFIG", "STATIONS"] {
        assert!(there(name), "{name} is not among {seen:?}");
    }
}

/// A command that connects to a socket as a user and prints the answer. It exits with 1 if it cannot connect.
fn query_command(who: &str, socket: &str) -> Vec<String> {
    let script = "my $s = IO::Socket::UNIX->new($ARGV[0]) or exit 1; alarm 10; print <$s>";
    let mut words: Vec<_> = who.split_whitespace().map(str::to_owned).collect();
    words.extend(["perl", "-MIO::Socket::UNIX", "-e", script, socket].map(str::to_owned));
    words
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// A script may hold a lock while it brings a lab up. The agent must not keep that lock.
#[test]
fn the_agent_inherits_no_descriptor() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let exe = env!("CARGO_BIN_EXE_vethpath");
    let _ = host.run(["bash", "-c", &format!("exec 9>/run/lock-of-mine; flock 9; {exe} up {file}")]).ok();
    let _ = host.run("flock -n /run/lock-of-mine true").ok();
    let pid = host.run("cat /run/vethpath/three-hosts/agent.lock").ok().stdout;
    let open = host.run(format!("ls -l /proc/{pid}/fd")).ok().stdout;
    assert!(open.contains("agent") && !open.contains("lock-of-mine"), "{open}");
    let _ = host.vethpath("down").ok();
    let _ = host.run("rm /run/lock-of-mine").ok();
    host.finish();
}

/// Commands that run on the host, or as root in a namespace.
const ODD: [&str; 7] = [
    "ip link add $'n\\xff' type veth peer name q0",
    "ip -n ns0 link set lo alias $'x\\xff'",
    "ip -n ns0 link add $'n\\xff' type veth peer name q1",
    "ip -n ns0 link set eth0 alias $'x\\xff'",
    "ip -n ns1 link property add dev eth0 altname $'q\\xff'",
    "ip -n ns2 link set lo down && ip -n ns2 link set lo name foo && ip -n ns2 link set foo up",
    "ip link set PORT alias $'\\xff'",
];

#[test]
fn names_that_are_not_utf8_do_no_harm() {
    let mut host = Host::new();
    for odd in ODD {
        host.set_baseline();
        let lab = host.lab("three-hosts").up();
        let pid = lab.pid();
        let odd = odd.replace("PORT", &lab.port("ns2:eth0"));
        let _ = host.run(["bash", "-c", &odd]).ok();
        let _ = lab.live_stats();
        assert_eq!(lab.pid(), pid, "{odd}");
        lab.is_fast("ns1:eth0", "172.17.0.103");
        let _ = host.vethpath(format!("up {}", lab.file)).ok();
        let _ = host.vethpath("show").ok();
        lab.down();
        let _ = host.run("ip link del q0");
        host.assert_restored(&odd);
    }
    host.finish();
}
