//! The names of running containers, by the network namespace of each.

use std::{
    collections::BTreeMap, fs, os::unix::fs::MetadataExt, panic::resume_unwind, thread, time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use log::debug;
use serde::Deserialize;
use tokio::time::timeout;

use super::{Engine, Error, Result, check_sandbox};
use crate::{
    kernel::Netns,
    topology::{Container, ContainerName, Runtime},
};

/// How long an engine may take to describe its containers.
const PATIENCE: Duration = Duration::from_secs(2);

/// Requests to an engine at the same time.
const AT_ONCE: usize = 8;

/// The names of running containers, by the inode of the network namespace of each. Engines without a socket are not
/// asked. What an engine does not say within two seconds is left out, and so is a container in the namespace of another
/// one or of the machine.
#[must_use]
pub fn names() -> BTreeMap<u64, ContainerName> {
    let engines: Vec<Engine> = reachable().collect();
    if engines.is_empty() {
        return BTreeMap::new();
    }
    // A thread of its own, since the caller may be in a runtime.
    let asked = thread::scope(|scope| scope.spawn(|| ask(&engines)).join());
    asked.unwrap_or_else(|panic| resume_unwind(panic))
}

/// The namespace of the running container with this name, of the first engine that has one. `None` if none has.
///
/// # Errors
/// See [`enum@Error`].
pub async fn find_by_name(name: &ContainerName) -> Result<Option<Netns>> {
    for engine in reachable() {
        match engine.find(&Container { name: name.clone(), runtime: engine.runtime }).await {
            Ok((netns, _)) => return Ok(Some(netns)),
            Err(Error::Missing(_) | Error::Unreachable { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The engines of this machine that have a socket.
fn reachable() -> impl Iterator<Item = Engine> {
    let engines = Runtime::ALL.into_iter().filter_map(|runtime| Engine::of(runtime).ok());
    engines.filter(|engine| engine.socket.exists())
}

fn ask(engines: &[Engine]) -> BTreeMap<u64, ContainerName> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.inspect_err(|error| debug!("cannot ask container engines: {error}"));
    let named = |runtime: tokio::runtime::Runtime| runtime.block_on(join_all(engines.iter().map(named)));
    runtime.map(named).unwrap_or_default().into_iter().flatten().collect()
}

/// The containers of one engine.
pub(super) async fn named(engine: &Engine) -> BTreeMap<u64, ContainerName> {
    let mut names = BTreeMap::new();
    let ask = async {
        let described = engine.running().await?.into_iter().map(|listed| engine.namespace(listed));
        let mut described = stream::iter(described).buffer_unordered(AT_ONCE);
        while let Some(found) = described.next().await {
            match found {
                Ok(found) => names.extend(found),
                // It has stopped since it was listed, or cannot be checked.
                Err(error) => debug!("{error}"),
            }
        }
        Ok::<_, Error>(())
    };
    match timeout(PATIENCE, ask).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("{error}"),
        Err(_) => debug!("{} does not describe its containers in time", engine.runtime),
    }
    names
}

/// A container as the list of containers has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: ContainerName,
    names: Option<Vec<String>>,
}

impl Listed {
    /// Its name; an alias by a link of another container has a second slash.
    fn name(&self) -> Option<ContainerName> {
        self.names.iter().flatten().find_map(|name| name.strip_prefix('/').unwrap_or(name).parse().ok())
    }
}

impl Engine {
    /// The running containers.
    async fn running(&self) -> Result<Vec<Listed>> {
        Ok(self.request("/containers/json", None).await?.0)
    }

    /// The inode of a container's network namespace, with its name. `None` if it has no namespace of its own, or no name.
    async fn namespace(&self, listed: Listed) -> Result<Option<(u64, ContainerName)>> {
        let Some(name) = listed.name() else { return Ok(None) };
        let container = Container { name: listed.id, runtime: self.runtime };
        let (inspected, peer) = self.inspect(&container).await?;
        let pid = inspected.pid(&container)?;
        let mode = inspected.host_config.network_mode.as_str();
        if mode == "host" || mode.starts_with("container:") {
            return Ok(None);
        }
        let netns = fs::metadata(format!("/proc/{}/ns/net", pid.as_raw_nonzero()));
        let inode = netns.map_err(|_| Error::Changed(container.clone()))?.ino();
        let key = inspected.network_settings.sandbox_key.as_str();
        // By its process alone, another process may have got the pid.
        if !key.is_empty() {
            check_sandbox(key, inode, peer).map_err(|cause| Error::Contradiction { container, cause })?;
        }
        Ok(Some((inode, name)))
    }
}
