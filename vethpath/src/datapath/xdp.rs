//! The XDP program: attaching in driver mode, and the ports that it may redirect to.

use std::{collections::BTreeSet, fs, io, time::Duration};

use aya::{
    maps::{
        Map, MapError,
        xdp::{DevMapHash, XdpMapError},
    },
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        loaded_programs,
        xdp::XdpLink,
    },
};
use aya_obj::programs::XdpAttachType;
use vethpath_common::names;

use super::{
    Pins,
    attach::{RELEASE, retry_while},
    maps::{data, opened},
};
use crate::{
    kernel::{Context, Error, LinkFacts, Netns, Result, rcu},
    topology::IfName,
};

/// Timeout while the port has an XDP program that is not known to be a lab's. It will most likely stay.
const MIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Attaches the pinned XDP program of `domain` to `ports` in `netns`, in driver mode only. `links` are the links of
/// the namespace. Ports that already have the program are skipped. Returns the newly attached ports.
/// Minimum kernel: Linux 5.18 (XDP frags).
///
/// # Errors
/// The program is not pinned, or the kernel refuses a port, for example because it has another XDP program
/// (`EBUSY`). The ports before it stay attached.
pub fn attach_xdp(
    netns: &Netns,
    pins: &Pins,
    domain: u32,
    links: &[LinkFacts],
    ports: &[&IfName],
) -> Result<Vec<IfName>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let mut program = open(pins, domain)?;
    let ours = id(&program)?;
    netns.run(|| {
        let mut attached = Vec::new();
        for &port in ports {
            let link = links.iter().find(|link| link.name == port.as_str());
            if link.is_some_and(|link| link.xdp_program == Some(ours)) && pins.xdp_link(port).exists() {
                continue;
            }
            // An existing pin is stale: it belongs to a removed port of this name.
            let _ = fs::remove_file(pins.xdp_link(port));
            let former = link.and_then(|link| link.xdp_program);
            let timeout = if former.is_some_and(is_a_labs) { RELEASE } else { MIN_TIMEOUT };
            // The kernel may still be releasing a link, and its program, that was unpinned a moment ago.
            let attach = || program.attach(port.as_str(), XdpMode::Driver);
            let link = match retry_while(nix::libc::EBUSY, timeout, attach) {
                Err(error) if is_of_queues(&error) => return Err(too_few_queues(port)),
                other => other.doing("attach XDP to", port)?,
            };
            let link = program.take_link(link).doing("keep XDP link of", port)?;
            let link: FdLink = link.try_into().doing("keep XDP link of", port)?;
            link.pin(pins.xdp_link(port)).doing("pin XDP link of", port)?;
            attached.push(port.clone());
        }
        Ok(attached)
    })?
}

/// Whether the program of this id is a lab's, by its name.
fn is_a_labs(id: u32) -> bool {
    let mut programs = loaded_programs().filter_map(std::result::Result::ok);
    programs.any(|program| program.id() == id && program.name_as_str() == Some(names::PORT_XDP))
}

/// Whether the driver refuses the number of queues. Nothing else on this path returns ENOSPC.
fn is_of_queues(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else { return false };
    error.io_error.raw_os_error() == Some(nix::libc::ENOSPC)
}

/// The port has fewer receive queues than its inner end has transmit queues (`veth_xdp_set` in drivers/net/veth.c).
fn too_few_queues(port: &IfName) -> Error {
    let cause = io::Error::other("its inner end has more transmit queues than it has receive queues");
    Error::new("attach XDP to", port.as_str(), cause).with_hint(
        "`ethtool -L` shows and changes how many: `tx 1` at the inner end, or a larger `rx` at the port",
    )
}

/// Replaces the XDP program of `pins` by that of `next`, atomically for each port. A port without our link is skipped.
/// If `next` has no XDP program, it is not wanted any more and is detached.
/// Minimum kernel: Linux 5.18 (XDP frags), if `next` has the XDP program.
///
/// # Errors
/// The kernel refuses a port. The ports before it have the new program.
pub fn switch_over_xdp(pins: &Pins, next: &Pins, domain: u32, ports: &[&IfName]) -> Result<()> {
    if !next.xdp_program(domain).exists() {
        return ports.iter().try_for_each(|port| detach_xdp(pins, port));
    }
    let mut program = open(next, domain)?;
    for &port in ports.iter().filter(|port| pins.xdp_link(port).exists()) {
        let link = PinnedLink::from_pin(pins.xdp_link(port)).doing("open XDP link of", port)?;
        let link = XdpLink::try_from(FdLink::from(link)).doing("use XDP link of", port)?;
        let _ = program.attach_to_link(link).doing("replace the XDP program of", port)?;
    }
    Ok(())
}

/// Detaches the XDP program from a port, if it is attached. The kernel releases it asynchronously.
///
/// # Errors
/// The link's pin cannot be removed.
pub fn detach_xdp(pins: &Pins, port: &IfName) -> Result<()> {
    match fs::remove_file(pins.xdp_link(port)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("detach XDP from", port),
        _ => Ok(()),
    }
}

/// Detaches the XDP programs from all ports.
///
/// # Errors
/// A pin cannot be removed. All others are removed.
pub fn detach_all_xdp(pins: &Pins) -> Result<()> {
    let mut all = Ok(());
    for pin in pins.xdp_links() {
        all = all.and(fs::remove_file(&pin).doing("remove", pin.display()));
    }
    all
}

/// The kernel's id of the XDP program of `domain`. `None` if it is not pinned.
///
/// # Errors
/// The kernel refuses to open or to describe the program.
pub fn xdp_id(pins: &Pins, domain: u32) -> Result<Option<u32>> {
    if !pins.xdp_program(domain).exists() {
        return Ok(None);
    }
    id(&open(pins, domain)?).map(Some)
}

fn open(pins: &Pins, domain: u32) -> Result<Xdp> {
    let path = pins.xdp_program(domain);
    Xdp::from_pin(&path, XdpAttachType::Interface).doing("open", path.display())
}

fn id(program: &Xdp) -> Result<u32> {
    Ok(program.info().doing("inspect", "the XDP program")?.id())
}

/// The ports of one bridge namespace that the XDP program may redirect to.
/// Minimum kernel: Linux 5.4 (`BPF_MAP_TYPE_DEVMAP_HASH`).
pub struct Receivers {
    map: DevMapHash<aya::maps::MapData>,
    current: BTreeSet<u32>,
}

impl Receivers {
    /// Opens the map of `domain` and reads its contents. `None` if it is not pinned.
    ///
    /// # Errors
    /// The map has another shape, or the kernel refuses.
    pub fn open(pins: &Pins, domain: u32) -> Result<Option<Self>> {
        let path = pins.xdp_ports(domain);
        if !path.exists() {
            return Ok(None);
        }
        let map = Map::DevMapHash(data(&path)?);
        let map = opened(DevMapHash::try_from(map), names::XDP_PORTS)?;
        let mut receivers = Self { map, current: BTreeSet::new() };
        let _ = receivers.has_changed()?;
        Ok(Some(receivers))
    }

    /// Reads the map again, and returns whether it has changed. The kernel removes a port with its device, and `up`
    /// removes a port that it detaches XDP from.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn has_changed(&mut self) -> Result<bool> {
        let now =
            self.map.keys().collect::<std::result::Result<_, _>>().doing("read map", names::XDP_PORTS)?;
        let before = std::mem::replace(&mut self.current, now);
        Ok(before != self.current)
    }

    /// Removes a port, before its inner end stops receiving. Returns when no program redirects to it any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&mut self, port: u32) -> Result<()> {
        match self.map.remove(port) {
            // It was never inserted, or the kernel has removed it with the device.
            Err(error) if is_missing(&error) => return Ok(()),
            other => other.doing("write map", names::XDP_PORTS)?,
        }
        self.current.remove(&port);
        rcu::grace_period();
        Ok(())
    }

    /// Sets the contents of the map to `ports`, ifindexes in `netns`. A port that no longer exists is left out.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel refuses for another reason.
    pub fn set(&mut self, netns: &Netns, ports: &BTreeSet<u32>) -> Result<()> {
        if &self.current == ports {
            return Ok(());
        }
        for &port in self.current.difference(ports) {
            match self.map.remove(port) {
                // The kernel has removed it with the device, or another process that detaches XDP.
                Err(error) if is_missing(&error) => {}
                other => other.doing("write map", names::XDP_PORTS)?,
            }
        }
        // The kernel looks up devices in the namespace of the caller (`dev_map_hash_update_elem`).
        let inserted = netns.run(|| {
            let new = ports.difference(&self.current).copied();
            let mut put = BTreeSet::new();
            for port in new {
                match self.map.insert(port, port, None, 0) {
                    Ok(()) => drop(put.insert(port)),
                    // The device is gone, or is not a veth any more.
                    Err(error) if is_no_device(&error) => {}
                    Err(error) => return Err(error).doing("write map", names::XDP_PORTS),
                }
            }
            Ok(put)
        })??;
        self.current = self.current.intersection(ports).copied().chain(inserted).collect();
        Ok(())
    }
}

/// Whether the kernel found no device (`dev_get_by_index` and `__dev_map_alloc_node` in kernel/bpf/devmap.c).
fn is_no_device(error: &XdpMapError) -> bool {
    let XdpMapError::MapError(MapError::SyscallError(error)) = error else { return false };
    matches!(error.io_error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENODEV))
}

fn is_missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(nix::libc::ENOENT),
        _ => false,
    }
}
