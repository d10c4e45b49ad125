//! The errors of `up` and `down`.

use std::{fmt::Display, net::SocketAddr};

use thiserror::Error;

use super::ForeignDevice;
use crate::{
    kernel::{self, bpffs, home::Obstacle},
    plan::Collision,
    state,
    topology::{Adopt, IfName, LabName, Namespace, NsName, Place, USUAL_SIZE},
};

/// An error of `up` or `down`. What the run had done is undone unless the variant says otherwise.
#[derive(Debug, Error)]
pub enum Error {
    /// Names are used by objects that are not the lab's.
    #[error("{}", list(.0))]
    Collisions(Vec<Collision>),
    /// A namespace cannot be adopted.
    #[error("cannot adopt {adopt} as namespace `{namespace}`: {cause}")]
    Adopt {
        /// Its name in the lab.
        namespace: NsName,
        /// How it is found by the file.
        adopt: Adopt,
        /// The cause.
        cause: String,
    },
    /// A table that is not vethpath's has the name of the lab's.
    #[error("nft table inet {table} already exists in {place} and is not vethpath's")]
    Table {
        /// Its name.
        table: String,
        /// Its place.
        place: Place,
    },
    /// Foreign devices would be cut off.
    #[error("foreign devices depend on lab `{lab}`:\n{}", list(.devices))]
    Foreign {
        /// The lab.
        lab: LabName,
        /// The devices.
        devices: Vec<ForeignDevice>,
    },
    /// There is no such lab.
    #[error("no lab `{0}` is up")]
    NoLab(LabName),
    /// The lab lives in other namespaces than the command was called in.
    #[error("lab `{lab}` cannot be reached from here: {}", describe(*.obstacle))]
    Elsewhere {
        /// The lab.
        lab: LabName,
        /// What prevents access; `None` if nothing does, but the caller did not enter the lab's namespaces.
        obstacle: Option<Obstacle>,
    },
    /// The lab went down while the command waited for its lock, and lived elsewhere than where the command was called.
    #[error("lab `{0}` was taken down while this command waited for its lock")]
    WentDown(LabName),
    /// The mounts made here would vanish with the process while the record stays.
    #[error(
        "lab `{0}` would not outlive this command: its mounts are lost with this mount namespace, as under `ip netns exec`"
    )]
    Transient(LabName),
    /// A bridge cannot be adopted.
    #[error("cannot adopt bridge {bridge} in {place}: {}", refusal(.cause))]
    Bridge {
        /// The bridge.
        bridge: IfName,
        /// Its place.
        place: Place,
        /// The cause.
        cause: Refusal,
    },
    /// A setting of the file does not exist, or cannot have that value.
    #[error("{0}")]
    Setting(#[source] kernel::Error),
    /// The kernel has no reliable XDP.
    #[error("the file asks for XDP, and this kernel does not report which devices accept XDP frames: {0}")]
    NoXdp(#[source] kernel::NetlinkError),
    /// The kernel cannot have an offload size of the file.
    #[error("the file has `{key} = {size}`, which this kernel cannot have")]
    OffloadSize {
        /// The key.
        key: &'static str,
        /// Its value in bytes.
        size: u32,
        /// The Linux that can.
        since: &'static str,
    },
    /// The kernel has no IPv6.
    #[error("the uplink of the fabric needs IPv6, which this kernel lacks or has switched off")]
    NoIpv6,
    /// A port was enslaved again, and is off its bridge again.
    #[error(
        "another program releases port {port} from bridge {bridge} in {place}: it was enslaved again once while `up` \
         ran, and is released again"
    )]
    TakenOff {
        /// The port.
        port: IfName,
        /// The bridge that it belongs to.
        bridge: IfName,
        /// The place of both.
        place: Place,
    },
    /// A port or bridge vanished while `up` ran.
    #[error("another program has removed or renamed {device} in {place} while `up` ran")]
    Removed {
        /// The port or the bridge.
        device: IfName,
        /// Its place.
        place: Place,
    },
    /// An operation of the kernel, or on a program, link or map, failed.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// An operation on the state folder failed.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The agent did not come up.
    #[error("the agent of lab `{lab}` did not come up: {cause}")]
    Agent {
        /// The lab.
        lab: LabName,
        /// The cause.
        cause: String,
    },
    /// The address for the lab's metrics cannot be had.
    #[error("cannot serve metrics at {address}: {cause}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// The cause.
        cause: String,
    },
    /// The processes that serve the lab's metrics did not start.
    #[error("the metrics of lab `{lab}` are not served: {cause}")]
    NoMetrics {
        /// The lab.
        lab: LabName,
        /// The cause.
        cause: String,
    },
    /// SIGINT, SIGTERM or SIGHUP arrived; everything is undone.
    #[error("interrupted")]
    Interrupted,
    /// SIGINT, SIGTERM or SIGHUP arrived during `down`, with this left.
    #[error("interrupted, with {}", format_left(.0))]
    Stopped(Vec<String>),
    /// The run failed and could not be undone completely.
    #[error("{cause}\nthe rollback is incomplete: {left}")]
    NotUndone {
        /// The first error.
        cause: Box<Error>,
        /// The errors of the undo.
        left: String,
    },
}

/// Why a bridge cannot be adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no device of that name.
    Missing,
    /// The device is no bridge.
    NoBridge,
    /// A lab has made it.
    MadeBy(LabName),
    /// Another lab has adopted it.
    AdoptedBy(LabName),
}

fn refusal(cause: &Refusal) -> String {
    match cause {
        Refusal::Missing => "it does not exist".to_owned(),
        Refusal::NoBridge => "it is no bridge".to_owned(),
        Refusal::MadeBy(lab) => format!("lab `{lab}` has made it"),
        Refusal::AdoptedBy(lab) => format!("lab `{lab}` has adopted it"),
    }
}

/// The result of a removal.
#[derive(Default)]
pub(super) struct Removed {
    /// The errors of what could not be removed.
    pub(super) left: Vec<Error>,
    /// Messages for the user.
    pub(super) messages: Vec<String>,
}

impl Error {
    /// A namespace cannot be adopted.
    pub(super) fn adopt(namespace: &Namespace, adopt: &Adopt, cause: &str) -> Self {
        Self::Adopt { namespace: namespace.name.clone(), adopt: adopt.clone(), cause: cause.to_owned() }
    }

    /// Converts the error of writing a setting of the file.
    pub(super) fn of_setting(error: kernel::Error) -> Self {
        if error.is_missing() || error.is_invalid() || error.is_forbidden() {
            Self::Setting(error)
        } else {
            error.into()
        }
    }

    /// Whether the request caused the error, not the system.
    #[must_use]
    pub fn is_request(&self) -> bool {
        match self {
            Self::Collisions(_)
            | Self::Adopt { .. }
            | Self::Table { .. }
            | Self::Setting(_)
            | Self::Bridge { .. }
            | Self::NoIpv6
            | Self::OffloadSize { .. }
            | Self::Elsewhere { .. }
            | Self::Transient(_)
            | Self::Metrics { .. }
            | Self::Foreign { .. }
            | Self::WentDown(_)
            | Self::NoLab(_) => true,
            Self::State(error) => error.is_request(),
            Self::NotUndone { cause, .. } => cause.is_request(),
            _ => false,
        }
    }

    /// Whether the user interrupted the command, whatever the undo returned.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Interrupted | Self::Stopped(_) => true,
            Self::NotUndone { cause, .. } => cause.is_interruption(),
            _ => false,
        }
    }

    /// A hint for the user.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Collisions(all) if all.iter().all(|collision| collision.owner().is_some()) => {
                let owner = all.iter().find_map(Collision::owner)?;
                Some(format!(
                    "lab `{owner}` is up: if it is this one under an earlier name, `vethpath down {owner}` first, \
                     or write `name = \"{owner}\"` at the top of the file"
                ))
            }
            Self::Collisions(all) if all.iter().any(|one| matches!(one, Collision::Subnet { .. })) => Some(
                "give the bridge another subnet, or, without `nat`, write `host = false` under it, which omits the \
                 machine's route; vethpath replaces no route"
                    .to_owned(),
            ),
            Self::Collisions(all) => {
                let remedy = if all.iter().any(Collision::is_in_the_file) {
                    "rename it in the file, or remove what is there"
                } else if all.iter().any(Collision::is_of_a_pair) {
                    "choose another name with `port = \"...\"` under the interface (or another name of its group), or \
                     remove what is there"
                } else {
                    "remove what is there, or, if it is the end of a trunk, give a bridge another name"
                };
                Some(format!("{remedy}; vethpath never touches what is not its own"))
            }
            Self::Table { table, .. } => Some(format!(
                "remove it (`nft delete table inet {table}`), or give the lab another name; vethpath never touches \
                 what is not its own"
            )),
            Self::Setting(error) => Some(if error.is_missing() {
                "`sysctl -a` in such a namespace lists the settings: not every one exists in each"
                    .to_owned()
            } else {
                "use a value that this kernel accepts; some settings cannot be written in a namespace"
                    .to_owned()
            }),
            Self::Bridge { cause: Refusal::Missing, bridge, .. } => Some(format!(
                "start the program that makes it first; or `vethpath accelerate {bridge} --follow` waits for it"
            )),
            Self::Bridge { cause: Refusal::NoBridge, .. } => {
                Some("name a bridge; `ip link show type bridge` lists them".to_owned())
            }
            Self::Bridge { cause: Refusal::MadeBy(lab), bridge, .. } => {
                Some(format!("write `guests = true` under [bridge.{bridge}] in the file of lab `{lab}`"))
            }
            Self::Bridge { cause: Refusal::AdoptedBy(lab), .. } => {
                Some(format!("`vethpath down {lab}` lets go of it"))
            }
            Self::Adopt { adopt: Adopt::Container(_), .. } => {
                Some("call `up` again once the container runs; `up --follow` waits for it".to_owned())
            }
            Self::Adopt { .. } => Some(
                "adopt the pid of a process that runs in a network namespace of its own, or the path of one"
                    .to_owned(),
            ),
            Self::Foreign { lab, devices } => Some(format!(
                "`{}` detaches the first one; `vethpath down {lab} --force` takes the lab down nevertheless: ports lose \
                 their bridge, and virtual devices are deleted with what they depend on",
                devices.first()?.remedy()
            )),
            Self::OffloadSize { since, .. } => {
                Some(format!("Linux {since} and later can; leave the key out, or write at most {USUAL_SIZE} for one that is there"))
            }
            Self::NoLab(_) => Some("`vethpath list` shows the labs that are up".to_owned()),
            Self::Elsewhere { lab, obstacle } => Some(match obstacle {
                Some(Obstacle::NetnsGone | Obstacle::MountsGone) => {
                    format!("`vethpath down {lab}` removes what is left of it; then bring it up again")
                }
                Some(Obstacle::HiddenPins) => {
                    format!("`umount {}` uncovers it", bpffs::MOUNT_POINT)
                }
                Some(Obstacle::Unreachable) => format!(
                    "run vethpath where the lab was brought up, or enter it with `nsenter -a -t PID` of a process there; \
                     if nothing of the lab can exist any more, as after a restart of the container, \
                     `rm -r /run/vethpath/{lab}` removes its record"
                ),
                _ => "run vethpath where the lab was brought up, or enter it with `nsenter -a -t PID` of a process there"
                    .to_owned(),
            }),
            Self::WentDown(_) => Some("run it again: it then brings the lab up in the caller's namespaces".to_owned()),
            Self::Transient(_) => Some(
                "`nsenter -t 1 -m vethpath up /path/to/the/file` brings it up in this network namespace, with mounts \
                 that stay"
                    .to_owned(),
            ),
            Self::NoXdp(_) => Some(
                "use Linux 6.3 or later, or write datapath = \"tc\", which is the faster one for sockets"
                    .to_owned(),
            ),
            Self::NoIpv6 => Some(
                "boot without `ipv6.disable=1`; or leave `fabric` out, or write `host = false` under each bridge".to_owned(),
            ),
            Self::TakenOff { .. } => Some(
                "have network managers leave the lab's ports alone: systemd-networkd by a .network file with \
                 `[Match] Kind=veth` and `[Link] Unmanaged=yes`, NetworkManager by `nmcli device set PORT managed no`"
                    .to_owned(),
            ),
            Self::Removed { .. } => Some("find out which program did that; then run `vethpath up` again".to_owned()),
            Self::Metrics { address, .. } => Some(format!(
                "give `metrics` another port; `ss -ltnp 'sport = :{}'` shows which process listens",
                address.port()
            )),
            Self::NoMetrics { .. } => Some("leave `metrics` out of the file to bring the lab up without it".to_owned()),
            Self::Kernel(error) => error.hint().map(str::to_owned),
            Self::State(error) => error.hint(),
            Self::Interrupted => None,
            Self::Agent { .. } => Some("`vethpath doctor` shows what may be missing".to_owned()),
            Self::Stopped(_) => Some("`vethpath down` continues".to_owned()),
            Self::NotUndone { .. } => Some("`vethpath down` tries again".to_owned()),
        }
    }
}

/// Why a lab cannot be reached.
fn describe(obstacle: Option<Obstacle>) -> &'static str {
    match obstacle {
        None => "it lives in other namespaces",
        Some(Obstacle::Unreachable) => {
            "it lives in other namespaces, and no process in them is visible from here"
        }
        Some(Obstacle::Processes) => "it lives in another PID namespace",
        Some(Obstacle::HiddenPins) => {
            "another bpffs is mounted over the one in which its programs are pinned"
        }
        Some(Obstacle::NetnsGone) => "the network namespace that it lived in is gone",
        Some(Obstacle::MountsGone) => "the mount namespace that it lived in is gone",
    }
}

/// The first remaining objects, and the number of others.
fn format_left(left: &[String]) -> String {
    const SHOWN: usize = 5;
    match left.len().saturating_sub(SHOWN) {
        _ if left.is_empty() => "nothing left but the lab's state".to_owned(),
        0 => format!("this left: {}", left.join(", ")),
        more => format!("this left: {} and {more} more", left[..SHOWN].join(", ")),
    }
}

/// The first items, one a line, and the number of others.
fn list(items: &[impl Display]) -> String {
    const SHOWN: usize = 20;
    let mut lines: Vec<_> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    if let more @ 1.. = items.len().saturating_sub(SHOWN) {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_collisions_twenty_are_listed_and_the_rest_are_counted() {
        let collision = |number: usize| Collision::Namespace {
            name: format!("ns{number}").parse().unwrap(),
            owner: None,
        };
        let text = |number| Error::Collisions((0..number).map(collision).collect()).to_string();
        let all = text(20);
        assert_eq!(all.lines().count(), 20);
        assert!(all.ends_with("namespace `ns19` already exists and is not this lab's"), "{all}");
        assert_eq!(text(21), format!("{all}\nand 1 more"));
        assert_eq!(text(1_200), format!("{all}\nand 1180 more"));
    }
}
