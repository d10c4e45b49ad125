//! A stand-in for an engine, which sends what a hostile one might.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::net::UnixListener,
    process::{Child, Command},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::commands::Failure;

/// Sends one of `answers` to each connection, in their order, and returns the requests.
struct StandIn {
    _folder: TempDir,
    engine: Engine,
    thread: JoinHandle<Vec<String>>,
}

impl StandIn {
    fn new(answers: Vec<Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = thread::spawn(move || {
            let serve = |answer: Vec<u8>| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                // The client may have had enough of it.
                let _ = stream.write_all(&answer);
                String::from_utf8(request).unwrap()
            };
            answers.into_iter().map(serve).collect()
        });
        Self { _folder: folder, engine: Engine { runtime: Runtime::Docker, socket }, thread }
    }

    /// Looks for container `web`, with these answers.
    fn find(answers: Vec<Vec<u8>>) -> Result<(Netns, OwnedFd)> {
        let this = Self::new(answers);
        let found = runtime().block_on(this.engine.find(&web()));
        let requests = this.thread.join().unwrap();
        let is_inspection = |request: &String| {
            request.starts_with("GET /containers/web/json HTTP/1.1\r\nhost: localhost\r\n")
        };
        assert!(requests.iter().all(is_inspection), "{requests:?}");
        found
    }

    /// The names of its containers, with these answers.
    fn names(answers: Vec<Vec<u8>>) -> BTreeMap<u64, String> {
        let this = Self::new(answers);
        let names = runtime().block_on(names::named(&this.engine));
        assert!(this.thread.join().unwrap()[0].starts_with("GET /containers/json HTTP/1.1\r\n"));
        names.into_iter().map(|(inode, name)| (inode, name.to_string())).collect()
    }

    /// What it sends as the starts of containers.
    fn starts(answer: Vec<u8>) -> (Vec<Started>, Error) {
        let this = Self::new(vec![answer]);
        let seen = runtime().block_on(async {
            let mut seen = Vec::new();
            let mut starts = match this.engine.starts().await {
                Ok(starts) => starts,
                Err(error) => return (seen, error),
            };
            loop {
                match starts.next().await {
                    Ok(started) => seen.push(started),
                    Err(error) => return (seen, error),
                }
            }
        });
        assert!(this.thread.join().unwrap()[0].starts_with("GET /events?filters=%7B%22type%22"));
        seen
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn web() -> Container {
    Container { name: "web".parse().unwrap(), runtime: Runtime::Docker }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The description of a running container.
fn container(pid: u32, mode: &str, key: &str) -> serde_json::Value {
    json!({
        "Id": "a".repeat(64), "Name": "/web",
        "State": { "Status": "running", "Running": true, "Pid": pid, "StartedAt": "2026-01-01T00:00:00Z" },
        "HostConfig": { "NetworkMode": mode },
        "NetworkSettings": { "SandboxKey": key },
    })
}

fn described(pid: u32, mode: &str, key: &str) -> Vec<u8> {
    answer("200 OK", &container(pid, mode, key).to_string())
}

/// The text of an error as the user sees it.
fn shown(error: Error) -> String {
    let mut text = Vec::new();
    let _ = Failure::from(&[error][..]).report(&mut text);
    String::from_utf8(text).unwrap()
}

fn fails(answers: Vec<Vec<u8>>) -> String {
    shown(StandIn::find(answers).expect_err("it cannot be adopted"))
}

/// A process in a network namespace of its own. Without the privilege for that, the test is skipped with a message;
/// under CI it fails.
struct Stranger(Child);

impl Stranger {
    fn new() -> Option<Self> {
        let inode = |process: &str| fs::metadata(format!("/proc/{process}/ns/net")).map(|netns| netns.ino());
        let this = Self(Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap());
        let (own, deadline) = (inode("self").unwrap(), Instant::now() + Duration::from_secs(30));
        while inode(&this.0.id().to_string()).is_ok_and(|there| there == own) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if inode(&this.0.id().to_string()).is_ok_and(|there| there != own) {
            return Some(this);
        }
        assert!(env::var_os("CI").is_none(), "no network namespace");
        eprintln!("SKIPPED: no network namespace");
        None
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn key(&self) -> String {
        format!("/proc/{}/ns/net", self.id())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_container_is_held_with_its_namespace() {
    let Some(process) = Stranger::new() else { return };
    let (id, key) = (process.id(), process.key());
    let (netns, held) = StandIn::find(vec![described(id, "bridge", &key)]).unwrap();
    assert_eq!(netns.inode().unwrap(), fs::metadata(&key).unwrap().ino());
    assert!(!has_ended(&held));
    drop(process);
    assert!(has_ended(&held) && netns.run(|| ()).is_ok(), "the namespace is kept");
}

#[test]
fn a_process_in_another_namespace_than_the_engine_names_is_refused() {
    let (Some(process), Some(other)) = (Stranger::new(), Stranger::new()) else { return };
    for (key, cause) in [
        (other.key().as_str(), "is not in the network namespace that the engine names"),
        ("/proc/self/ns/mnt", "is not in the network namespace that the engine names"),
        ("/etc/passwd", "is not visible from here"),
        ("/run/\u{1b}[2J", "/run/\\u{1b}[2J, is not visible from here"),
        ("run/x", "is no absolute path"),
        ("/run/../etc", "is no absolute path"),
    ] {
        let text = fails(vec![described(process.id(), "bridge", key)]);
        assert!(text.contains(cause) && text.contains("hint: ") && !text.contains('\u{1b}'), "{text}");
    }
}

/// As podman describes one with `--network none`.
#[test]
fn a_container_without_a_named_namespace_must_keep_its_pid() {
    let Some(process) = Stranger::new() else { return };
    let unnamed = || described(process.id(), "none", "");
    assert!(StandIn::find(vec![unnamed(), unnamed()]).is_ok());
    let mut other = container(process.id(), "none", "");
    other["State"]["StartedAt"] = json!("2026-01-01T00:00:01Z");
    let text = fails(vec![unnamed(), answer("200 OK", &other.to_string())]);
    assert!(text.contains("started anew meanwhile"), "{text}");
}

#[test]
fn a_container_without_a_namespace_of_its_own_is_refused() {
    let own = std::process::id();
    let host = fails(vec![described(own, "default", "/proc/self/ns/net")]);
    assert!(host.contains("it is in the host's"), "{host}");
    let shared = fails(vec![described(own, &format!("container:{}", "b".repeat(64)), "")]);
    assert!(shared.contains("in that of container `bbbbbbbbbbbb`"), "{shared}");
    assert!(shared.contains("adopt = { container = \"bbbbbbbbbbbb\", runtime = \"docker\" }"), "{shared}");
}

#[test]
fn a_container_that_does_not_run_is_named_with_its_state() {
    let mut exited = container(0, "bridge", "");
    exited["State"]["Running"] = json!(false);
    exited["State"]["Status"] = json!("exited\u{1b}]0;x\u{7}");
    let text = fails(vec![answer("200 OK", &exited.to_string())]);
    assert!(text.contains("container `web` of docker is not running (exited\\u{1b}]0;x\\u{7})"), "{text}");
    for pid in [0, u32::MAX] {
        let text = fails(vec![described(pid, "bridge", "")]);
        assert!(text.contains("is not running"), "{text}");
    }
    // PID_MAX_LIMIT less one.
    let text = fails(vec![described(4_194_303, "bridge", "")]);
    assert!(text.contains("has stopped or started anew meanwhile"), "{text}");
    let text = fails(vec![answer("404 Not Found", "{\"message\":\"No such container: web\"}")]);
    assert!(
        text.contains("there is no container `web` of docker") && text.contains("docker ps --all"),
        "{text}"
    );
}

#[test]
fn answers_that_are_none_are_bounded_and_shown_escaped() {
    let long = |length: usize| "x".repeat(length);
    for (bytes, cause) in [
        (b"220 mail ready\r\n\r\n".to_vec(), "invalid HTTP version"),
        (Vec::new(), "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_vec(), "end of file"),
        (answer("200 OK", "\u{1b}[2J"), "expected value"),
        (answer("200 OK", "{\"State\":{\"Running\":true,\"Pid\":\"1\"}}"), "invalid type"),
        (answer("200 OK", &"[".repeat(100_000)), "invalid"),
        (
            answer("500 Oops", &json!({ "message": "\u{1b}[31mred\u{202e}" }).to_string()),
            "status 500 \\u{1b}[31mred\\u{202e}",
        ),
        (answer("500 Oops", &json!({ "message": long(5_000) }).to_string()), "xxx..."),
        (answer("200 OK", &long(5 << 20)), "more than 4194304 bytes"),
        (
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", long(1 << 20)).into_bytes(),
            "message head is too large",
        ),
    ] {
        let text = fails(vec![bytes]);
        assert!(
            text.contains("docker does not answer as an engine: ") && text.contains(cause),
            "{cause}: {text}"
        );
        assert!(text.len() < 1_000 && !text.contains('\u{1b}'), "{text}");
    }
}

/// The time is that of tokio, which passes at once where nothing else happens.
#[tokio::test(start_paused = true)]
async fn an_engine_that_is_silent_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let engine = Engine { runtime: Runtime::Podman, socket };
    let text = shown(engine.find(&web()).await.expect_err("it says nothing"));
    assert!(text.contains("podman does not answer as an engine: no answer within 10 s"), "{text}");
    let text = shown(engine.starts().await.map(drop).expect_err("it says nothing"));
    assert!(text.contains("no answer within 10 s"), "{text}");
    let began = tokio::time::Instant::now();
    assert!(names::named(&engine).await.is_empty());
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[test]
fn a_socket_without_an_engine_is_named_with_the_ways_out() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.sock");
    drop(UnixListener::bind(folder.path().join("dead.sock")).unwrap());
    for (name, cause) in [("gone.sock", "No such file"), ("dead.sock", "Connection refused")] {
        let engine = Engine { runtime: Runtime::Docker, socket: gone.with_file_name(name) };
        let text = shown(runtime().block_on(engine.find(&web())).expect_err("nobody listens"));
        for part in [
            cause,
            name,
            "systemctl start docker",
            "`docker inspect -f '{{.State.Pid}}' web`",
            "adopt = { pid",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn only_unix_sockets_are_asked() {
    let of = |host: &str| Engine::at(Runtime::Docker, Some(host.into()));
    assert_eq!(of("unix:///run/x.sock").unwrap().socket, Path::new("/run/x.sock"));
    assert_eq!(of("").unwrap().socket, Path::new("/var/run/docker.sock"));
    assert_eq!(Engine::at(Runtime::Podman, None).unwrap().socket, Path::new("/run/podman/podman.sock"));
    for host in
        ["tcp://10.0.0.1:2375", "ssh://me@there", "unix://relative", "/run/docker.sock", "tcp://\u{1b}[2J"]
    {
        let text = shown(of(host).expect_err(host));
        assert!(text.contains("DOCKER_HOST is `") && text.contains("unix:///var/run/docker.sock"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn running_containers_are_known_by_their_namespaces() {
    let (Some(process), Some(other)) = (Stranger::new(), Stranger::new()) else { return };
    let inode = fs::metadata(process.key()).unwrap().ino();
    let list = |names: serde_json::Value| {
        answer("200 OK", &json!([{ "Id": "a".repeat(64), "Names": names }]).to_string())
    };
    // By a link, another container has an alias for it.
    let web = || list(json!(["/other/alias", "/web"]));
    let named = BTreeMap::from([(inode, "web".to_owned())]);
    assert_eq!(StandIn::names(vec![web(), described(process.id(), "bridge", &process.key())]), named);
    assert_eq!(StandIn::names(vec![web(), described(process.id(), "none", "")]), named);
    for (mode, key) in [
        ("host", process.key()),
        ("container:abc", String::new()),
        ("bridge", other.key()),
        ("bridge", "/etc/passwd".to_owned()),
    ] {
        assert_eq!(StandIn::names(vec![web(), described(process.id(), mode, &key)]), BTreeMap::new());
    }
    // Neither of these is asked for.
    for names in [json!(["/\u{1b}[2J"]), json!(null), json!([])] {
        assert_eq!(StandIn::names(vec![list(names)]), BTreeMap::new());
    }
    for bytes in
        [answer("200 OK", "[{\"Id\":\"../info\"}]"), answer("500 Oops", ""), b"220 mail\r\n\r\n".to_vec()]
    {
        assert_eq!(StandIn::names(vec![bytes]), BTreeMap::new());
    }
}

#[test]
fn starts_are_received_whatever_their_pieces() {
    let event = |action: &str, id: &str| json!({ "Type": "container", "Action": action, "Actor": { "ID": id, "Attributes": { "name": "web" } } });
    let lines =
        format!("{}\n\r\n{}\n{}\n", event("start", "abc"), event("die", "abd"), event("start", "abe"));
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in lines.as_bytes().chunks(7) {
        answer.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        answer.extend(piece);
        answer.extend(b"\r\n");
    }
    answer.extend(b"0\r\n\r\n");
    let (seen, end) = StandIn::starts(answer);
    assert_eq!(seen.iter().map(|started| started.id.as_str()).collect::<Vec<_>>(), ["abc", "abe"]);
    let means = |name: &str| seen[0].is(&name.parse().unwrap());
    assert!(means("web") && means("ab") && !means("we") && !means("abe"));
    assert!(end.to_string().contains("its events have ended"), "{end}");
}

#[test]
fn a_stream_that_is_none_ends() {
    let long = format!("{{\"Type\":\"{}", "x".repeat(3 << 20));
    for (bytes, cause) in [
        (b"HTTP/1.1 200 OK\r\n\r\n{}\n".to_vec(), "missing field"),
        (format!("HTTP/1.1 200 OK\r\n\r\n{long}").into_bytes(), "an event of more than 1048576 bytes"),
        (answer("404 Not Found", ""), "status 404"),
    ] {
        let (seen, error) = StandIn::starts(bytes);
        assert!(seen.is_empty() && error.to_string().contains(cause), "{error}");
    }
}
