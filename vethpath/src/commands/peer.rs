//! `vethpath peer`: which interface is the other end of a veth.

use std::{io::Write, path::Path};

use super::{Exit, Failure, exec, failure::runtime, labs, up::privileged};
use crate::{
    cli::PeerArgs,
    kernel::{Netns, engine, netns},
    output::{self, printable},
    peer::{self, NoPeer},
    state::Record,
    topology::{Adopt, Container, ContainerName, NsName, Runtime, closest},
};

/// Prints both ends of a veth.
pub fn run(arguments: &PeerArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    privileged()?;
    let netns = match arguments.namespace.as_deref() {
        None | Some(netns::HOST) => Netns::current()?,
        Some(text) => namespace(text)?,
    };
    let interface = arguments.interface.as_str();
    let ends = peer::find(&netns, interface)?.map_err(|why| failure(interface, &netns, why))?;
    let printed = match arguments.json.json {
        true => output::json(&ends, out),
        false => {
            writeln!(out, "{} <-> {}", printable(&ends.this.to_string()), printable(&ends.peer.to_string()))
        }
    };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn failure(interface: &str, netns: &Netns, why: NoPeer) -> Failure {
    match why {
        NoPeer::Missing(others) => {
            let near = closest(interface, others.iter().map(String::as_str));
            let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            Failure::request(format!("there is no interface `{interface}` in {netns}"))
                .hint(format!("{near}there are: {}", others.join(", ")))
        }
        NoPeer::OtherKind(what) => {
            Failure::request(format!("`{interface}` in {netns} is {what}: it is no end of a veth"))
                .hint("name a veth: `ip link show type veth` lists them")
        }
        NoPeer::Leaving => {
            Failure::request(format!("the other end of `{interface}` in {netns} is being removed"))
                .hint("the kernel removes this end too")
        }
    }
}

/// The namespace that the user means: a host of a lab or a name in `/run/netns`, a process, or a container.
fn namespace(text: &str) -> Result<Netns, Failure> {
    let name = text.parse::<NsName>().ok();
    if let Some(name) = name.as_ref().filter(|name| netns::exists(name) && !netns::is_left_over(name)) {
        return Ok(Netns::named(name)?);
    }
    // A record that cannot be read hides no other lab.
    let records: Vec<Record> = labs::all()?.into_iter().filter_map(|(_, record)| record.ok()).collect();
    let has = |record: &&Record| record.topology.namespaces.iter().any(|it| Some(&it.name) == name.as_ref());
    if let (Some(record), Some(name)) = (records.iter().find(has), &name) {
        return exec::netns_of(record, name);
    }
    if let Ok(pid) = text.parse::<u32>() {
        match Netns::open(Path::new(&format!("/proc/{pid}/ns/net")), &format!("pid {pid}")) {
            Err(error) if error.is_missing() => {}
            netns => return Ok(netns?),
        }
    }
    if let Some(netns) = text.parse().ok().map(container).transpose()?.flatten() {
        return Ok(netns);
    }
    let names = netns::names();
    let of_labs = records.iter().flat_map(|record| &record.topology.namespaces).map(|it| &it.name);
    let near = closest(text, names.iter().chain(of_labs).map(NsName::as_str));
    let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
    Err(Failure::request(format!("there is no namespace, process or running container `{text}`")).hint(format!(
        "{near}give a host of a lab, a name that `ip netns` shows, a pid, or a container of Docker or podman"
    )))
}

/// The namespace of a container, of whichever engine has it. `None` if no engine knows it.
fn container(name: ContainerName) -> Result<Option<Netns>, Failure> {
    let tokio = runtime()?;
    for runtime in Runtime::ALL {
        let container = Container { name: name.clone(), runtime };
        let found = tokio.block_on(engine::find(std::iter::once(&container)));
        if found.adoptions.have(&container) {
            let label = container.to_string();
            return Ok(found.adoptions.open(&Adopt::Container(container), &label)?);
        }
        let unknown = |error: &engine::Error| {
            matches!(
                error,
                engine::Error::Missing(_) | engine::Error::Unreachable { .. } | engine::Error::Host { .. }
            )
        };
        if !found.missing.iter().all(unknown) {
            return Err(found.missing[..].into());
        }
    }
    Ok(None)
}
