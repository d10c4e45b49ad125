//! Container engines: the network namespace of a container, the names of those that run, and which start. Commands ask
//! them, the agent never does.
//!
//! Docker and podman have the same API on a Unix socket (<https://docs.docker.com/reference/api/engine/>). What an engine
//! says is checked: the process of a container is held by a descriptor, and must be in the namespace that the engine has
//! made for it.

mod http;
mod names;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Component, Path, PathBuf},
};

use http::{Answer, Fault, Lines, get, short};
pub use names::{find_by_name, names};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

use super::{Adoptions, Netns, occupants::has_ended};
use crate::topology::{Container, ContainerName, Runtime};

/// `{"type":["container"],"event":["start"]}` as the filters of events.
const STARTS: &str =
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%5D%7D";

/// Why a container has no namespace to adopt.
#[derive(Debug, Error)]
pub enum Error {
    /// The environment names an engine that is not reached by a Unix socket.
    #[error("{variable} is `{value}`, and an engine is asked by its Unix socket alone")]
    Host {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// The engine.
        runtime: Runtime,
    },
    /// Nobody listens at the socket.
    #[error("cannot reach {runtime} at {socket}: {source}", socket = .socket.display())]
    Unreachable {
        /// The engine.
        runtime: Runtime,
        /// A container that it was to be asked about, if it was about one.
        name: Option<ContainerName>,
        /// The socket.
        socket: PathBuf,
        /// The error of `connect(2)`.
        source: io::Error,
    },
    /// What the engine sends is not of its API, or late.
    #[error("{runtime} does not answer as an engine: {cause}")]
    Answer {
        /// The engine.
        runtime: Runtime,
        /// What is wrong.
        cause: String,
    },
    /// There is no such container.
    #[error("there is no {0}")]
    Missing(Container),
    /// It has no process.
    #[error("{container} is not running ({status})")]
    NotRunning {
        /// The container.
        container: Container,
        /// Its state, in the words of the engine.
        status: String,
    },
    /// Its process has ended since the engine named it.
    #[error("{0} has stopped or started anew meanwhile")]
    Changed(Container),
    /// It has the machine's network.
    #[error("{0} has no network namespace of its own: it is in the host's (`--network host`)")]
    HostNetwork(Container),
    /// It has the network of another container.
    #[error("{container} has no network namespace of its own: it is in that of container `{other}`")]
    Shared {
        /// The container.
        container: Container,
        /// The other one.
        other: String,
    },
    /// What the engine says and what the kernel has differ.
    #[error("{container}: {cause}")]
    Contradiction {
        /// The container.
        container: Container,
        /// What differs.
        cause: String,
    },
    /// An operation of the kernel failed.
    #[error(transparent)]
    Kernel(#[from] super::Error),
}

/// The result of a request.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the container may have a namespace later, without a change of the file or of the machine.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Answer { .. }
                | Self::Missing(_)
                | Self::NotRunning { .. }
                | Self::Changed(_)
        )
    }

    /// Whether no event tells when the request would succeed.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Answer { .. } | Self::Changed(_))
    }

    /// Whether the request caused the error, not the system.
    #[must_use]
    pub fn is_request(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Answer { .. } | Self::Kernel(_))
    }

    /// What the user can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let by_pid = |runtime: Runtime, name: &str| {
            format!(
                "`{runtime} inspect -f '{{{{.State.Pid}}}}' {name}` prints a pid for `adopt = {{ pid = ... }}`"
            )
        };
        match self {
            Self::Host { runtime, variable, .. } => Some(format!(
                "unset {variable}, or set it to unix://{}; containers of another machine cannot be adopted",
                Engine::usual_socket(*runtime)
            )),
            Self::Unreachable { runtime, name, .. } => {
                let (start, variable) = (Engine::start(*runtime), Engine::variable(*runtime));
                let by_pid = by_pid(*runtime, name.as_ref().map_or("NAME", ContainerName::as_str));
                Some(format!("{start}; {variable} names another socket; without one, {by_pid}"))
            }
            Self::Answer { runtime, .. } => Some(format!(
                "`{runtime} info` shows whether it works; {} names its socket",
                Engine::variable(*runtime)
            )),
            Self::Missing(container) => Some(format!(
                "`{} ps --all` lists its containers; `runtime` names the engine",
                container.runtime
            )),
            Self::NotRunning { container: Container { name, runtime }, .. } => {
                Some(format!("`{runtime} start {name}` starts it; `up --follow` waits for it"))
            }
            Self::Changed(_) => Some("call it again once the container runs".to_owned()),
            Self::HostNetwork(_) => Some(
                "run it with a network of its own, or with `--network none` for the lab's interfaces alone"
                    .to_owned(),
            ),
            Self::Shared { container: Container { runtime, .. }, other } => Some(format!(
                "adopt that one: `adopt = {{ container = \"{other}\", runtime = \"{runtime}\" }}`"
            )),
            Self::Contradiction { container: Container { name, runtime }, .. } => Some(format!(
                "where the engine runs in namespaces of its own, {}",
                by_pid(*runtime, name.as_str())
            )),
            Self::Kernel(error) => error.hint().map(str::to_owned),
        }
    }
}

/// The containers that were looked for.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that run.
    pub adoptions: Adoptions,
    /// Why others are not among them. An engine that does not answer is named once.
    pub missing: Vec<Error>,
}

/// Finds the namespaces of containers. Must be called in a tokio runtime.
pub async fn find<'c>(wanted: impl Iterator<Item = &'c Container>) -> Found {
    let mut found = Found::default();
    let mut broken = BTreeSet::new();
    for container in wanted.collect::<BTreeSet<_>>() {
        if broken.contains(&container.runtime) {
            continue;
        }
        let running = match Engine::of(container.runtime) {
            Ok(engine) => engine.find(container).await,
            Err(error) => Err(error),
        };
        match running {
            Ok((netns, process)) => found.adoptions.add(container, netns, process),
            Err(error) => {
                if matches!(error, Error::Host { .. } | Error::Unreachable { .. } | Error::Answer { .. }) {
                    broken.insert(container.runtime);
                }
                found.missing.push(error);
            }
        }
    }
    found
}

/// An engine.
#[derive(Clone, Debug)]
pub struct Engine {
    runtime: Runtime,
    socket: PathBuf,
}

/// A container that has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    name: String,
    id: String,
}

impl Started {
    /// Whether a name of the file may mean it.
    #[must_use]
    pub fn is(&self, name: &ContainerName) -> bool {
        self.name == name.as_str() || self.id.starts_with(name.as_str())
    }
}

/// The starts of an engine's containers.
pub struct Starts {
    runtime: Runtime,
    lines: Lines,
}

impl Starts {
    /// Waits for the next one. Cancel safe.
    ///
    /// # Errors
    /// The engine has ended, or sends something else.
    pub async fn next(&mut self) -> Result<Started> {
        let answered = |cause| Error::Answer { runtime: self.runtime, cause };
        loop {
            let line = self.lines.next().await.map_err(|fault| match fault {
                Fault::Connect(error) => answered(error.to_string()),
                Fault::Answer(cause) => answered(cause),
            })?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let event: Event =
                serde_json::from_slice(&line).map_err(|error| answered(short(&error.to_string())))?;
            if event.action == "start" && event.kind == "container" {
                return Ok(Started { name: event.actor.attributes.name, id: event.actor.id });
            }
        }
    }
}

impl Engine {
    /// The engine of this machine that the environment names, or the usual one.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn of(runtime: Runtime) -> Result<Self> {
        Self::at(runtime, env::var_os(Self::variable(runtime)))
    }

    fn at(runtime: Runtime, host: Option<OsString>) -> Result<Self> {
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Ok(Self { runtime, socket: Self::usual_socket(runtime).into() });
        };
        let path =
            host.as_bytes().strip_prefix(b"unix://").map(|path| Path::new(std::ffi::OsStr::from_bytes(path)));
        match path.filter(|path| path.is_absolute()) {
            Some(path) => Ok(Self { runtime, socket: path.to_owned() }),
            None => {
                let value = short(&host.to_string_lossy());
                Err(Error::Host { variable: Self::variable(runtime), value, runtime })
            }
        }
    }

    /// The variable that names its socket.
    fn variable(runtime: Runtime) -> &'static str {
        match runtime {
            Runtime::Docker => "DOCKER_HOST",
            Runtime::Podman => "CONTAINER_HOST",
        }
    }

    fn usual_socket(runtime: Runtime) -> &'static str {
        match runtime {
            Runtime::Docker => "/var/run/docker.sock",
            Runtime::Podman => "/run/podman/podman.sock",
        }
    }

    /// How to have it listen.
    fn start(runtime: Runtime) -> &'static str {
        match runtime {
            Runtime::Docker => "`systemctl start docker` starts it",
            Runtime::Podman => {
                "`systemctl start podman.socket` or `podman system service --time 0 &` makes the socket"
            }
        }
    }

    /// Subscribes to the starts of containers. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// The engine does not listen, or does not answer.
    pub async fn starts(&self) -> Result<Starts> {
        let lines = Lines::open(&self.socket, STARTS).await.map_err(|fault| self.fault(fault, None))?;
        Ok(Starts { runtime: self.runtime, lines })
    }

    /// The namespace of a container, and its first process.
    async fn find(&self, container: &Container) -> Result<(Netns, OwnedFd)> {
        let (inspected, peer) = self.inspect(container).await?;
        let pid = inspected.pid(container)?;
        let mode = inspected.host_config.network_mode.as_str();
        if let Some(other) = mode.strip_prefix("container:") {
            // An identifier is as long as 64 characters, and its first 12 are enough.
            let other = if other.len() == 64 && other.is_ascii() { &other[..12] } else { other };
            return Err(Error::Shared { container: container.clone(), other: short(other) });
        }
        let changed = || Error::Changed(container.clone());
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| changed())?;
        let path = PathBuf::from(format!("/proc/{}/ns/net", pid.as_raw_nonzero()));
        let netns = match Netns::open(&path, container.name.as_str()) {
            Err(error) if error.is_missing() => return Err(changed()),
            netns => netns?,
        };
        if mode == "host" || netns.inode()? == Netns::current()?.inode()? {
            return Err(Error::HostNetwork(container.clone()));
        }
        let key = inspected.network_settings.sandbox_key.as_str();
        if key.is_empty() {
            // The engine has made no namespace, but the runtime below it has, as podman's for `--network none`. The pid is
            // held, so it is the container's if the engine goes on naming it.
            let again = self.inspect(container).await?.0;
            if again.state != inspected.state {
                return Err(changed());
            }
        } else {
            check_sandbox(key, netns.inode()?, peer).map_err(|cause| Error::Contradiction {
                container: container.clone(),
                cause: format!("process {} {cause}", pid.as_raw_nonzero()),
            })?;
        }
        // What was opened by its number was the process that is held.
        if has_ended(&process) { Err(changed()) } else { Ok((netns, process)) }
    }

    /// What the engine says about a container, and the process that says it.
    async fn inspect(&self, container: &Container) -> Result<(Inspected, Option<i32>)> {
        self.request(&format!("/containers/{}/json", container.name), Some(container)).await
    }

    /// Requests a path, which may be about a container. Returns the answer, and the process that sends it.
    async fn request<T: DeserializeOwned>(
        &self,
        target: &str,
        about: Option<&Container>,
    ) -> Result<(T, Option<i32>)> {
        let answer = get(&self.socket, target).await;
        let Answer { status, body, peer } =
            answer.map_err(|fault| self.fault(fault, about.map(|container| &container.name)))?;
        let answered = |cause| Error::Answer { runtime: self.runtime, cause };
        match (status, about) {
            (200, _) => {
                let parsed =
                    serde_json::from_slice(&body).map_err(|error| answered(short(&error.to_string())))?;
                Ok((parsed, peer))
            }
            (404, Some(container)) => Err(Error::Missing(container.clone())),
            (status, _) => {
                let Refused { message } = serde_json::from_slice(&body).unwrap_or_default();
                Err(answered(format!("status {status} {}", short(&message)).trim_end().to_owned()))
            }
        }
    }

    fn fault(&self, fault: Fault, name: Option<&ContainerName>) -> Error {
        let runtime = self.runtime;
        match fault {
            Fault::Connect(source) => {
                Error::Unreachable { runtime, name: name.cloned(), socket: self.socket.clone(), source }
            }
            Fault::Answer(cause) => Error::Answer { runtime, cause },
        }
    }
}

/// Checks that the namespace with this inode is the one of the file that an engine names. The file may be visible to the
/// engine alone, which is then `peer`. On failure, returns what differs.
fn check_sandbox(key: &str, inode: u64, peer: Option<i32>) -> std::result::Result<(), String> {
    let path = Path::new(key);
    let unusable = |why: &str| {
        Err(format!("cannot be checked: the namespace that the engine names, {}, {why}", short(key)))
    };
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return unusable("is no absolute path");
    }
    let there = peer.map(|peer| Path::new(&format!("/proc/{peer}/root")).join(&key[1..]));
    let is_namespace = |path: &PathBuf| statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC);
    let Some(named) = [Some(path.to_owned()), there].into_iter().flatten().find(is_namespace) else {
        return unusable("is not visible from here");
    };
    match fs::metadata(named).map(|named| named.ino()) {
        Ok(named) if named == inode => Ok(()),
        _ => Err(format!("is not in the network namespace that the engine names, {}", short(key))),
    }
}

/// The parts of a container's description that matter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    status: String,
    running: bool,
    pid: i64,
    #[serde(default)]
    started_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    sandbox_key: String,
}

/// The body of an answer with an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(rename = "Type")]
    kind: String,
    action: String,
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes {
    name: String,
}

impl Inspected {
    /// The first process of the container.
    fn pid(&self, container: &Container) -> Result<Pid> {
        let State { status, running, pid, .. } = &self.state;
        let pid = i32::try_from(*pid).ok().filter(|pid| *running && *pid > 0).and_then(Pid::from_raw);
        pid.ok_or_else(|| Error::NotRunning { container: container.clone(), status: short(status) })
    }
}
