//! Containers that are hosts of a lab: adopted by pid, by name and by path, and followed.

use super::{Docker, LAB, Podman, pings, sorted, wait_for_pings};
use crate::{
    firewall::{rules, run_all},
    harness::{Host, Output, Process, SLACK, TIMEOUT, wait_for, wait_until},
};

/// Adopts a container with a default route by `gateway` as a host of a lab, and checks that it is as it was after
/// `down`.
#[track_caller]
fn is_a_host_of_a_lab(host: &Host, pid: &str, gateway: &str, top: &str) {
    let inside = |command: &str| host.run(format!("nsenter --net=/proc/{pid}/ns/net {command}"));
    let network = || {
        ["ip -4 addr", "ip -6 addr", "ip -4 route", "ip -6 route"].map(|show| {
            let shown = inside(show).ok().stdout;
            shown.lines().filter(|line| !line.contains("valid_lft")).collect::<Vec<_>>().join("\n")
        })
    };
    let _ = inside(&format!("ping -n -q -c 1 -W 5 {gateway}")).ok();
    let before = wait_until(SLACK, || match network() {
        now if now.concat().contains("tentative") || now.concat().contains("linkdown") => Err(now.concat()),
        now => Ok(now),
    });
    let rules_before = rules(host);
    assert!(before[2].contains(&format!("default via {gateway}")), "{before:?}");
    let text = format!(
        "{top}{LAB}[namespace.web]\nadopt = {{ pid = {pid} }}\ngateway = \"10.66.0.1\"\n\
         [namespace.web.interface.lab0]\nlink = \"labbr\"\naddresses = [\"10.66.0.9/24\"]\n"
    );
    let up = host.vethpath(format!("up {}", host.topology("beside", &text))).ok();
    assert!(!up.stderr.contains("dropped"), "{}", up.stderr);
    wait_for_pings(host);
    for to in ["10.66.0.2", "10.66.0.1", gateway] {
        let _ = inside(&format!("ping -n -q -c 1 -W 5 {to}")).ok();
    }
    assert!(network()[2].contains("default via 10.66.0.1"), "{:?}", network());
    let _ = host.vethpath("exec web -- ping -n -q -c 1 -W 5 10.66.0.3").ok();
    let _ = host.vethpath("down").ok();
    assert_eq!(network(), before, "the container has what its engine gave it");
    assert_eq!(sorted(&rules(host)), sorted(&rules_before));
}

/// An engine whose containers are adopted by their names.
trait Engine {
    /// Its name in a file.
    const RUNTIME: &'static str;
    /// What a file begins with, so that the engine's rules drop nothing.
    const TOP: &'static str;
    /// Options of `run`.
    const OPTIONS: &'static str;

    fn host(&self) -> &Host;

    /// Runs a command of its client.
    fn client(&self, arguments: &str) -> Output;

    /// Ends what listens at its socket, and starts it again.
    fn restart(&mut self);

    #[track_caller]
    fn ok(&self, arguments: &str) -> String {
        self.client(arguments).ok().stdout.trim().to_owned()
    }

    /// Runs a container that sleeps.
    #[track_caller]
    fn run_container(&self, name: &str, options: &str) -> String {
        self.ok(&format!("run --detach --name {name} {} {options} image sleep 600", Self::OPTIONS))
    }

    #[track_caller]
    fn pid(&self, name: &str) -> String {
        self.ok(&format!("inspect {name} --format {{{{.State.Pid}}}}"))
    }

    /// A file with a container as a host of a lab.
    fn file(&self, container: &str) -> String {
        let text = format!(
            "{}{LAB}[namespace.web]\nadopt = {{ container = \"{container}\", runtime = \"{}\" }}\n\
             [namespace.web.interface.lab0]\nlink = \"labbr\"\naddresses = [\"10.66.0.9/24\"]\n",
            Self::TOP,
            Self::RUNTIME
        );
        self.host().topology("beside", &text)
    }

    /// Waits until a container has the address of the file, and answers a host of the lab.
    #[track_caller]
    fn is_in_the_lab(&self, name: &str, follower: Option<&Process>) {
        let said = || follower.map_or(String::new(), Process::output);
        wait_until(SLACK, || {
            let pid = self.pid(name);
            let addresses = self.host().run(format!("nsenter --net=/proc/{pid}/ns/net ip -4 addr"));
            match addresses.succeeded() && addresses.stdout.contains("10.66.0.9/24") {
                true => Ok(()),
                false => Err(format!("{name} is not in the lab: {addresses}\n{}", said())),
            }
        });
        let ping = || self.host().run("ip netns exec a ping -n -q -c 1 -W 1 10.66.0.9");
        wait_until(SLACK, || if ping().succeeded() { Ok(()) } else { Err(said()) });
    }
}

impl Engine for Docker<'_> {
    const RUNTIME: &'static str = "docker";
    // Docker's rules drop what the machine's bridges forward.
    const TOP: &'static str = "fabric = true\n";
    const OPTIONS: &'static str = "--ulimit nofile=1024:1024 --security-opt seccomp=unconfined";

    fn host(&self) -> &Host {
        self.host
    }

    fn client(&self, arguments: &str) -> Output {
        self.host.run(format!("{} {arguments}", Docker::client(self)))
    }

    fn restart(&mut self) {
        self.stop();
        self.run();
    }
}

impl Engine for Podman<'_> {
    const RUNTIME: &'static str = "podman";
    const TOP: &'static str = "";
    const OPTIONS: &'static str = "";

    fn host(&self) -> &Host {
        self.host
    }

    fn client(&self, arguments: &str) -> Output {
        self.host.run(self.command(arguments))
    }

    fn restart(&mut self) {
        self.stop();
        self.listen();
    }
}

/// Waits until a follower has said something.
#[track_caller]
fn says(follower: &Process, text: &str) {
    wait_until(SLACK, || match follower.output() {
        output if output.contains(text) => Ok(()),
        output => Err(format!("{text:?} is not in {output}")),
    });
}

/// The number of convergences that have changed something.
fn convergences(follower: &Process) -> usize {
    follower.output().lines().filter(|line| line.starts_with("lab beside: ")).count()
}

/// Does something that a follower converges the lab to, and waits until that is done.
#[track_caller]
fn converges(follower: &Process, change: impl FnOnce()) {
    let before = convergences(follower);
    change();
    wait_until(SLACK, || if convergences(follower) > before { Ok(()) } else { Err(follower.output()) });
}

/// What a container engine says about a name of the file, and what `up` makes of it.
fn adopts_by_name(engine: &impl Engine) {
    let (host, runtime) = (engine.host(), engine_name(engine));
    let file = engine.file("web");
    let refused = |why: &str| {
        for verb in ["plan", "validate --host", "up"] {
            let _ = host.vethpath(format!("{verb} {file}")).fails(1).stderr_has(why).stderr_has("hint: ");
        }
        assert!(!host.path("/run/vethpath").exists() && !host.path("/run/netns/a").exists());
    };
    refused(&format!("there is no container `web` of {runtime}"));
    // Names that lead to no namespace of the container's own.
    let _ = engine.run_container("web", "--network host");
    refused("has no network namespace of its own: it is in the host's (`--network host`)");
    let _ = engine.ok("rm --force web");
    let id = engine.run_container("other", "");
    let _ = engine.run_container("web", "--network container:other");
    refused(&format!("it is in that of container `{}`", &id[..12]));
    let _ = engine.ok("rm --force web");
    let _ = engine.ok("rm --force other");

    let id = engine.run_container("web", "");
    is_plugged_into_the_engines_bridge(engine, "web");
    let up = || host.vethpath(format!("up {file}"));
    let plan = || host.vethpath(format!("plan {file}")).ok();
    let _ = plan().stdout_has("+ create namespace web");
    let _ = up().ok();
    engine.is_in_the_lab("web", None);
    let _ = plan().stdout_has("nothing to change");
    let _ = up().ok().stderr_has("nothing to change");
    let shown = host.vethpath("show --json").ok().json();
    let adopted: Vec<_> = shown["namespaces"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["adopted"].as_str())
        .collect();
    assert_eq!(adopted, [format!("container `web` of {runtime}")]);
    // A restart makes another namespace.
    let namespace = || host.run("stat -L -c %i /run/netns/web").ok().stdout;
    let before = namespace();
    let _ = engine.ok("restart --time 0 web");
    let moved = || plan().stdout_has("- delete namespace web").stdout_has("+ create namespace web");
    let _ = moved();
    let wait = "VETHPATH_WAIT_AT=introduce VETHPATH_WAIT_FOR=/run/undone";
    let interrupted = host.spawn(format!("env {wait} {} up {file}", host.exe()));
    says(&interrupted, "waiting at introduce");
    assert_ne!(namespace(), before);
    interrupted.interrupt();
    // What undoes it comes there too.
    says(&interrupted, "waiting at introduce\nwaiting at introduce");
    let _ = host.run("touch /run/undone-introduce").ok();
    let _ = interrupted.wait(TIMEOUT).fails(130);
    assert_eq!(namespace(), before, "the lab has what it had");
    let _ = host.run("rm /run/undone-introduce").ok();
    let _ = moved();
    let _ = up().ok();
    engine.is_in_the_lab("web", None);
    let _ = engine.ok("stop --time 0 web");
    let _ = up().fails(1).stderr_has(&format!("container `web` of {runtime} is not running (exited)"));
    assert_eq!(
        host.namespaces().iter().filter(|name| *name == "web").count(),
        1,
        "the lab keeps what it has"
    );
    let _ = host.vethpath("down").ok();
    // By the beginning of its identifier, and with nothing but the lab's interfaces.
    let _ = engine.ok("start web");
    let _ = host.vethpath(format!("up {}", engine.file(&id[..10]))).ok();
    engine.is_in_the_lab("web", None);
    let _ = host.vethpath("down").ok();
    let _ = engine.ok("rm --force web");
    let _ = engine.run_container("web", "--network none");
    let _ = host.vethpath(format!("up {}", engine.file("web"))).ok();
    engine.is_in_the_lab("web", None);
    let _ = host.vethpath("down").ok();
    let links = host.run(format!("nsenter --net=/proc/{}/ns/net ip -br link", engine.pid("web"))).ok().stdout;
    assert_eq!(links.lines().count(), 1, "{links}");
    let _ = engine.ok("rm --force web");
}

/// Both ends of the interface that an engine has made are found, by the container's name and by the port's.
#[track_caller]
fn is_plugged_into_the_engines_bridge(engine: &impl Engine, container: &str) {
    let peer = |arguments: String| engine.host().vethpath(format!("peer {arguments} --json")).ok().json();
    let inside = peer(format!("eth0 --in {container}"));
    let port = &inside["peer"];
    assert!(port["bridge"].is_string() && port["namespace"] == "host", "{inside:#}");
    let name = port["interface"].as_str().expect("a name");
    let outside = &peer(name.to_owned())["peer"];
    assert_eq!(outside["interface"], "eth0");
    assert_eq!(outside["container"], container);
    assert_eq!(outside["ifindex"], inside["ifindex"]);
    let inside = peer(format!("eth0 --in {}", engine.pid(container)));
    assert_eq!(&inside["peer"], port);
}

fn engine_name<E: Engine>(_: &E) -> &'static str {
    E::RUNTIME
}

/// A lab that is followed while its container comes, goes and comes again.
fn follows(engine: &mut impl Engine) {
    let file = engine.file("web");
    let runtime = engine_name(engine);
    let mut follower = engine.host().spawn_vethpath(format!("up --follow {file}"));
    says(&follower, &format!("waiting: there is no container `web` of {runtime}"));
    says(&follower, "following lab beside: container `web`");
    wait_for_pings(engine.host());
    let _ = engine.run_container("web", "");
    engine.is_in_the_lab("web", Some(&follower));
    says(&follower, &format!("lab beside: container `web` of {runtime} has started: "));
    for _ in 0..3 {
        let _ = engine.ok("restart --time 0 web");
        engine.is_in_the_lab("web", Some(&follower));
    }
    // Its address does not answer while it is stopped.
    let _ = engine.ok("stop --time 0 web");
    let host = engine.host();
    wait_for(SLACK, "it goes on answering", || {
        !host.run("ip netns exec a ping -n -q -c 1 -W 1 10.66.0.9").succeeded()
    });
    let _ = engine.ok("start web");
    engine.is_in_the_lab("web", Some(&follower));

    // A file that cannot be read keeps the lab, and the next one that can is converged to.
    let text = std::fs::read_to_string(&file).expect("the file");
    let _ = host.topology("beside", "[bridge.labbr]\nmtu = \"large\"\n");
    let _ = engine.ok("restart --time 0 web");
    says(&follower, "`mtu`: expected an integer");
    says(&follower, "note: lab beside stays as it is");
    assert!(pings(host) && !follower.has_ended());
    let _ = host.topology("beside", &text.replace("10.66.0.3/24", "10.66.0.33/24"));
    let _ = engine.ok("restart --time 0 web");
    engine.is_in_the_lab("web", Some(&follower));
    let _ = host.run("ip netns exec a ping -n -q -c 1 -W 5 10.66.0.33").ok();
    let _ = host.topology("beside", &text);
    // The lock is free meanwhile.
    let _ = host.vethpath(format!("up {file}")).ok();
    wait_for_pings(host);

    engine.restart();
    converges(&follower, || {
        let _ = engine.ok("restart --time 0 web");
    });
    engine.is_in_the_lab("web", Some(&follower));

    follower.interrupt();
    let _ = follower.wait(TIMEOUT).ok().stderr_has("lab beside stays up, and is not followed any more");
    engine.is_in_the_lab("web", None);
    let host = engine.host();
    let follower = host.spawn_vethpath(format!("up --follow {file}"));
    says(&follower, "following lab beside");
    let _ = engine.ok("restart --time 0 web");
    engine.is_in_the_lab("web", Some(&follower));
    let _ = host.vethpath("down beside").ok();
    let _ = follower.wait(TIMEOUT).ok().stderr_has("lab beside is down");
    let _ = engine.ok("rm --force web");
    assert!(!host.path("/run/vethpath").exists());
}

/// Without an engine.
#[test]
fn an_engine_that_does_not_listen_is_an_error_with_a_way_out() {
    let mut host = Host::new();
    let file = |runtime: &str| {
        let adopt = format!("[namespace.web]\nadopt = {{ container = \"web\", runtime = \"{runtime}\" }}\n");
        host.topology("beside", &format!("{LAB}{adopt}"))
    };
    for (runtime, start) in [("docker", "systemctl start docker"), ("podman", "podman system service")] {
        for verb in ["plan", "up"] {
            let refused = host.vethpath(format!("{verb} {}", file(runtime))).fails(2);
            let refused = refused.stderr_has(&format!("cannot reach {runtime} at /")).stderr_has(start);
            let _ = refused.stderr_has(&format!("`{runtime} inspect -f '{{{{.State.Pid}}}}' web`"));
        }
        let _ = host.vethpath(format!("validate {}", file(runtime))).ok();
    }
    for (variable, runtime) in [("DOCKER_HOST", "docker"), ("CONTAINER_HOST", "podman")] {
        let command = format!("env {variable}=tcp://127.0.0.1:2375 {} up {}", host.exe(), file(runtime));
        let refused = host.run(format!("{command} --follow")).fails(1);
        let _ = refused.stderr_has(&format!("{variable} is `tcp://127.0.0.1:2375`")).stderr_has("unix://");
    }
    assert_eq!(host.changes(), None);
    // With --follow it is waited for.
    let follower = host.spawn_vethpath(format!("up --follow {}", file("docker")));
    says(&follower, "waiting: cannot reach docker at /");
    says(&follower, "following lab beside");
    wait_for_pings(&host);
    assert!(!host.namespaces().contains(&"web".to_owned()));
    follower.terminate();
    let _ = follower.wait(TIMEOUT).ok().stderr_has("stays up");
    wait_for_pings(&host);
    let _ = host.vethpath("down beside").ok();
    host.set_baseline_when_stable();
    host.finish();
}

/// A path that leads to another namespace needs no engine.
#[test]
fn a_path_is_followed_to_another_namespace() {
    let mut host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    let text = format!(
        "{LAB}[namespace.web]\nadopt = {{ path = \"/run/netns/theirs\" }}\n\
         [namespace.web.interface.lab0]\nlink = \"labbr\"\naddresses = [\"10.66.0.9/24\"]\n"
    );
    let follower = host.spawn_vethpath(format!("up --json --follow {}", host.topology("beside", &text)));
    says(&follower, "following lab beside: /run/netns/theirs");
    for _ in 0..2 {
        converges(&follower, || run_all(&host, &["ip netns del theirs", "ip netns add theirs"]));
        wait_for(SLACK, "it is not plugged in", || {
            host.run("ip netns exec theirs ping -n -q -c 1 -W 1 10.66.0.2").succeeded()
        });
    }
    says(&follower, "lab beside: /run/netns/theirs leads to another namespace: ");
    follower.interrupt();
    let lines = follower.wait(TIMEOUT).ok().stdout;
    let changes =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["changes"].clone();
    assert!(lines.lines().count() == 3 && lines.lines().all(|line| changes(line).is_array()), "{lines}");
    let _ = host.vethpath("down beside").ok();
    let _ = host.run("ip netns del theirs").ok();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn containers_of_docker_are_adopted_by_name() {
    let mut host = Host::new();
    let docker = Docker::start(&host);
    docker.import();
    adopts_by_name(&docker);
    docker.remove();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn a_container_of_docker_is_followed() {
    let mut host = Host::new();
    let mut docker = Docker::start(&host);
    docker.import();
    follows(&mut docker);
    docker.remove();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn containers_of_podman_are_adopted_by_name() {
    let mut host = Host::new();
    let mut podman = Podman::new(&host);
    podman.listen();
    adopts_by_name(&podman);
    podman.stop();
    podman.remove();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn a_container_of_podman_is_followed() {
    let mut host = Host::new();
    let mut podman = Podman::new(&host);
    podman.listen();
    follows(&mut podman);
    podman.stop();
    podman.remove();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn a_container_of_podman_is_a_host_of_a_lab() {
    let mut host = Host::new();
    let podman = Podman::new(&host);
    let _ = podman.run("run --detach --name web image sleep 600");
    let pid = podman.run("inspect web --format {{.State.Pid}}");
    is_a_host_of_a_lab(&host, &pid, "10.88.0.1", "");
    let _ = podman.run("rm --force --time 0 web");
    podman.remove();
    host.set_baseline_when_stable();
    host.finish();
}

#[test]
fn a_container_of_docker_is_a_host_of_a_lab() {
    let mut host = Host::new();
    let docker = Docker::start(&host);
    docker.import();
    let client = docker.client();
    let container =
        "run --detach --name web --ulimit nofile=1024:1024 --security-opt seccomp=unconfined image";
    let _ = host.run(format!("{client} {container} sleep 600")).ok();
    let pid = host.run(format!("{client} inspect web --format {{{{.State.Pid}}}}")).ok().stdout;
    // Docker's rules drop what the machine's bridges forward.
    is_a_host_of_a_lab(&host, pid.trim(), "172.17.0.1", "fabric = true\n");
    let _ = host.run(format!("{client} rm --force web")).ok();
    docker.remove();
    host.set_baseline_when_stable();
    host.finish();
}
