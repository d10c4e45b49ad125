//! Attaching the port program to ports, and finding other programs there.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    loaded_programs,
    tc::{
        NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcError, TcHandle,
        qdisc_add_clsact, qdisc_detach_program,
    },
};
use aya_obj::generated::bpf_prog_type;
use nix::net::if_::if_nametoindex;
use serde::{Deserialize, Serialize};
use vethpath_common::names;

use super::{Pins, bpf};
use crate::{
    kernel::{Context, FilterFacts, Netns, Result, traffic},
    topology::IfName,
};

/// The kernel hook of the port program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// tcx: a pinned link, which outlives this process.
    /// Minimum kernel: Linux 6.6 (tcx).
    Tcx,
    /// A filter of a `clsact` qdisc.
    Clsact,
}

impl Hook {
    /// Its name for users and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    /// The best hook of this kernel, found by a query, not by the kernel version.
    #[must_use]
    pub fn best() -> Self {
        if SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok() { Self::Tcx } else { Self::Clsact }
    }
}

/// Priority and handle that identify our filter under clsact. This handle means that the qdisc was added with the
/// filter, and is removed with it.
pub(super) const CLSACT: NlOptions =
    NlOptions { priority: 0x7670, handle: TcHandle::new(0, 1), classid: None };

/// The handle of our filter in a qdisc that existed before.
const IN_FOREIGN_QDISC: TcHandle = TcHandle::new(0, 2);

/// Attaches the pinned program of `domain` at the ingress of `ports` in `netns`, after any existing programs. Ports
/// that already have it are skipped. Returns the newly attached ports.
///
/// # Errors
/// The program is not pinned, or the kernel refuses a port. The ports before it stay attached.
pub fn attach(netns: &Netns, pins: &Pins, domain: u32, hook: Hook, ports: &[&IfName]) -> Result<Vec<IfName>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    netns.run(|| {
        let (mut program, ours) = program(pins, domain)?;
        let mut attached = Vec::new();
        for &port in ports {
            let is_new = match hook {
                Hook::Tcx => attach_tcx(&mut program, ours, pins, port)?,
                Hook::Clsact => attach_clsact(&mut program, ours, port)?,
            };
            if is_new {
                attached.push(port.clone());
            }
        }
        Ok(attached)
    })?
}

fn attach_tcx(program: &mut SchedClassifier, ours: u32, pins: &Pins, port: &IfName) -> Result<bool> {
    let ifindex = if_nametoindex(port.as_str()).doing("find", port)?;
    if programs(ifindex, TcAttachType::Ingress)?.contains(&ours) && pins.link(port).exists() {
        return Ok(false);
    }
    // An existing pin is stale: it belongs to a removed port of this name.
    let _ = fs::remove_file(pins.link(port));
    // EEXIST: this program is still attached by a link that the kernel has yet to release.
    let attach = || {
        let options = TcAttachOptions::TcxOrder(LinkOrder::last());
        program.attach_with_options(port.as_str(), TcAttachType::Ingress, options)
    };
    let link = retry_while(nix::libc::EEXIST, RELEASE, attach).doing("attach to", port)?;
    keep(program, link, port)?.pin(pins.link(port)).doing("pin link of", port)?;
    Ok(true)
}

/// Takes over a tcx link that has just been created. The program is detached when it is dropped without a pin.
pub(super) fn keep(
    program: &mut SchedClassifier,
    link: SchedClassifierLinkId,
    port: &IfName,
) -> Result<FdLink> {
    let link = program.take_link(link).doing("keep link of", port)?;
    link.try_into().doing("keep link of", port)
}

/// Replaces the program of a pinned tcx link atomically.
pub(super) fn replace_linked(program: &mut SchedClassifier, pin: &Path, port: &IfName) -> Result<()> {
    let link = FdLink::from(PinnedLink::from_pin(pin).doing("open link of", port)?);
    let link = SchedClassifierLink::try_from(link).doing("use link of", port)?;
    let link = program.attach_to_link(link).doing("replace the program of", port)?;
    program.take_link(link).doing("keep link of", port).map(drop)
}

/// Timeout for the kernel to release a link that was unpinned or whose holder was killed. It does so in a work queue
/// (`bpf_link_put` in kernel/bpf/syscall.c), which waits for the RTNL lock. That takes long only on a loaded machine.
pub(super) const RELEASE: Duration = Duration::from_secs(10);

/// Retry interval of an attach.
const INTERVAL: Duration = Duration::from_millis(2);

/// Attaches, and retries while the errno is `refusal`, up to the timeout `limit`.
pub(super) fn retry_while<T>(
    refusal: i32,
    limit: Duration,
    mut attach: impl FnMut() -> std::result::Result<T, ProgramError>,
) -> std::result::Result<T, ProgramError> {
    let deadline = Instant::now() + limit;
    loop {
        match attach() {
            Err(error) if errno(&error) == Some(refusal) && Instant::now() < deadline => {
                thread::sleep(INTERVAL);
            }
            other => return other,
        }
    }
}

pub(super) fn attach_clsact(program: &mut SchedClassifier, ours: u32, port: &IfName) -> Result<bool> {
    if let Some(filter) = our_filter(port)? {
        if filter.program == Some(ours) {
            return Ok(false);
        }
        // A filter outlives the pins: this program counts in maps that are gone.
        replace_filter(program, port, &filter)?;
        return Ok(true);
    }
    // Fails if the qdisc exists, which is fine. After any other error, the attach below fails too.
    let handle = if qdisc_add_clsact(port.as_str()).is_ok() { CLSACT.handle } else { IN_FOREIGN_QDISC };
    let options = TcAttachOptions::Netlink(NlOptions { handle, ..CLSACT });
    let link = program
        .attach_with_options(port.as_str(), TcAttachType::Ingress, options)
        .doing("attach to", port)?;
    // The link would detach on drop. The filter must stay until the port is removed or `detach` is called.
    std::mem::forget(program.take_link(link).doing("keep filter of", port)?);
    Ok(true)
}

/// The filter with our handle at the ingress of a port under clsact. Must be called on a thread in the port's
/// namespace.
pub(super) fn our_filter(port: &IfName) -> Result<Option<FilterFacts>> {
    let ifindex = if_nametoindex(port.as_str()).doing("find", port)?;
    let filters = traffic::ingress_filters(ifindex)?;
    Ok(filters.into_iter().find(has_our_handle))
}

/// Replaces the program of our filter atomically. Must be called on a thread in the port's namespace.
pub(super) fn replace_filter(
    program: &mut SchedClassifier,
    port: &IfName,
    filter: &FilterFacts,
) -> Result<()> {
    let handle = if filter.handle == u32::from(IN_FOREIGN_QDISC) { IN_FOREIGN_QDISC } else { CLSACT.handle };
    let (ingress, priority) = (TcAttachType::Ingress, CLSACT.priority);
    let link = SchedClassifierLink::attached(port.as_str(), ingress, priority, handle, None);
    let link = program.attach_to_link(link.doing("find", port)?).doing("replace the program of", port)?;
    // The filter would be removed on drop.
    std::mem::forget(program.take_link(link).doing("keep filter of", port)?);
    Ok(())
}

/// Removes our filter from a port, and the qdisc if it was added with the filter and is unused.
pub(super) fn detach_clsact(port: &IfName) -> io::Result<()> {
    let Ok(ifindex) = if_nametoindex(port.as_str()) else { return Ok(()) };
    let Some(filter) = our_filter(port).map_err(io::Error::other)? else { return Ok(()) };
    let detached = qdisc_detach_program(port.as_str(), TcAttachType::Ingress, names::PORT_INGRESS);
    detached.map_err(|error| match error {
        TcError::IoError(error) => error,
        other => io::Error::other(other),
    })?;
    if filter.handle == u32::from(CLSACT.handle) {
        traffic::remove_empty_clsact(ifindex).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Whether the errno is `EINVAL`, which `BPF_PROG_QUERY` returns for an unknown hook.
fn lacks_tcx(error: &(dyn std::error::Error + 'static)) -> bool {
    errno(error) == Some(nix::libc::EINVAL)
}

/// The first errno in the chain of causes.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(errno);
        }
        next = error.source();
    }
    None
}

/// Detaches our programs, including the XDP program, from `ports`, which become plain bridge ports. Loaded programs and
/// maps stay.
///
/// # Errors
/// A link's pin, or a filter, cannot be removed.
pub fn detach(netns: &Netns, pins: &Pins, hook: Hook, ports: &[&IfName]) -> Result<()> {
    let detach_one = |port: &IfName| match hook {
        Hook::Tcx => fs::remove_file(pins.link(port)),
        Hook::Clsact => detach_clsact(port),
    };
    netns.run(|| {
        for port in ports {
            for detached in [fs::remove_file(pins.xdp_link(port)), detach_one(port)] {
                match detached {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).doing("detach from", port);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    })?
}

/// Ports by the tcx programs that they run, each by its ifindex.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// Ports with our program at ingress.
    pub ours: BTreeSet<u32>,
    /// Ports with other programs at either hook, and those whose query failed.
    pub foreign: BTreeSet<u32>,
    /// The kernel's id of our program.
    pub program: u32,
}

/// Queries which of `ports` run our program. Without tcx in the kernel, none do.
///
/// # Errors
/// The program is not pinned.
pub fn attached(netns: &Netns, pins: &Pins, domain: u32, ports: &[&IfName]) -> Result<Vec<IfName>> {
    let indexes = || ports.iter().map(|port| if_nametoindex(port.as_str()).unwrap_or_default()).collect();
    // Index 0 is no interface, so its query fails.
    let indexes: Vec<u32> = netns.run(indexes)?;
    let Attached { ours, .. } = attached_by_index(netns, pins, domain, &indexes)?;
    let runs_ours = ports.iter().zip(&indexes).filter(|(_, ifindex)| ours.contains(ifindex));
    Ok(runs_ours.map(|(port, _)| (*port).clone()).collect())
}

/// Queries which of the ports with these ifindexes run our program, and which run others.
///
/// # Errors
/// The program is not pinned. A port whose query fails counts as one with foreign programs.
pub fn attached_by_index(netns: &Netns, pins: &Pins, domain: u32, ports: &[u32]) -> Result<Attached> {
    netns.run(|| {
        let ours = program_id(pins, domain)?;
        let mut attached = Attached { program: ours, ..Attached::default() };
        for &ifindex in ports {
            let at = |hook| programs(ifindex, hook).ok();
            let (ingress, egress) = (at(TcAttachType::Ingress), at(TcAttachType::Egress));
            if ingress.as_ref().is_some_and(|ids| ids.contains(&ours)) {
                attached.ours.insert(ifindex);
            }
            if has_foreign(ours, ingress.as_deref(), egress.as_deref()) {
                attached.foreign.insert(ifindex);
            }
        }
        Ok(attached)
    })?
}

/// Whether programs other than `ours` run. `None` is a hook whose query failed, and counts as yes.
fn has_foreign(ours: u32, ingress: Option<&[u32]>, egress: Option<&[u32]>) -> bool {
    ingress.is_none_or(|ids| ids.iter().any(|&id| id != ours)) || egress.is_none_or(|ids| !ids.is_empty())
}

/// The kernel's id of the port program of `domain`.
///
/// # Errors
/// It is not pinned, or the kernel refuses to describe it.
pub fn program_id(pins: &Pins, domain: u32) -> Result<u32> {
    program(pins, domain).map(|(_, id)| id)
}

/// The pinned port program of `domain`, with the kernel's id of it.
pub(super) fn program(pins: &Pins, domain: u32) -> Result<(SchedClassifier, u32)> {
    let path = pins.program(domain);
    let program = SchedClassifier::from_pin(&path).doing("open", path.display())?;
    let id = program.info().doing("inspect", "the port program")?.id();
    Ok((program, id))
}

/// Whether a filter at ingress under clsact is ours and runs the program with the id `ours`.
#[must_use]
pub fn is_our_filter(filter: &FilterFacts, ours: u32) -> bool {
    has_our_handle(filter) && filter.program == Some(ours)
}

/// Whether it is the classifier instance that our filter belongs to, without a filter of its own.
#[must_use]
pub fn is_our_classifier(filter: &FilterFacts) -> bool {
    filter.priority == CLSACT.priority && filter.handle == 0
}

/// Whether a filter has the priority and the handle of ours.
fn has_our_handle(filter: &FilterFacts) -> bool {
    filter.priority == CLSACT.priority
        && [CLSACT.handle, IN_FOREIGN_QDISC].map(u32::from).contains(&filter.handle)
}

/// Ids of the tcx programs at one hook of a device, in order. Empty if the kernel has no tcx.
pub(super) fn programs(ifindex: u32, hook: TcAttachType) -> Result<Vec<u32>> {
    const LOOPBACK: u32 = 1;
    match bpf::query_tcx(ifindex, hook) {
        // A kernel without tcx returns EINVAL for every device. After any other error, the programs are unknown.
        Err(error) if lacks_tcx(&error) => match bpf::query_tcx(LOOPBACK, hook) {
            Err(error) if lacks_tcx(&error) => Ok(Vec::new()),
            _ => Err(error).doing("list programs of interface", ifindex),
        },
        ids => ids.doing("list programs of interface", ifindex),
    }
}

/// Notices XDP programs that are attached by BPF links, which causes no netlink event (`bpf_xdp_link_attach` in
/// net/core/dev.c).
#[derive(Debug, Default)]
pub struct XdpLinks {
    /// The greatest id of a link that was seen.
    last: u32,
}

impl XdpLinks {
    /// Whether links with XDP programs were created on the machine since the last call, in any namespace. True if that
    /// cannot be read. Ids start again after two billion (`bpf_link_prime` in kernel/bpf/syscall.c): the links that
    /// follow are not noticed.
    #[must_use]
    pub fn have_grown(&mut self) -> bool {
        /// `BPF_LINK_TYPE_XDP` of linux/bpf.h.
        const XDP: u32 = 6;
        let mut has_new = false;
        loop {
            let id = match bpf::next_link_id(self.last) {
                Ok(Some(id)) => id,
                Ok(None) => return has_new,
                Err(_) => return true,
            };
            match bpf::link_type(id).map_err(|error| error.raw_os_error()) {
                Ok(kind) => has_new |= kind == XDP,
                Err(Some(nix::libc::ENOENT)) => {}
                // It is being attached, so it is asked for again at the next call.
                Err(_) => return true,
            }
            self.last = id;
        }
    }
}

/// Whether a program for netfilter hooks (`BPF_PROG_TYPE_NETFILTER`) is loaded on the machine. Its namespace
/// and hook are unknown: only nfnetlink_hook reports them, which few kernels have.
/// Minimum kernel: Linux 6.4 (`BPF_PROG_TYPE_NETFILTER`); `false` before.
///
/// # Errors
/// The kernel refuses to list programs.
pub fn has_netfilter_programs() -> Result<bool> {
    for program in loaded_programs() {
        match program {
            Ok(program) if program.program_type() == bpf_prog_type::BPF_PROG_TYPE_NETFILTER => {
                return Ok(true);
            }
            Ok(_) => {}
            // The program was unloaded meanwhile.
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).doing("list", "BPF programs"),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_cannot_be_asked_counts_as_foreign() {
        assert!(!has_foreign(7, Some(&[7]), Some(&[])));
        assert!(!has_foreign(7, Some(&[]), Some(&[])));
        for (ingress, egress) in [
            (None, Some(&[][..])),
            (Some(&[7][..]), None),
            (Some(&[7, 8]), Some(&[])),
            (Some(&[7]), Some(&[7])),
        ] {
            assert!(has_foreign(7, ingress, egress), "{ingress:?} {egress:?}");
        }
    }

    #[test]
    fn only_a_plain_refusal_means_no_tcx() {
        assert!(lacks_tcx(&io::Error::from_raw_os_error(nix::libc::EINVAL)));
        for errno in [nix::libc::EPERM, nix::libc::ENOMEM, nix::libc::ENODEV] {
            assert!(!lacks_tcx(&io::Error::from_raw_os_error(errno)));
        }
    }

    #[test]
    fn our_filter_is_known_by_priority_handle_and_program() {
        let filter = |priority, handle, program| FilterFacts { priority, handle, program };
        assert!(is_our_filter(&filter(0x7670, 1, Some(7)), 7));
        assert!(is_our_filter(&filter(0x7670, 2, Some(7)), 7), "in a qdisc of somebody else");
        for other in [
            filter(0x7670, 1, Some(8)),
            filter(0x7670, 1, None),
            filter(0x7670, 3, Some(7)),
            filter(1, 1, Some(7)),
            filter(0x7670, 0, None),
        ] {
            assert!(!is_our_filter(&other, 7), "{other:?}");
        }
        assert!(is_our_classifier(&filter(0x7670, 0, None)));
        assert!(!is_our_classifier(&filter(1, 0, None)) && !is_our_classifier(&filter(0x7670, 3, None)));
    }
}
