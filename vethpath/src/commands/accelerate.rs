//! `vethpath accelerate`: a lab with one adopted bridge.

use std::{io::Write, path::Path, time::Duration};

use log::warn;
use sd_notify::NotifyState;
use serde::Serialize;

use super::{Exit, Failure, down, failure::runtime, labs, up};
use crate::{
    apply::{self, Foreign, Options, Refusal},
    cli::AccelerateArgs,
    kernel::{
        Adoptions, Netns,
        home::Intent,
        netfilter::{BRIDGE_SYSCTLS, bridge_nf_call},
        process::interrupted,
        watch::{Event, Watch},
    },
    output::{self, one_line, printable},
    show::{self, Port},
    state::{AgentLock, Directory},
    stats::State,
    topology::{IfName, LabName, NsName, Place, Source, Topology, acceleration_name, read},
};

/// How often `--follow` checks the agent and the bridge without an event.
const INTERVAL: Duration = Duration::from_secs(1);

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    lab: &'a LabName,
    bridge: &'a IfName,
    namespace: String,
    ports: Vec<PortReport<'a>>,
}

/// A port of the bridge.
#[derive(Serialize)]
struct PortReport<'a> {
    port: &'a str,
    /// What is behind it, if that is known.
    behind: Option<&'a str>,
    /// `armed`, or why not.
    state: &'a State,
}

/// Accelerates a bridge, follows it, or lets go of it.
pub fn run(arguments: &AccelerateArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let topology = topology(&arguments.bridge, arguments.namespace.as_deref())?;
    up::privileged()?;
    if arguments.stop {
        labs::enter(&topology.lab, Intent::Change)?;
        return down::one(&topology.lab, None, Foreign::Kept);
    }
    let runtime = runtime()?;
    if arguments.follow {
        return runtime.block_on(follow(&topology));
    }
    let options = options(&topology)?;
    runtime.block_on(apply::up(&topology, Adoptions::default(), options))?;
    let lab = runtime.block_on(show::observe(&topology))?;
    let ports = lab.bridges.first().map_or(&[][..], |bridge| &bridge.ports);
    if let Some(bridge) = topology.adopted.first().filter(|_| are_all_slow(ports)) {
        advise(&bridge.place, &mut std::io::stderr().lock());
    }
    if arguments.json.json {
        return json(&topology, ports, out);
    }
    print(&topology, ports, out).map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn options(topology: &Topology) -> Result<Options, Failure> {
    let is_known = labs::enter(&topology.lab, Intent::Change)?;
    Ok(Options { waiting: Some(up::report_busy), is_known, ..Options::default() })
}

/// The lab of one adopted bridge.
pub(super) fn topology(bridge: &str, namespace: Option<&str>) -> Result<Topology, Failure> {
    let wrong = |error: crate::topology::NameError| Failure::request(error.to_string()).hint(error.hint);
    let bridge: IfName = bridge.parse().map_err(wrong)?;
    let place = match namespace {
        None => Place::Host,
        Some(name) => Place::Namespace(name.parse::<NsName>().map_err(wrong)?),
    };
    let lab = acceleration_name(&place, &bridge);
    let mut text = format!("name = \"{lab}\"\n[bridge.\"{bridge}\"]\nadopt = true\n");
    if let Place::Namespace(name) = &place {
        text += &format!(
            "namespace = \"{name}\"\n[namespace.\"{name}\"]\nadopt = {{ path = \"/run/netns/{name}\" }}\n"
        );
    }
    let source = Source { path: "accelerate", text: &text };
    read(source, None).map_err(|faults| Failure::rendered(faults.render(source, false)))
}

fn json(topology: &Topology, ports: &[Port], out: &mut dyn Write) -> Result<Exit, Failure> {
    let Some(bridge) = topology.adopted.first() else { return Ok(Exit::Done) };
    let ports = ports.iter().map(|port| PortReport {
        port: &port.name,
        behind: port.behind.as_deref(),
        state: &port.state,
    });
    let report = Report {
        lab: &topology.lab,
        bridge: &bridge.name,
        namespace: bridge.place.to_string(),
        ports: ports.collect(),
    };
    output::json(&report, out).map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn print(topology: &Topology, ports: &[Port], out: &mut dyn Write) -> std::io::Result<()> {
    let Some(bridge) = topology.adopted.first() else { return Ok(()) };
    let armed = ports.iter().filter(|port| port.state == State::Armed).count();
    let all = output::count(ports.len(), "port");
    writeln!(out, "bridge {}: {armed} of {all} armed", bridge.name)?;
    for port in ports {
        let behind =
            port.behind.as_deref().map_or(String::new(), |behind| format!(" ({})", one_line(behind)));
        let state = match &port.state {
            State::Armed => "armed".to_owned(),
            State::NotArmed(reason) => format!("not armed: {reason}"),
        };
        writeln!(out, "  {}{behind}: {state}", printable(&port.name))?;
    }
    Ok(())
}

/// Whether there are ports, and none is armed.
fn are_all_slow(ports: &[Port]) -> bool {
    !ports.is_empty() && ports.iter().all(|port| port.state != State::Armed)
}

/// Says what makes bridged frames pass rules, if it is a setting of their network namespace.
fn advise(place: &Place, err: &mut dyn Write) {
    let calls = Netns::of(place).and_then(|netns| netns.run(|| bridge_nf_call(Path::new(BRIDGE_SYSCTLS)))?);
    // The report is complete without that.
    let calls = calls.inspect_err(|error| warn!("{error}")).unwrap_or_default();
    let settings = [("iptables", calls.iptables), ("ip6tables", calls.ip6tables)];
    let on: Vec<_> = settings.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect();
    if !on.is_empty() {
        let settings = |value| on.iter().map(move |name| format!("net.bridge.bridge-nf-call-{name}={value}"));
        let (now, off): (Vec<_>, Vec<_>) = (settings(1).collect(), settings(0).collect());
        // A closed stderr changes nothing.
        let _ = writeln!(
            err,
            "hint: with {}, frames between ports of a bridge pass the rules for IP packets; `sysctl {}` ends that for \
             all bridges there, and with it what the engine does by such rules (`icc=false`, Kubernetes' services)",
            now.join(" and "),
            off.join(" ")
        );
    }
}

/// Accelerates the bridge whenever it is there and the agent is not, until an interrupt. The agent itself follows a
/// bridge that is made again.
async fn follow(topology: &Topology) -> Result<Exit, Failure> {
    let mut interrupt = std::pin::pin!(interrupted());
    let directory = Directory::of(&topology.lab);
    let (mut said, mut is_ready, mut is_done) = (String::new(), false, false);
    loop {
        // An agent that lives follows the bridge by itself.
        if !is_done || !AgentLock::holder(&directory).is_ok_and(|agent| agent.is_some()) {
            let (now, done) = accelerate(topology).await?;
            if said != now {
                // A closed stderr changes nothing.
                let _ = writeln!(std::io::stderr().lock(), "{now}");
            }
            (said, is_done) = (now, done);
        }
        if !std::mem::replace(&mut is_ready, true) {
            // Without a service manager there is nobody to notify.
            if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
                warn!("cannot notify the service manager: {error}");
            }
        }
        tokio::select! {
            () = &mut interrupt => {
                let lab = &topology.lab;
                let _ = writeln!(
                    std::io::stderr().lock(),
                    "the bridge stays accelerated; `vethpath down {lab}` lets go of it"
                );
                return Ok(Exit::Done);
            }
            () = changed(topology) => {}
        }
    }
}

/// Brings the lab up, if its bridge is there. Returns what is to be said, and whether it is up. Other failures may pass.
async fn accelerate(topology: &Topology) -> Result<(String, bool), Failure> {
    let name = topology.adopted.first().map_or("", |bridge| bridge.name.as_str());
    match apply::up(topology, Adoptions::default(), options(topology)?).await {
        Ok(_) => Ok((format!("bridge {name} is accelerated"), true)),
        Err(apply::Error::Bridge { cause: Refusal::Missing, .. } | apply::Error::Adopt { .. }) => {
            Ok((format!("waiting for bridge {name}"), false))
        }
        // Another command works on the lab.
        Err(apply::Error::State(crate::state::Error::Busy { by, .. })) => Ok((format!("waiting{by}"), false)),
        Err(error) if error.is_interruption() => Err(error.into()),
        Err(error) => Ok((format!("bridge {name} is not accelerated: {error}; trying again"), false)),
    }
}

/// Waits until the bridge may have come or gone, or for some time.
async fn changed(topology: &Topology) {
    let watch =
        topology.adopted.first().and_then(|bridge| Watch::links(&Netns::of(&bridge.place).ok()?).ok());
    let event = async {
        match watch {
            Some(mut watch) => {
                let is_ours =
                    |event: &Event| matches!(event, Event::Link(_) | Event::Gone { .. } | Event::Lost);
                while watch.next().await.is_ok_and(|events| !events.iter().any(is_ours)) {}
            }
            None => std::future::pending().await,
        }
    };
    let _ = tokio::time::timeout(INTERVAL, event).await;
}
