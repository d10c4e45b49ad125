//! `vethpath stop`, `start` and `restart`: hosts that are off while the rest of their lab goes on.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::{Exit, Failure, exec, failure::runtime, labs, up};
use crate::{
    apply::{self, Options, Switch},
    cli::HostsArgs,
    kernel::{Adoptions, home::Intent},
    state::Record,
    topology::{NsName, Place, Topology},
};

/// Stops hosts.
pub fn stop(arguments: &HostsArgs) -> Result<Exit, Failure> {
    let (record, hosts) = named(arguments, check)?;
    switch(&record.topology, Switch::Off(hosts))
}

/// Starts hosts that are stopped.
pub fn start(arguments: &HostsArgs) -> Result<Exit, Failure> {
    let (record, hosts) = named(arguments, |_, _| Ok(()))?;
    switch(&record.topology, Switch::On(hosts))
}

/// Stops hosts that are not stopped, and starts them.
pub fn restart(arguments: &HostsArgs) -> Result<Exit, Failure> {
    let (record, hosts) = named(arguments, check)?;
    let _ = switch(&record.topology, Switch::Off(hosts.clone()))?;
    let names: Vec<&str> = hosts.iter().map(NsName::as_str).collect();
    let hint = format!("`vethpath start {}` starts what was stopped", names.join(" "));
    switch(&record.topology, Switch::On(hosts)).map_err(|failure| failure.hint(hint))
}

/// The lab that has these hosts, and their names. Each passes the check.
fn named(
    arguments: &HostsArgs,
    check: fn(&Topology, &NsName) -> Result<(), Failure>,
) -> Result<(Record, BTreeSet<NsName>), Failure> {
    up::privileged()?;
    let mut found = None;
    let mut hosts = BTreeSet::new();
    for text in &arguments.namespaces {
        let record = exec::with_namespace(arguments.lab.as_deref(), text)?;
        let name: NsName = text.parse().map_err(|error| Failure::request(format!("{error}")))?;
        check(&record.topology, &name)?;
        if let Some(other) =
            found.as_ref().filter(|other: &&Record| other.topology.lab != record.topology.lab)
        {
            let (lab, other) = (&record.topology.lab, &other.topology.lab);
            let message = format!("`{name}` is a host of lab `{lab}`, and others are of lab `{other}`");
            return Err(Failure::request(message).hint("name the hosts of one lab at a time"));
        }
        let _ = found.get_or_insert(record);
        hosts.insert(name);
    }
    let record = found.ok_or_else(|| Failure::request("no host given"))?;
    Ok((record, hosts))
}

/// Whether a host can be stopped: what is in it is the lab's, and nothing of the lab's other hosts is.
fn check(lab: &Topology, name: &NsName) -> Result<(), Failure> {
    if lab.adoption(name).is_some() {
        return Err(Failure::request(format!("namespace `{name}` of lab `{}` is adopted", lab.lab))
            .hint("stop it with the program that made it, such as `docker stop`"));
    }
    let here = Place::Namespace(name.clone());
    if let Some(bridge) = lab.bridges.iter().find(|bridge| bridge.place == here) {
        let message =
            format!("bridge `{}`, to which hosts are linked, is in namespace `{name}`", bridge.name);
        return Err(Failure::request(message).hint(format!(
            "stop the hosts instead, or set the bridge down: `vethpath exec {name} -- ip link set {} down`",
            bridge.name
        )));
    }
    Ok(())
}

fn switch(lab: &Topology, switch: Switch) -> Result<Exit, Failure> {
    let _ = labs::enter(&lab.lab, Intent::Change)?;
    let (verb, hosts) = match &switch {
        Switch::Off(hosts) => ("stopped", hosts.clone()),
        Switch::On(hosts) => ("started", hosts.clone()),
    };
    let options = Options {
        waiting: Some(up::report_busy),
        is_known: true,
        switch: Some(switch),
        ..Options::default()
    };
    let outcome = runtime()?.block_on(apply::up(lab, Adoptions::default(), options))?;
    for host in hosts {
        // A closed stderr does not matter.
        let _ = match outcome.switched.contains(&host) {
            true => writeln!(io::stderr(), "host {host} is {verb}"),
            false => writeln!(io::stderr(), "host {host} was {verb} already"),
        };
    }
    Ok(Exit::Done)
}
