//! Commands that are called from other namespaces than the lab's.

use serde_json::Value;

use crate::harness::{Host, Lab, LabFile, SLACK, TIMEOUT, wait_for};

/// Command prefixes that change to other namespaces.
const ELSEWHERE: [&str; 5] = [
    "ip netns exec ns0",
    "nsenter --net=/run/netns/ns0",
    "unshare --net",
    "unshare --mount",
    "unshare --net --mount --propagation slave",
];

/// Where a lab's record is.
const JOURNAL: &str = "/run/vethpath/three-hosts/journal";

/// A lab that makes every kind of change to the machine.
pub(crate) fn with_nat(host: &Host) -> LabFile<'_> {
    host.lab("three-hosts").with("[bridge.docker0]\n", "[bridge.docker0]\nnat = true\n")
}

#[test]
fn down_from_elsewhere_removes_the_whole_lab() {
    let host = Host::new();
    let from_lab = format!("{} exec ns0 --", host.exe());
    for elsewhere in ELSEWHERE.into_iter().chain([from_lab.as_str()]) {
        for target in ["three-hosts", "--all"] {
            let lab = with_nat(&host).up();
            let _ = host
                .run(format!("{elsewhere} {} down {target}", host.exe()))
                .ok()
                .stderr_has("lab three-hosts is down");
            lab.forget();
            host.assert_restored(elsewhere);
        }
    }
    host.finish();
}

#[test]
fn up_from_elsewhere_applies_to_the_existing_lab() {
    let host = Host::new();
    let lab = with_nat(&host).up();
    let pid = lab.pid();
    for elsewhere in ELSEWHERE {
        for verb in ["plan", "up"] {
            let output = host.run(format!("{elsewhere} {} {verb} {} --json", host.exe(), lab.file)).ok();
            assert_eq!(output.json()["changes"], Value::Array(vec![]), "{elsewhere}: {output}");
        }
    }
    assert_eq!(lab.pid(), pid);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

#[test]
fn commands_that_only_read_show_the_lab_from_elsewhere() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let shown = host.vethpath("show --json").ok().json();
    for elsewhere in ELSEWHERE {
        let run = |command: &str| host.run(format!("{elsewhere} {} {command}", host.exe())).ok();
        assert_eq!(run("show --json").json()["bridges"], shown["bridges"], "{elsewhere}");
        let stats = run("stats --json").json();
        assert_eq!(stats["pairs"][0]["state"], "armed", "{elsewhere}: {stats:#}");
        assert!(
            stats["agent"]["lease_left_ms"].as_u64().is_some_and(|left| left > 0),
            "{elsewhere}: {stats:#}"
        );
        let _ = run("list").stdout_has("3 of 3 pairs armed");
        let _ = run("exec ns1 -- ip -4 addr").stdout_has("172.17.0.102/16");
    }
    lab.down();
    host.finish();
}

/// The mounts of `ip netns exec` end with its command, but the record would stay.
#[test]
fn a_lab_that_would_not_outlive_the_command_is_refused() {
    let mut host = Host::new();
    let _ = host.run("ip netns add pod").ok();
    host.set_baseline();
    let file = with_nat(&host).write();
    for elsewhere in ["ip netns exec pod", "unshare --mount", "unshare --net --mount"] {
        for verb in ["plan", "up"] {
            let output = host.run(format!("{elsewhere} {} {verb} {file}", host.exe()));
            let _ = output
                .fails(1)
                .stderr_has("would not outlive")
                .stderr_has("hint: `nsenter -t 1 -m vethpath up");
            assert_eq!(host.changes(), None, "{elsewhere} {verb}");
        }
    }
    // The command of the hint works, and every command reaches that lab.
    let _ = host.run(format!("ip netns exec pod nsenter -t 1 -m {} up {file}", host.exe())).ok();
    let _ = host.run("ip -n pod link show docker0").ok();
    let _ = host.vethpath("exec ns0 -- ping -n -q -c 1 -W 5 172.17.0.102").ok();
    let _ = host.vethpath("exec ns0 -- ping -n -q -c 1 -W 5 172.17.0.1").ok();
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has("nothing to change");
    let _ = host.vethpath("down three-hosts").ok();
    assert_eq!(host.changes(), None);
    host.finish();
}

/// Two labs with `nat` in two network namespaces, each with its own forwarding setting.
#[test]
fn forwarding_is_remembered_for_each_network_namespace() {
    let host = Host::new();
    let lab = with_nat(&host).up();
    let _ = host.run("ip netns add pod").ok();
    let forwarding = |where_: &str| host.run(format!("{where_} sysctl -n net.ipv4.ip_forward")).ok().stdout;
    let other = "name = \"other\"\n[bridge.br0]\naddresses = [\"10.77.0.1/24\"]\nnat = true\n";
    let file = host.topology("other", other);
    let _ = host.run(format!("nsenter --net=/run/netns/pod {} up {file}", host.exe())).ok();
    assert_eq!((forwarding("env"), forwarding("ip netns exec pod")), ("1\n".into(), "1\n".into()));
    lab.down();
    assert_eq!((forwarding("env"), forwarding("ip netns exec pod")), ("0\n".into(), "1\n".into()));
    let _ = host.vethpath("down other").ok();
    assert_eq!(forwarding("ip netns exec pod"), "0\n");
    let _ = host.run("ip netns del pod").ok();
    host.finish();
}

/// Only the agent keeps the network namespace of `unshare --net`.
#[test]
fn a_lab_whose_network_namespace_is_gone_can_be_taken_down() {
    let host = Host::new();
    let file = with_nat(&host).write();
    let _ = host.run(format!("unshare --net {} up {file}", host.exe())).ok();
    let _ = host.vethpath("exec ns0 -- ping -n -q -c 1 -W 5 172.17.0.1").ok();
    let agent = host.vethpath("stats --json").ok().json()["agent"]["pid"].to_string();
    let _ = host.run(format!("kill -KILL {agent}")).ok();
    host.wait_for_exit(agent.parse().expect("a number"));
    let _ = host
        .vethpath(format!("up {file}"))
        .fails(1)
        .stderr_has("is gone")
        .stderr_has("hint: `vethpath down three-hosts`");
    let _ = host
        .vethpath("down three-hosts")
        .ok()
        .stderr_has("lived in is gone")
        .stderr_has("lab three-hosts is down");
    host.finish();
}

/// In another PID namespace, the agent's pid is that of another process.
#[test]
fn from_another_process_namespace_nothing_is_changed() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    for elsewhere in ["unshare --pid --fork", "unshare --pid --fork --mount-proc"] {
        for command in ["down three-hosts".to_owned(), format!("up {}", lab.file)] {
            let output = host.run(format!("{elsewhere} {} {command}", host.exe())).fails(1);
            let _ = output.stderr_has("cannot be reached from here").stderr_has("hint:");
        }
    }
    assert_eq!(lab.pid(), pid);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

/// Not even the record states the lab's namespaces. The pid in the lock must not be taken for another process.
#[test]
fn from_another_process_namespace_no_other_process_is_ended() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let agent = lab.pid();
    std::fs::write(host.path(JOURNAL), b"{\xff\n").expect("it can be written");
    // A pid that another process has there.
    std::fs::write(host.path("/run/vethpath/three-hosts/agent.lock"), "2").expect("it can be written");
    let script = format!("sleep 1000 & {} down three-hosts; code=$?; kill -0 $! && exit $code", host.exe());
    // With the second, /proc shows only the processes of the new PID namespace.
    for proc in ["", "mount -t proc proc /proc;"] {
        let script = format!("{proc} {script}");
        let output = host.run(["unshare", "--pid", "--mount", "--fork", "bash", "-c", &script]);
        let _ = output.fails(1).stderr_has("cannot be reached from here").stderr_has("hint:");
        assert!(host.is_alive(agent), "{proc}");
    }
    let _ = host.vethpath("down three-hosts").ok().stderr_has("objects with the mark of lab");
    lab.forget();
    host.finish();
}

/// `bpf()` needs capabilities that no process has there, whoever owns the network namespace.
#[test]
fn from_a_user_namespace_nothing_is_changed() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    for elsewhere in ["unshare --user --map-root-user", "unshare --user --map-root-user --net"] {
        for command in ["down three-hosts".to_owned(), "down --all".to_owned(), format!("up {}", lab.file)] {
            let output = host.run(format!("{elsewhere} {} {command}", host.exe())).fails(2);
            let _ = output
                .stderr_has("this needs the initial user namespace")
                .stderr_has("hint: run vethpath on the machine");
        }
    }
    assert_eq!(lab.pid(), pid);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

/// A container engine whose containers have ended keeps a mount; another program may keep a descriptor.
#[test]
fn a_network_namespace_that_is_only_mounted_or_open_is_found() {
    let host = Host::new();
    for holder in ["mount --bind /proc/PID/ns/net '/run/held here'", "exec 9</proc/PID/ns/net"] {
        let file = with_nat(&host).write();
        let _ = host.run(format!("unshare --net {} up {file}", host.exe())).ok();
        let agent = host.vethpath("stats --json").ok().json()["agent"]["pid"].to_string();
        let script = format!("touch '/run/held here'; {} && exec sleep 1000", holder.replace("PID", &agent));
        let holder_process = host.spawn(["bash", "-c", &script]);
        wait_for(SLACK, "it is not held", || holder_process.name() == "sleep");
        if holder.starts_with("mount") {
            holder_process.kill();
        }
        let _ = host.run(format!("kill -KILL {agent}")).ok();
        host.wait_for_exit(agent.parse().expect("a number"));
        let _ = host.vethpath(format!("up {file}")).ok().stderr_has("3 of 3 pairs armed");
        let _ = host.vethpath("exec ns0 -- ping -n -q -c 1 -W 5 172.17.0.1").ok();
        let _ = host.vethpath("down three-hosts").ok();
        holder_process.kill();
        let _ = host.run(["umount", "/run/held here"]);
        let _ = host.run(["rm", "/run/held here"]).ok();
    }
    host.finish();
}

#[test]
fn a_bpffs_mounted_over_the_labs_is_an_error() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run("mount -t bpf bpf /sys/fs/bpf").ok();
    for command in ["down three-hosts".to_owned(), format!("up {}", lab.file)] {
        let _ = host.vethpath(command).fails(1).stderr_has("hint: `umount /sys/fs/bpf`");
    }
    let _ = host.run("umount /sys/fs/bpf").ok();
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

/// Records of the previous format have no `home`, and its journals do not list the namespaces made. The agent shows
/// where the lab is.
#[test]
fn a_lab_of_the_format_before_is_found_by_its_agent() {
    let host = Host::new();
    let lab = with_nat(&host).up();
    downgrade_journal(&host);
    let _ = host.vethpath("list").ok().stdout_has("3 of 3 pairs armed");
    let _ = host
        .run(format!("unshare --net {} exec ns1 -- ip -4 addr", host.exe()))
        .ok()
        .stdout_has("172.17.0.102/16");
    let shown = host.run(format!("ip netns exec ns0 {} show --json", host.exe())).ok().json();
    assert_eq!(shown["bridges"], host.vethpath("show --json").ok().json()["bridges"]);
    // `up` takes the lab over with a new agent, and writes the journal in the current format.
    let pid = lab.pid();
    let _ = host
        .run(format!("unshare --net {} up {}", host.exe(), lab.file))
        .ok()
        .stderr_has("3 of 3 pairs armed");
    assert_ne!(lab.pid(), pid);
    assert!(record(&host)["home"].is_object());
    downgrade_journal(&host);
    let _ = host.run(format!("ip netns exec ns0 {} down three-hosts", host.exe())).ok();
    lab.forget();
    assert_eq!(host.changes(), None);

    // Without an agent, the links with the lab's mark show where the lab is.
    let lab: Lab<'_> = with_nat(&host).up();
    downgrade_journal(&host);
    let _ = host.run(format!("kill -KILL {}", lab.pid())).ok();
    wait_for(SLACK, "the agent lives", || host.vethpath("list").ok().stdout.contains("agent dead"));
    let _ = host.vethpath("exec ns1 -- true").ok();
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    downgrade_journal(&host);
    lab.down();
    host.finish();
}

/// The last record in the lab's journal.
fn record(host: &Host) -> Value {
    let journal = std::fs::read_to_string(host.path(JOURNAL)).expect("the lab is up");
    let record = journal.lines().rfind(|line| line.starts_with('{')).expect("there is one");
    serde_json::from_str(record).expect("a record is JSON")
}

/// Removes from a journal what the previous format did not have.
fn downgrade_journal(host: &Host) {
    let path = host.path(JOURNAL);
    let journal = std::fs::read_to_string(&path).expect("the lab is up");
    let lines = journal.lines().filter(|line| !line.starts_with("made ")).map(|line| {
        let Ok(Value::Object(mut record)) = serde_json::from_str(line) else { return line.to_owned() };
        let _ = record.remove("home").expect("it says where it lives");
        Value::Object(record).to_string()
    });
    let text: String = lines.map(|line| line + "\n").collect();
    std::fs::write(&path, text).expect("it can be written");
}

/// A namespace name that now refers to another namespace is no longer the lab's.
#[test]
fn objects_with_changed_marks_are_removed_and_replaced_ones_stay() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns2:eth0");
    for command in [
        "ip -n ns0 link set lo alias x",
        "ip -n ns0 link set eth0 alias y",
        "ip -n ns1 link set lo alias vethpath:another",
        &format!("ip link set {port} alias z"),
        "ip link set docker0 alias mine",
    ] {
        let _ = host.run(command).ok();
    }
    lab.down();
    host.assert_restored("marked otherwise");

    let lab = host.lab("three-hosts").up();
    for command in
        ["ip netns del ns0", "ip netns add ns0", "ip link del docker0", "ip link add docker0 type bridge"]
    {
        let _ = host.run(command).ok();
    }
    let down = host.vethpath("down three-hosts").ok();
    let _ = down
        .stderr_has("namespace ns0 does not belong to lab three-hosts")
        .stderr_has("interface host:docker0 does not belong");
    lab.forget();
    assert_eq!(host.namespaces(), ["ns0"]);
    for command in ["ip netns del ns0", "ip link del docker0"] {
        let _ = host.run(command).ok();
    }
    host.finish();
}

/// A command waits for another one that works on the lab, and names its process.
#[test]
fn commands_wait_for_a_locked_lab() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    for command in [
        format!("up {}", lab.file),
        "bench --seconds 1 --work udp-rr --cores same".to_owned(),
        "down".to_owned(),
    ] {
        let holder = host.spawn("flock --no-fork /run/vethpath/three-hosts sleep 1000");
        wait_for(SLACK, "it has no lock", || holder.name() == "sleep");
        let waiting = host.spawn_vethpath(&*command);
        wait_for(SLACK, "it does not wait", || {
            let output = waiting.output();
            output.contains("waiting: another vethpath is working on lab `three-hosts`: process")
                && output.contains("sleep 1000")
        });
        holder.kill();
        let _ = waiting.wait(TIMEOUT).ok();
    }
    lab.forget();
    host.finish();
}

/// The program has the mounts and the working directory of the caller.
#[test]
fn exec_keeps_the_callers_mounts_and_directory() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let exec = format!("{} exec ns0 -- sh -c 'pwd; ls; ip -br link show eth0'", host.exe());
    let script =
        format!("mkdir -p /run/mnt && mount -t tmpfs t /run/mnt && cd /run/mnt && touch mine && {exec}");
    let output = host.run(["unshare", "--mount", "sh", "-c", &script]).ok();
    let _ = output.stdout_has("/run/mnt\nmine\n").stdout_has("eth0@");
    lab.down();
    let _ = host.run("rmdir /run/mnt").ok();
    host.finish();
}

#[test]
fn exec_enters_no_namespace_that_another_has_made() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run("ip netns del ns0").ok();
    let _ = host.run("ip netns add ns0").ok();
    let _ = host
        .vethpath("exec ns0 -- true")
        .fails(1)
        .stderr_has("no longer belongs to lab `three-hosts`")
        .stderr_has("hint:");
    let _ = host.vethpath("exec ns1 -- true").ok();
    let _ = host.run("ip netns del ns0").ok();
    lab.down();
    host.finish();
}

/// Without a usable record and without an agent, the links with the lab's mark identify its network namespace.
#[test]
fn a_lab_without_a_record_and_an_agent_is_found_by_its_links() {
    let host = Host::new();
    for damage in [false, true] {
        let lab = with_nat(&host).up();
        let agent = lab.pid();
        if damage {
            std::fs::write(host.path(JOURNAL), b"x\xff\n").expect("it can be written");
        } else {
            downgrade_journal(&host);
        }
        let _ = host.run(format!("kill -KILL {agent}")).ok();
        host.wait_for_exit(agent);
        let _ = host.run(format!("ip netns exec ns0 {} down three-hosts", host.exe())).ok();
        lab.forget();
        host.assert_restored(if damage { "damaged" } else { "old" });
    }
    host.finish();
}

/// Waiting for a lock times out.
#[test]
fn waiting_for_a_lock_times_out() {
    let host = Host::new();
    let lab = with_nat(&host).up();
    let holder = host.spawn("flock --no-fork /run/vethpath sleep 1000");
    wait_for(SLACK, "it has no lock", || holder.name() == "sleep");
    let _ = host
        .vethpath("down three-hosts")
        .fails(1)
        .stderr_has("another vethpath is working on lab `three-hosts`: process");
    drop(holder);
    lab.down();
    host.finish();
}

/// Its agent ends with the PID namespace, and no process is left that its pid could be confused with.
#[test]
fn a_lab_outlives_the_process_namespace_that_it_was_brought_up_in() {
    let host = Host::new();
    let file = with_nat(&host).write();
    for command in ["down three-hosts", "down --all"] {
        let _ = host.run(format!("unshare --pid --fork {} up {file}", host.exe())).ok();
        let _ = host.vethpath("list").ok().stdout_has("agent dead");
        let _ = host.vethpath(format!("up {file}")).ok().stderr_has("3 of 3 pairs armed");
        let _ = host.vethpath(command).ok();
        host.assert_restored(command);
    }
    host.finish();
}
