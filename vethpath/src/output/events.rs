//! An event as a line of text.

use std::io::{self, Write};

use super::format::{one_line, pair, seconds};
use crate::state::events::{Event, Former, How, Kind};

/// Prints the time, the subject and the event, always in one line. Names of devices and rules may come from other programs.
/// `behind` is what is behind the guest port that the event is about.
///
/// # Errors
/// Those of `out`.
pub fn event(event: &Event, behind: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let (subject, what) = describe(&event.kind);
    writeln!(out, "{}  {}  {what}", event.time, pair(&subject, behind))
}

/// What the event is about, and what happened, each in one line.
#[must_use]
pub fn describe(kind: &Kind) -> (String, String) {
    let (subject, what) = words(kind);
    (one_line(&subject), one_line(&what))
}

fn words(kind: &Kind) -> (String, String) {
    let lab = || "lab".to_owned();
    let agent = || "agent".to_owned();
    match kind {
        Kind::LabUp { changes } => (lab(), format!("up: {}", super::count(*changes, "change"))),
        Kind::LabDown => (lab(), "going down".to_owned()),
        Kind::BenchStarted => {
            (lab(), "bench started: programs are detached and reattached in turns".to_owned())
        }
        Kind::BenchEnded => (lab(), "bench ended: programs are attached".to_owned()),
        Kind::BenchKilled { programs } => {
            let what = super::count(*programs, "program");
            (lab(), format!("bench was killed; {what} reattached by the agent"))
        }
        Kind::ProgramsPutBack { ports } => (
            lab(),
            format!("program detached from {} by another process; reattached by the agent", ports.join(", ")),
        ),
        Kind::RulesPutBack { chain, rules } => {
            let rules = if rules.is_empty() { "none".to_owned() } else { rules.join("; ") };
            (lab(), format!("rules written by the agent to {chain}: {rules}"))
        }
        Kind::AgentStarted { pid, former } => {
            let before = match former {
                Former::None => "",
                Former::Ended => "; takes over from an agent that ended",
                Former::Died => "; takes over from an agent that was killed",
            };
            (agent(), format!("started (pid {pid}){before}"))
        }
        Kind::AgentEnded { pid, how, error } => {
            let why = match (how, error) {
                (How::Terminated, _) => "terminated".to_owned(),
                (How::Failed, Some(error)) => format!("failed: {error}"),
                (How::Failed, None) => "failed".to_owned(),
            };
            (agent(), format!("ended (pid {pid}): {why}"))
        }
        Kind::AgentRetries { error } => {
            (agent(), format!("failed: {error}; all frames are slow, retrying each second"))
        }
        Kind::LeaseExpired { for_ms } => {
            let for_ms = seconds(*for_ms);
            (agent(), format!("lease expired for {for_ms} (agent stopped or starved of CPU)"))
        }
        Kind::PairArmed { pair, .. } => (pair.clone(), "armed".to_owned()),
        Kind::PairNotArmed { pair, reason, .. } => (pair.clone(), format!("not armed: {reason}")),
        Kind::GuestLeft { pair, .. } => (pair.clone(), "has left".to_owned()),
        Kind::TrunkArmed { trunk, .. } => (trunk.clone(), "armed".to_owned()),
        Kind::TrunkNotArmed { trunk, reason, .. } => (trunk.clone(), format!("not armed: {reason}")),
        Kind::BridgeGone { bridge, namespace } => {
            (format!("{namespace}:{bridge}"), "bridge is gone".to_owned())
        }
        Kind::BridgeBack { bridge, namespace } => {
            (format!("{namespace}:{bridge}"), "bridge is back".to_owned())
        }
        Kind::NamespaceGone { namespace } => (namespace.clone(), "namespace is gone".to_owned()),
        Kind::ProcessesGone { namespace } => {
            (namespace.clone(), "no process is left; its ports are down".to_owned())
        }
        Kind::HostStopped { namespace } => (namespace.clone(), "stopped".to_owned()),
        Kind::HostStarted { namespace } => (namespace.clone(), "started".to_owned()),
        Kind::NetlinkLost { namespace, generation, times } => {
            let times = if *times == 1 { String::new() } else { format!(" x{times}") };
            let resync = format!("full resync (generation {generation})");
            (namespace.clone(), format!("netlink overrun (ENOBUFS){times}; {resync}"))
        }
        Kind::PacketsDropped { what } => (lab(), what.clone()),
        Kind::PacketsNotDropped { packets } => {
            (lab(), format!("{packets} are no longer all dropped by netfilter rules"))
        }
        Kind::MapFull => (lab(), "map full: some stations stay on the slow path".to_owned()),
        Kind::MapHasRoom => (lab(), "maps have room again: all stations fit".to_owned()),
        Kind::StationMoved { mac, from, to } => {
            (to.clone(), format!("station {mac} moved here from {from} while it was refreshed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: Kind) -> String {
        let time = "2026-11-21T02:47:52.123456Z".parse().unwrap();
        let mut out = Vec::new();
        event(&Event { time, lab: "lab".parse().unwrap(), kind }, None, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_a_line() {
        let (pair, port) = ("ns0:eth0".to_owned(), "vp0".to_owned());
        let reason = "qdisc tbf on the port".to_owned();
        assert_eq!(
            line(Kind::PairNotArmed { pair: pair.clone(), port: port.clone(), reason, before: None }),
            "2026-11-21T02:47:52.123456Z  ns0:eth0  not armed: qdisc tbf on the port\n"
        );
        assert_eq!(
            line(Kind::PairArmed { pair, port, before: None }),
            "2026-11-21T02:47:52.123456Z  ns0:eth0  armed\n"
        );
        let namespace = || "fabric".to_owned();
        let tails = [
            (Kind::LabUp { changes: 1 }, "lab  up: 1 change"),
            (
                Kind::ProgramsPutBack { ports: vec!["vp0".into(), "vp1".into()] },
                "lab  program detached from vp0, vp1 by another process; reattached by the agent",
            ),
            (
                Kind::RulesPutBack {
                    chain: "ip filter X in host".into(),
                    rules: vec!["-i a".into(), "-o a".into()],
                },
                "lab  rules written by the agent to ip filter X in host: -i a; -o a",
            ),
            (
                Kind::AgentStarted { pid: 7, former: Former::Died },
                "agent  started (pid 7); takes over from an agent that was killed",
            ),
            (
                Kind::AgentEnded { pid: 7, how: How::Terminated, error: None },
                "agent  ended (pid 7): terminated",
            ),
            (
                Kind::AgentEnded { pid: 7, how: How::Failed, error: Some("no".into()) },
                "agent  ended (pid 7): failed: no",
            ),
            (
                Kind::AgentRetries { error: "no".into() },
                "agent  failed: no; all frames are slow, retrying each second",
            ),
            (
                Kind::LeaseExpired { for_ms: 1234 },
                "agent  lease expired for 1.2 s (agent stopped or starved of CPU)",
            ),
            (Kind::BridgeGone { bridge: "br0".into(), namespace: namespace() }, "fabric:br0  bridge is gone"),
            (
                Kind::NetlinkLost { namespace: namespace(), generation: 9, times: 4 },
                "fabric  netlink overrun (ENOBUFS) x4; full resync (generation 9)",
            ),
        ];
        for (kind, tail) in tails {
            assert_eq!(line(kind), format!("2026-11-21T02:47:52.123456Z  {tail}\n"));
        }
    }

    #[test]
    fn no_name_breaks_the_line() {
        let reason = "rule \u{1b}[31m\nx".to_owned();
        let line = line(Kind::PairNotArmed { pair: "p".into(), port: "vp0".into(), reason, before: None });
        assert!(line.ends_with("  p  not armed: rule \\u{1b}[31m\\nx\n"), "{line}");
    }
}
