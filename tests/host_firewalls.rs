//! Labs beside ufw and firewalld, which run here as they do on a machine. `cargo xtask setup` unpacks them below `target/`.

use std::fs;

use crate::{
    engines::packages,
    firewall::{INTERNET, MASQUERADED, NO_INTERNET, reaches, run_all},
    harness::{Host, Process, SLACK, TIMEOUT, wait_until},
};

/// Two hosts whose bridge has no `nat`.
const BRIDGED: &str = "name = \"beside\"\n[bridge.labbr]\naddresses = [\"10.66.0.1/24\"]\n\
                       [namespace.a.interface.eth0]\nlink = \"labbr\"\naddresses = [\"10.66.0.2/24\"]\n\
                       [namespace.b.interface.eth0]\nlink = \"labbr\"\naddresses = [\"10.66.0.3/24\"]\n";

/// What begins a Python program of the packages.
fn python() -> String {
    format!(
        "env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={0}/usr/lib/python3/dist-packages \
         GI_TYPELIB_PATH={0}/usr/lib/x86_64-linux-gnu/girepository-1.0 LD_LIBRARY_PATH={0}/usr/lib/x86_64-linux-gnu \
         DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus /usr/bin/python3",
        packages().display()
    )
}

/// A server of HTTP in a namespace, to which hosts can connect by TCP. Firewalls let pings through that they drop otherwise.
struct Server<'h> {
    host: &'h Host,
    process: Process,
    address: &'static str,
}

impl<'h> Server<'h> {
    fn start(host: &'h Host, namespace: &str, address: &'static str) -> Self {
        let serve = format!("/usr/bin/python3 -m http.server --bind {address} 8080");
        let process = host.spawn(format!("ip netns exec {namespace} env PYTHONDONTWRITEBYTECODE=1 {serve}"));
        wait_until(TIMEOUT, || {
            let listening = host.run(format!("ip netns exec {namespace} ss -H -l -t -n")).ok().stdout;
            if listening.contains(":8080") { Ok(()) } else { Err(process.output()) }
        });
        Self { host, process, address }
    }

    fn connects(&self, namespace: &str) -> bool {
        let connect = format!("exec 3<>/dev/tcp/{}/8080", self.address);
        let command = ["ip", "netns", "exec", namespace, "timeout", "2", "bash", "-c", &connect];
        self.host.run(command).succeeded()
    }

    #[track_caller]
    fn is_reached(&self, namespace: &str) {
        wait_until(SLACK, || {
            let ruleset = || self.host.run("nft list ruleset").ok().stdout;
            if self.connects(namespace) { Ok(()) } else { Err(ruleset()) }
        });
    }

    fn stop(self) {
        self.process.terminate();
        let _ = self.process.wait(TIMEOUT);
    }
}

/// The commands between backticks in the hints of an output.
fn commands(output: &str, of: &str) -> Vec<String> {
    let hints = output.lines().filter(|line| line.starts_with("hint: "));
    let quoted = hints.flat_map(|line| line.split('`').skip(1).step_by(2));
    let mut commands: Vec<_> = quoted.filter(|command| command.contains(of)).map(str::to_owned).collect();
    commands.dedup();
    commands
}

/// ufw as Debian configures it, and enabled.
struct Ufw<'h> {
    host: &'h Host,
    data: tempfile::TempDir,
}

impl<'h> Ufw<'h> {
    fn start(host: &'h Host) -> Self {
        let ufw = Self { host, data: tempfile::tempdir().expect("a folder") };
        let (packages, data) = (packages().display().to_string(), ufw.data.path().display().to_string());
        run_all(
            host,
            &[
                &format!("mkdir -p {data}/etc/default {data}/lib {data}/usr/share"),
                &format!("cp -r {packages}/lib/ufw {data}/lib/ufw"),
                &format!("cp -r {packages}/usr/share/ufw {data}/usr/share/ufw"),
                &format!("cp -r {packages}/etc/ufw {data}/etc/ufw"),
                &format!("cp -r {packages}/usr/share/ufw/iptables/. {data}/etc/ufw"),
                &format!("cp {packages}/usr/share/ufw/ufw.conf {data}/etc/ufw/ufw.conf"),
                &format!("cp {packages}/etc/default/ufw {data}/etc/default/ufw"),
            ],
        );
        ufw.run("--force enable");
        ufw
    }

    #[track_caller]
    fn run(&self, arguments: &str) {
        let packages = packages().display().to_string();
        let data = self.data.path().display();
        let ufw = format!("{} {packages}/usr/sbin/ufw --rootdir={data} --datadir={data}", python());
        let _ = self.host.run(format!("{ufw} {arguments}")).ok();
    }

    /// Runs the commands of hints.
    #[track_caller]
    fn follow(&self, output: &str) {
        let commands = commands(output, "ufw");
        assert!(!commands.is_empty(), "{output}");
        for command in commands {
            self.run(command.strip_prefix("ufw ").expect("a command of ufw"));
        }
    }
}

/// The policy of ufw drops what is routed, but for pings.
#[test]
fn a_lab_with_nat_works_beside_ufw_once_the_hint_was_followed() {
    let host = Host::new();
    run_all(&host, &INTERNET);
    let server = Server::start(&host, "internet", "192.0.2.2");
    let ufw = Ufw::start(&host);
    let file = host.topology("beside", MASQUERADED);
    let dropped = "IPv4 packets from its hosts to other networks may be dropped by nft table ip filter, chain FORWARD \
                   (policy drop)";
    let plan = host.vethpath(format!("plan {file}")).ok().stderr_has(dropped);
    let plan = plan.stderr_has("hint: `ufw route allow in on labbr out on up0` accepts them");
    // It is true.
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has(dropped);
    reaches(&host, "a", "192.0.2.2");
    assert!(!server.connects("a"));
    ufw.follow(&plan.stderr);
    server.is_reached("a");
    let up = host.vethpath(format!("up {file}")).ok();
    assert!(!up.stderr.contains("dropped"), "{up}");
    ufw.run("reload");
    server.is_reached("a");
    ufw.run("--force disable");
    ufw.run("--force enable");
    server.is_reached("a");
    let _ = host.vethpath("down").ok();
    server.stop();
    finish_with_internet(host);
}

/// br_netfilter sends bridged packets through the rules of ufw.
#[test]
fn hosts_of_a_bridge_reach_each_other_beside_ufw_once_the_hint_was_followed() {
    let host = Host::new();
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").ok();
    let ufw = Ufw::start(&host);
    let file = host.topology("beside", BRIDGED);
    let dropped = "bridge labbr in host: IPv4 packets between its hosts may be dropped by nft table ip filter, chain \
                   FORWARD (policy drop)";
    let up = host.vethpath(format!("up {file}")).ok().stderr_has(dropped);
    let server = Server::start(&host, "b", "10.66.0.3");
    assert!(!server.connects("a"));
    ufw.follow(&up.stderr);
    server.is_reached("a");
    let up = host.vethpath(format!("up {file}")).ok();
    assert!(!up.stderr.contains("dropped"), "{up}");
    ufw.run("reload");
    server.is_reached("a");
    server.stop();
    // Nothing of it concerns a fabric.
    let _ = host.vethpath("down").ok();
    let up = host.vethpath(format!("up --fabric {file}")).ok();
    assert!(!up.stderr.contains("dropped"), "{up}");
    let server = Server::start(&host, "b", "10.66.0.3");
    server.is_reached("a");
    server.stop();
    let _ = host.vethpath("down").ok();
    finish(host);
}

/// A running firewalld with a bus of its own.
struct Firewalld<'h> {
    host: &'h Host,
    bus: Process,
    daemon: Option<Process>,
    data: tempfile::TempDir,
}

const BUS: &str = "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
                   \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><type>system</type>\
                   <listen>unix:path=/run/bus</listen><policy context=\"default\"><allow own=\"*\"/>\
                   <allow send_destination=\"*\"/><allow eavesdrop=\"true\"/><allow user=\"*\"/></policy></busconfig>";

impl<'h> Firewalld<'h> {
    fn start(host: &'h Host) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let bus_file = data.path().join("bus.conf");
        fs::write(&bus_file, BUS).expect("it is written");
        let from = packages().join("etc/firewalld/firewalld.conf");
        let _ = fs::copy(from, data.path().join("firewalld.conf")).expect("the package has it");
        let bus =
            host.spawn(format!("dbus-daemon --nofork --nopidfile --config-file={}", bus_file.display()));
        wait_until(TIMEOUT, || if host.path("/run/bus").exists() { Ok(()) } else { Err(bus.output()) });
        let mut firewalld = Self { host, bus, daemon: None, data };
        firewalld.run();
        firewalld
    }

    fn run(&mut self) {
        let (packages, data) = (packages().display().to_string(), self.data.path().display());
        let daemon = format!(
            "{} {packages}/usr/sbin/firewalld --nofork --nopid --system-config={data} \
             --default-config={packages}/usr/lib/firewalld --log-target=console",
            python()
        );
        let mut daemon = self.host.spawn(daemon);
        wait_until(TIMEOUT, || {
            assert!(!daemon.has_ended(), "firewalld has ended: {}", daemon.output());
            let state = self.host.run(self.client("--state"));
            if state.succeeded() { Ok(()) } else { Err(daemon.output()) }
        });
        self.daemon = Some(daemon);
    }

    fn client(&self, arguments: &str) -> String {
        format!("{} {}/usr/bin/firewall-cmd {arguments}", python(), packages().display())
    }

    /// Runs the commands of hints.
    #[track_caller]
    fn follow(&self, output: &str) {
        let commands = commands(output, "firewall-cmd");
        assert!(!commands.is_empty(), "{output}");
        for command in commands.iter().flat_map(|command| command.split(" && ")) {
            let arguments = command.strip_prefix("firewall-cmd ").expect("a command of firewalld");
            let _ = self.host.run(self.client(arguments)).ok();
        }
    }

    fn stop(&mut self) {
        let daemon = self.daemon.take().expect("it runs");
        daemon.terminate();
        let _ = daemon.wait(TIMEOUT);
    }

    /// Stops it, with its bus.
    fn remove(mut self) {
        self.stop();
        self.bus.terminate();
        let _ = self.bus.wait(TIMEOUT);
        run_all(self.host, &["rm -rf /run/bus /run/firewalld"]);
    }
}

/// An interface that no zone has is in the default zone, which rejects what comes from there.
#[test]
fn a_lab_with_nat_works_beside_firewalld_once_the_hint_was_followed() {
    let host = Host::new();
    run_all(&host, &INTERNET);
    let server = Server::start(&host, "internet", "192.0.2.2");
    let mut firewalld = Firewalld::start(&host);
    for (text, device) in
        [(MASQUERADED.to_owned(), "labbr"), (MASQUERADED.replacen('\n', "\nfabric = true\n", 1), "vp")]
    {
        let file = host.topology("beside", &text);
        let before = host.changes();
        let refused = host.vethpath(format!("up {file}")).fails(1);
        let refused = refused.stderr_has(
            "IPv4 packets from its hosts to other networks are dropped by nft table inet \
                                          firewalld, chain filter_FORWARD",
        );
        let refused = refused.stderr_has("IPv6 packets from its hosts to other networks are dropped by");
        let refused = refused.stderr_has(&format!("`firewall-cmd --zone=trusted --add-interface={device}"));
        assert_eq!(host.changes(), before);
        // It is true.
        let _ = host.vethpath(format!("up --allow-drops {file}")).ok();
        assert!(!server.connects("a"));
        firewalld.follow(&refused.stderr);
        server.is_reached("a");
        let up = host.vethpath(format!("up {file}")).ok();
        assert!(!up.stderr.contains("dropped"), "{up}");
        let _ = host.vethpath("down").ok();
        let up = host.vethpath(format!("up {file}")).ok();
        assert!(!up.stderr.contains("dropped"), "{up}");
        server.is_reached("a");
        reaches(&host, "a", "2001:db8::2");
        let _ = host.run(firewalld.client("--reload")).ok();
        server.is_reached("a");
        firewalld.stop();
        firewalld.run();
        server.is_reached("a");
        let _ = host.vethpath("down").ok();
    }
    firewalld.remove();
    server.stop();
    finish_with_internet(host);
}

/// br_netfilter sends bridged packets through the rules of firewalld.
#[test]
fn hosts_of_a_bridge_reach_each_other_beside_firewalld_once_the_hint_was_followed() {
    let host = Host::new();
    let _ = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").ok();
    let mut firewalld = Firewalld::start(&host);
    let file = host.topology("beside", BRIDGED);
    let refused = host.vethpath(format!("up {file}")).fails(1);
    let refused =
        refused.stderr_has("IPv4 packets between its hosts are dropped by nft table inet firewalld");
    let _ = host.vethpath(format!("up --allow-drops {file}")).ok();
    let _ = host.run("ip netns exec a ping -n -q -c 1 -W 1 10.66.0.3").fails(1);
    firewalld.follow(&refused.stderr);
    reaches(&host, "a", "10.66.0.3");
    let up = host.vethpath(format!("up {file}")).ok();
    assert!(!up.stderr.contains("dropped"), "{up}");
    let _ = host.run(firewalld.client("--reload")).ok();
    reaches(&host, "a", "10.66.0.3");
    firewalld.stop();
    firewalld.run();
    reaches(&host, "a", "10.66.0.3");
    let _ = host.vethpath("down").ok();
    firewalld.remove();
    finish(host);
}

fn finish(host: Host) {
    let _ = host.run("nft flush ruleset").ok();
    host.finish();
}

fn finish_with_internet(host: Host) {
    run_all(&host, &NO_INTERNET);
    finish(host);
}
