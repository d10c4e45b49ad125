//! The port program on guest ports: ports of a lab's bridges that other programs made.
//!
//! Other programs rename ports, and their names are unique in a namespace only. So the pins of their links are named by
//! namespace and ifindex.

use std::{fs, io, ops::RangeInclusive};

use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::TcAttachOptions,
};
use nix::{
    libc::EEXIST,
    net::if_::{if_indextoname, if_nametoindex},
};

use super::{
    Hook, Maps, Pins,
    attach::{attach_clsact, detach_clsact, errno, keep, our_filter, program, programs, replace_linked},
};
use crate::{
    kernel::{Context, Error, Netns, Result},
    topology::IfName,
};

/// A guest port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestPort {
    /// The number of its namespace in the maps.
    pub domain: u16,
    /// Its ifindex there.
    pub ifindex: u32,
    /// Its name, as it was last known.
    pub name: IfName,
}

/// Attaches the pinned program at the ingress of a guest port in `netns`, after any existing programs. If it runs that
/// of former maps, it is replaced atomically. Returns false while the kernel has yet to release the link of an earlier
/// attach: then nothing is done.
///
/// # Errors
/// The program is not pinned, the port is gone or has another name, or the kernel refuses.
pub fn attach_guest(netns: &Netns, pins: &Pins, hook: Hook, port: &GuestPort) -> Result<bool> {
    netns.run(|| {
        let (mut program, ours) = program(pins, port.domain.into())?;
        match hook {
            Hook::Tcx => attach_tcx(&mut program, ours, pins, port),
            Hook::Clsact => {
                check_name(port)?;
                let _ = attach_clsact(&mut program, ours, &port.name)?;
                // It may have been renamed in between, and another device may have its name.
                check_name(port).inspect_err(|_| drop(detach_clsact(&port.name))).map(|()| true)
            }
        }
    })?
}

fn attach_tcx(program: &mut SchedClassifier, ours: u32, pins: &Pins, port: &GuestPort) -> Result<bool> {
    let pin = pins.guest_link(port.domain, port.ifindex);
    let runs_ours = || Ok::<_, Error>(programs(port.ifindex, TcAttachType::Ingress)?.contains(&ours));
    if pin.exists() {
        // Fails if the device of the link is gone (`tcx_link_update` in kernel/bpf/tcx.c).
        if runs_ours()? || replace_linked(program, &pin, &port.name).is_ok() && runs_ours()? {
            return Ok(true);
        }
        // It is the link of a device that is gone.
        fs::remove_file(&pin).doing("unpin", pin.display())?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::last());
    let link = match program.attach_with_options(port.name.as_str(), TcAttachType::Ingress, options) {
        Err(error) if errno(&error) == Some(EEXIST) => return Ok(false),
        attached => attached.doing("attach to", &port.name)?,
    };
    let link = keep(program, link, &port.name)?;
    // Dropping the link detaches the program from whatever has the name now.
    if !runs_ours()? {
        return Err(renamed(port));
    }
    link.pin(&pin).doing("pin link of", &port.name).map(|_| true)
}

/// Whether a guest port, or another device that has got its ifindex and its name, has the link or the filter of an
/// earlier attach. It may run the program of former maps.
///
/// # Errors
/// The kernel refuses.
pub fn is_guest_attached(netns: &Netns, pins: &Pins, hook: Hook, port: &GuestPort) -> Result<bool> {
    netns.run(|| match hook {
        Hook::Tcx => {
            let pin = pins.guest_link(port.domain, port.ifindex);
            if !pin.exists() {
                return Ok(false);
            }
            // The pin stays when the device goes. Its program does not run on another device with the ifindex.
            let link = FdLink::from(PinnedLink::from_pin(&pin).doing("open", pin.display())?);
            let ours = link.info().doing("inspect", pin.display())?.program_id();
            Ok(programs(port.ifindex, TcAttachType::Ingress)?.contains(&ours))
        }
        Hook::Clsact => Ok(check_name(port).is_ok() && our_filter(&port.name)?.is_some()),
    })?
}

/// Detaches the program from the guest port with this ifindex in `netns`, which is `domain` in the maps. The port may be
/// gone.
///
/// # Errors
/// The pin or the filter cannot be removed.
pub fn detach_guest(netns: &Netns, pins: &Pins, hook: Hook, domain: u16, ifindex: u32) -> Result<()> {
    netns.run(|| match hook {
        Hook::Tcx => detach_link(pins, domain, ifindex),
        Hook::Clsact => detach_filter(ifindex),
    })?
}

/// Removes our link of a device of the calling thread's namespace, which may be gone.
fn detach_link(pins: &Pins, domain: u16, ifindex: u32) -> Result<()> {
    match fs::remove_file(pins.guest_link(domain, ifindex)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let name =
                name_of(ifindex).map_or_else(|| format!("interface {ifindex}"), |name| name.to_string());
            Err(error).doing("detach from", name)
        }
        _ => Ok(()),
    }
}

/// Removes our filter from a device of the calling thread's namespace, by its name now. It is on no foreign device.
fn detach_filter(ifindex: u32) -> Result<()> {
    let Some(name) = name_of(ifindex) else { return Ok(()) };
    match detach_clsact(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("detach from", name),
        _ => Ok(()),
    }
}

/// The name that a device of the calling thread's namespace has now; `None` if it is gone.
fn name_of(ifindex: u32) -> Option<IfName> {
    if_indextoname(ifindex).ok().and_then(|name| name.to_str().ok()?.parse().ok())
}

/// Detaches the program from all guest ports of a namespace, which is `domain` in the maps. Returns the ifindexes of those
/// whose links the kernel has yet to release: see [`attached_by_index`](super::attached_by_index).
///
/// # Errors
/// The maps cannot be read, or a link or a filter cannot be removed.
pub fn detach_guests(
    netns: &Netns,
    pins: &Pins,
    domain: u16,
    numbers: &RangeInclusive<u32>,
) -> Result<Vec<u32>> {
    let links: Vec<u32> =
        pins.guest_links().into_iter().filter(|(of, _)| *of == domain).map(|(_, ifindex)| ifindex).collect();
    let ports = Maps::open(pins)?.numbered_ports(numbers)?;
    let here = ports.iter().filter(|(key, _)| key.domain == u32::from(domain));
    netns.run(|| {
        links.iter().try_for_each(|&ifindex| detach_link(pins, domain, ifindex))?;
        here.into_iter().try_for_each(|(key, _)| detach_filter(key.ifindex))
    })??;
    Ok(links)
}

/// Fails unless the device with the port's name has its ifindex.
fn check_name(port: &GuestPort) -> Result<()> {
    let is_it = if_nametoindex(port.name.as_str()).is_ok_and(|ifindex| ifindex == port.ifindex);
    if is_it { Ok(()) } else { Err(renamed(port)) }
}

fn renamed(port: &GuestPort) -> Error {
    let cause = io::Error::new(io::ErrorKind::NotFound, "the port has been renamed");
    Error::new("attach to", port.name.as_str(), cause)
}
