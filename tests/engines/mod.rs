//! Real container engines, which `cargo xtask setup` unpacks below `target/`, and what labs do beside them.

mod beside;
mod bridges;
mod hosts;

use std::{env, path::PathBuf};

use crate::{
    firewall::{rules, run_all},
    harness::{Host, Process, SLACK, TIMEOUT, wait_until},
};

/// Two hosts whose bridge has no name or subnet of Docker's.
const LAB: &str = "name = \"beside\"\n[bridge.labbr]\naddresses = [\"10.66.0.1/24\"]\n\
                   [namespace.a.interface.eth0]\nlink = \"labbr\"\naddresses = [\"10.66.0.2/24\"]\n\
                   [namespace.b.interface.eth0]\nlink = \"labbr\"\naddresses = [\"10.66.0.3/24\"]\n";

/// The folder of the unpacked packages.
pub(crate) fn packages() -> PathBuf {
    let folder = env::var_os("VETHPATH_PACKAGES").expect("VETHPATH_PACKAGES: `cargo xtask test` sets it");
    PathBuf::from(folder)
}

/// A running dockerd of Debian's docker.io.
pub(crate) struct Docker<'h> {
    host: &'h Host,
    options: &'static [&'static str],
    daemon: Option<Process>,
    data: tempfile::TempDir,
}

impl<'h> Docker<'h> {
    pub(crate) fn start(host: &'h Host) -> Self {
        Self::start_with(host, &[])
    }

    /// Starts it with more options.
    pub(crate) fn start_with(host: &'h Host, options: &'static [&'static str]) -> Self {
        // The /sys of a private machine has none.
        let _ = host.run("mount -t cgroup2 cgroup2 /sys/fs/cgroup").ok();
        let mut docker = Self { host, options, daemon: None, data: tempfile::tempdir().expect("a folder") };
        docker.run();
        docker
    }

    /// What begins a command of the client.
    pub(crate) fn client(&self) -> String {
        format!("{}/usr/bin/docker --host unix:///run/docker.sock", packages().display())
    }

    /// Imports an image that has `sleep`.
    fn import(&self) {
        image(self.host, "/run/image");
        let import = format!("tar -C /run/image -c . | {} import - image", self.client());
        let _ = self.host.run(["sh", "-c", &import]).ok();
    }

    /// Starts the daemon, and waits for its rules.
    pub(crate) fn run(&mut self) {
        let (packages, data) = (packages(), self.data.path().display().to_string());
        let search =
            format!("PATH={0}/usr/bin:{0}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin", packages.display());
        let mut command = vec![
            "env".to_owned(),
            search,
            format!("{}/usr/sbin/dockerd", packages.display()),
            "--storage-driver=vfs".to_owned(),
            "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
            "--userland-proxy=false".to_owned(),
            format!("--data-root={data}/data"),
            "--exec-root=/run/docker".to_owned(),
            "--pidfile=/run/docker.pid".to_owned(),
            "--host=unix:///run/docker.sock".to_owned(),
        ];
        command.extend(self.options.iter().map(|&option| option.to_owned()));
        let mut daemon = self.host.spawn(command);
        wait_until(TIMEOUT, || {
            assert!(!daemon.has_ended(), "dockerd has ended: {}", daemon.output());
            // It answers once its networks are made, with their rules.
            let version = format!("{} version", self.client());
            let is_there = self.host.path("/run/docker.sock").exists() && self.host.run(version).succeeded();
            if is_there { Ok(()) } else { Err("dockerd does not come up".to_owned()) }
        });
        self.daemon = Some(daemon);
    }

    /// Restarts the daemon without its chains, and with forwarding off, so that it sets the policy of FORWARD again. Waits
    /// until the rules are the same as before.
    fn start_over(&mut self, before: &str) {
        self.stop();
        run_all(self.host, &["nft delete table ip filter", "sysctl -q -w net.ipv4.ip_forward=0"]);
        self.run();
        wait_until(SLACK, || match rules(self.host) {
            now if sorted(&now) == sorted(before) => Ok(()),
            now => Err(format!("the rules do not come back:\n{now}\nbut there were:\n{before}")),
        });
    }

    pub(crate) fn stop(&mut self) {
        let daemon = self.daemon.take().expect("it runs");
        daemon.terminate();
        let _ = daemon.wait(TIMEOUT);
    }

    /// What `kill -9` does.
    fn kill(&mut self) {
        let daemon = self.daemon.take().expect("it runs");
        daemon.kill();
        let _ = daemon.wait(TIMEOUT);
    }

    /// Removes what dockerd leaves.
    pub(crate) fn remove(mut self) {
        self.stop();
        // It is there once a container had the host's network.
        let _ = self.host.run("umount /run/docker/netns/default");
        for command in [
            "umount /sys/fs/cgroup",
            "ip link del docker0",
            "nft flush ruleset",
            "sysctl -q -w net.ipv4.ip_forward=0",
            "rm -rf /run/docker /run/docker.sock /run/docker.pid /run/containerd /run/image",
        ] {
            let _ = self.host.run(command).ok();
        }
    }
}

/// Debian's podman, with its files in a folder that is mounted for it.
pub(crate) struct Podman<'h> {
    host: &'h Host,
    folder: String,
    service: Option<Process>,
}

impl<'h> Podman<'h> {
    pub(crate) fn new(host: &'h Host) -> Self {
        let (packages, folder) = (packages().display().to_string(), "/run/podman".to_owned());
        let configuration = format!(
            "[network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{folder}/networks\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\nconmon_path = [\"{packages}/usr/bin/conmon\"]\n\
             helper_binaries_dir = [\"{packages}/usr/lib/podman\"]\nruntime = \"runc\"\n\
             [engine.runtimes]\nrunc = [\"{packages}/usr/sbin/runc\"]\n\
             [containers]\npids_limit = 0\nseccomp_profile = \"{packages}/usr/share/containers/seccomp.json\"\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n"
        );
        run_all(
            host,
            &[
                "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
                &format!("mkdir -p {folder} /run/lock /run/containers"),
                &format!("mount -t tmpfs podman {folder}"),
                &format!("mkdir -p {folder}/.config/containers"),
                &format!("cp {packages}/etc/containers/policy.json {folder}/.config/containers/policy.json"),
            ],
        );
        let _ = host
            .run_with_input(["sh", "-c", &format!("cat > {folder}/containers.conf")], &configuration)
            .ok();
        image(host, &format!("{folder}/image"));
        let podman = Self { host, folder, service: None };
        let import = format!("tar -C {}/image -c . | {}", podman.folder, podman.command("import - image"));
        let _ = host.run(["sh", "-c", &import]).ok();
        podman
    }

    pub(crate) fn command(&self, arguments: &str) -> String {
        let (packages, folder) = (packages().display().to_string(), &self.folder);
        format!(
            "env HOME={folder} CONTAINERS_CONF={folder}/containers.conf LD_LIBRARY_PATH={packages}/usr/lib/x86_64-linux-gnu \
             {packages}/usr/bin/podman --root {folder}/data --runroot {folder}/run --storage-driver vfs {arguments}"
        )
    }

    fn run(&self, arguments: &str) -> String {
        self.host.run(self.command(arguments)).ok().stdout.trim().to_owned()
    }

    /// Starts what listens at its socket.
    fn listen(&mut self) {
        let socket = "/run/podman/podman.sock";
        let mut service = self.host.spawn(self.command(&format!("system service --time 0 unix://{socket}")));
        wait_until(TIMEOUT, || {
            assert!(!service.has_ended(), "podman has ended: {}", service.output());
            let is_there = self.host.path(socket).exists();
            if is_there { Ok(()) } else { Err("podman does not listen".to_owned()) }
        });
        self.service = Some(service);
    }

    fn stop(&mut self) {
        let service = self.service.take().expect("it listens");
        service.terminate();
        let _ = service.wait(TIMEOUT);
    }

    /// Removes what podman leaves.
    pub(crate) fn remove(self) {
        let _ = self.host.run("ip link del podman0");
        for command in [
            "nft flush ruleset",
            &format!("umount {}", self.folder),
            "umount /sys/fs/cgroup",
            "sysctl -q -w net.ipv4.ip_forward=0",
            &format!("rm -rf {} /run/containers /run/lock /run/libpod /run/crun /run/runc", self.folder),
        ] {
            let _ = self.host.run(command).ok();
        }
    }
}

/// The root of an image that has `sleep`, `httpd` of busybox and a page for it, in a new folder.
pub(crate) fn image(host: &Host, folder: &str) {
    run_all(
        host,
        &[
            &format!("mkdir -p {folder}/bin"),
            &format!("cp {}/bin/busybox {folder}/bin/busybox", packages().display()),
            &format!("ln -s busybox {folder}/bin/sleep"),
            &format!("mkdir {folder}/www"),
            &format!("cp /proc/sys/kernel/ostype {folder}/www/index.html"),
        ],
    );
}

fn pings(host: &Host) -> bool {
    host.run("ip netns exec a ping -q -c 1 -W 1 10.66.0.3").succeeded()
}

#[track_caller]
fn wait_for_pings(host: &Host) {
    wait_until(SLACK, || if pings(host) { Ok(()) } else { Err("b does not answer".to_owned()) });
}

/// All rules, in any order: Docker makes its chains in another order each time.
fn sorted(rules: &str) -> Vec<String> {
    let mut lines: Vec<_> = rules.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
