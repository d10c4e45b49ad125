//! `vethpath exec` and `vethpath shell`: run a program in a namespace.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    thread,
};

use super::{Exit, Failure, labs, up::privileged};
use crate::{
    apply,
    kernel::{
        Netns, files,
        home::Intent,
        host_view::{self, EtcFile},
        process,
    },
    output::printable,
    state::Record,
    topology::NsName,
};

/// Replaces this process with `command` in a namespace of a lab.
pub fn run(lab: Option<&str>, namespace: &str, command: &[OsString]) -> Result<Exit, Failure> {
    enter(lab, namespace)?;
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::request("no command given").hint("vethpath exec NAMESPACE -- COMMAND"));
    };
    let error = Command::new(program).args(arguments).exec();
    let name = program.to_string_lossy();
    // The exit codes of a shell: 127 if the program does not exist, 126 if it cannot be executed.
    let _ = writeln!(io::stderr(), "error: cannot run {}: {error}", printable(&name));
    Ok(Exit::Of(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }))
}

/// Replaces this process with the user's shell in a namespace of a lab. The prompt shows lab and namespace.
pub fn shell(lab: Option<&str>, namespace: &str) -> Result<Exit, Failure> {
    let record = enter(lab, namespace)?;
    let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let prompt = format!("[{}:{namespace}] ", record.topology.lab);
    let mut command = Command::new(&shell);
    let bash = shell.to_string_lossy().ends_with("bash");
    if bash {
        // bash sets its prompt from a startup file. PROMPT_COMMAND runs after that, once.
        let set = format!("PS1='{prompt}\\w \\$ '; unset PROMPT_COMMAND");
        command.env("PROMPT_COMMAND", set);
    } else {
        command.env("PS1", format!("{prompt}$ "));
    }
    command.env("VETHPATH_LAB", record.topology.lab.as_str()).env("VETHPATH_NAMESPACE", namespace);
    let error = command.exec();
    Err(Failure::system(format!("cannot run {}: {error}", shell.to_string_lossy())).hint("set SHELL"))
}

/// Moves this process into the namespace, as `ip netns exec` does.
fn enter(lab: Option<&str>, namespace: &str) -> Result<Record, Failure> {
    privileged()?;
    let record = with_namespace(lab, namespace)?;
    let name: NsName = namespace.parse().map_err(|error| Failure::request(format!("{error}")))?;
    let files = etc_files(&record, &name);
    // The program keeps the caller's mounts.
    let netns = netns_of(&record, &name)?;
    netns.enter_for_good()?;
    process::restore_ignored_signals();
    for warning in host_view::enter(&name, &files)? {
        let _ = writeln!(io::stderr(), "warning: {}", printable(&warning.to_string()));
    }
    Ok(record)
}

/// The files of `/etc` that a program in a host gets: `hosts` with the names of the lab, and its `resolv.conf`.
fn etc_files(record: &Record, name: &NsName) -> Vec<EtcFile> {
    /// More bytes than a machine has of names.
    const LONGEST: u64 = 1 << 20;
    // Without a readable one, the lab's names are all there is.
    let machine = files::read_bounded(Path::new("/etc/hosts"), LONGEST).unwrap_or_default();
    // Stopped hosts keep their names.
    let lab = record.topology.clone().with_all_started();
    let hosts = Some(("hosts", lab.hosts_file(name, &machine)));
    let resolver = record.topology.resolv_conf(name).map(|text| ("resolv.conf", text));
    hosts.into_iter().chain(resolver).collect()
}

/// A namespace of a lab. The caller keeps its own namespaces.
pub(super) fn netns_of(record: &Record, name: &NsName) -> Result<Netns, Failure> {
    // In a separate thread, which may enter the lab's mount namespace.
    let find = || {
        labs::enter(&record.topology.lab, Intent::Read)?;
        let netns = Netns::named(name)?;
        if apply::has_namespace(record, name, &netns)? {
            return Ok(netns);
        }
        let lab = &record.topology.lab;
        Err(Failure::request(format!(
            "namespace `{name}` no longer belongs to lab `{lab}`: another process created it"
        ))
        .hint(format!("`vethpath down {lab}` leaves it; `vethpath up FILE` needs the name")))
    };
    let found = thread::scope(|scope| scope.spawn(find).join());
    found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The lab that has the namespace.
pub(super) fn with_namespace(lab: Option<&str>, namespace: &str) -> Result<Record, Failure> {
    let (records, mut damaged) = match lab {
        Some(_) => (vec![labs::record_of(&labs::named(lab)?.0)?], Vec::new()),
        // A damaged record does not hide other labs.
        None => {
            let (mut records, mut damaged) = (Vec::new(), Vec::new());
            for (_, record) in labs::all()? {
                match record {
                    Ok(record) => records.push(record),
                    Err(error) => damaged.push(error),
                }
            }
            (records, damaged)
        }
    };
    let has = |record: &Record| record.topology.namespaces.iter().any(|n| n.name.as_str() == namespace);
    let known: Vec<_> =
        records.iter().flat_map(|r| &r.topology.namespaces).map(|n| n.name.to_string()).collect();
    match records.into_iter().find(has) {
        Some(record) => Ok(record),
        None if known.is_empty() && !damaged.is_empty() => Err(damaged.swap_remove(0).into()),
        None if known.is_empty() => {
            Err(Failure::request("no lab is up").hint("`vethpath up FILE` brings one up"))
        }
        None => Err(Failure::request(format!("no lab has a namespace `{namespace}`"))
            .hint(format!("there are: {}", known.join(", ")))),
    }
}
