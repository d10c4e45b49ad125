//! Larger maps for a lab that has outgrown its own, without losing a count.
//!
//! Maps cannot grow, so another set of maps is created, with programs of its own. Each port's program is replaced
//! atomically by that of the new set, and a frame is counted in one set or the other. The counts of the old set stay
//! there, and [`Counters`](super::Counters) sums all sets.
//!
//! After a kill at any point, the next run continues from the pins. `next` is complete before any port uses it. The old
//! counters get a second pin before the first is replaced. By the time `moving` exists, all ports use it.

use std::{fs, io, path::Path};

use aya::{maps::MapData, programs::SchedClassifier};
use vethpath_common::{ABI_VERSION, names};

use super::{
    Copies, Hook, Pins, Sizes,
    attach::{our_filter, replace_filter, replace_linked},
    load::load,
    maps::{data, version},
};
use crate::{
    kernel::{Context, Error, Netns, Result, bpffs},
    topology::IfName,
};

/// The maps that hold counts.
const COUNTING: [&str; 5] = [names::PATHS, names::CROSSINGS, names::MATRIX, names::CELLS, names::COUNTERS];

/// Whether the lab's maps have at least the sizes of `least`.
///
/// # Errors
/// The kernel refuses to open or to describe a map.
pub fn has_room(pins: &Pins, least: Sizes) -> Result<bool> {
    for (map, least) in [
        (names::PORTS, least.ports),
        (names::COUNTERS, least.ports.saturating_add(1)),
        (names::SOURCES, least.sources),
        (names::STATIONS, least.stations),
        (names::PATHS, least.paths),
    ] {
        if data(&pins.map(map))?.info().doing("look up map", map)?.max_entries() < least {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The complete set left by a killed run, which ports may already use. An incomplete set is removed.
///
/// # Errors
/// bpffs refuses.
pub fn left_over(pins: &Pins) -> Result<Option<Pins>> {
    finish_moving(pins, &mut |_| Ok::<_, Error>(()))?;
    let next = pins.next();
    if !next.directory().exists() {
        return Ok(None);
    }
    let has_maps = names::PINNED_MAPS.iter().all(|map| next.map(map).exists());
    // A set of another version was not completed by this one.
    if has_maps && version(&next)? == ABI_VERSION {
        return Ok(Some(next));
    }
    bpffs::remove_directory(next.directory())?;
    Ok(None)
}

/// Creates another set with maps of these sizes.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`); with the XDP program 5.18 (XDP frags).
///
/// # Errors
/// The kernel refuses a program or map.
pub fn larger(pins: &Pins, copies: &[Copies], sizes: Sizes) -> Result<Pins> {
    let next = pins.next();
    // An existing set stays, even if it was made for a file with fewer programs: ports may already use it.
    let _ = load(&next, copies, &[], sizes)?;
    Ok(next)
}

/// Replaces the program of `pins` by that of `next` on each port. A port without our program is skipped.
///
/// # Errors
/// The kernel refuses a port. The ports before it have the new program.
pub fn switch_over(
    netns: &Netns,
    pins: &Pins,
    next: &Pins,
    domain: u32,
    hook: Hook,
    ports: &[&IfName],
) -> Result<()> {
    netns.run(|| {
        let path = next.program(domain);
        let mut program = SchedClassifier::from_pin(&path).doing("open", path.display())?;
        for &port in ports {
            match hook {
                Hook::Tcx if !pins.link(port).exists() => {}
                Hook::Tcx => replace_linked(&mut program, &pins.link(port), port)?,
                Hook::Clsact => {
                    if let Some(filter) = our_filter(port)? {
                        replace_filter(&mut program, port, &filter)?;
                    }
                }
            }
        }
        Ok(())
    })?
}

/// Replaces the lab's set by the other one, and keeps its counters. `on_step` is called before each step.
///
/// # Errors
/// bpffs refuses, or `on_step` fails.
pub fn finish<E: From<Error>>(
    pins: &Pins,
    on_step: &mut impl FnMut(&str) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let counters = data(&pins.map(names::COUNTERS))?;
    let id = counters.info().doing("look up map", names::COUNTERS)?.id();
    let former = pins.former(id);
    bpffs::make_directory(former.directory())?;
    for map in COUNTING {
        if !former.map(map).exists() {
            on_step(&format!("keep counters {map}"))?;
            let data: MapData = data(&pins.map(map))?;
            data.pin(former.map(map)).doing("pin map", map)?;
        }
    }
    on_step("use larger maps")?;
    rename(pins.next().directory(), pins.moving().directory())?;
    finish_moving(pins, on_step)
}

/// Moves every pin of the `moving` set, which all ports use, to the lab's folder.
fn finish_moving<E: From<Error>>(
    pins: &Pins,
    on_step: &mut impl FnMut(&str) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let moving = pins.moving();
    let entries = match fs::read_dir(moving.directory()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.doing("list", moving.directory().display())?,
    };
    for entry in entries {
        let entry = entry.doing("list", moving.directory().display())?;
        on_step(&format!("move {}", entry.file_name().display()))?;
        rename(&entry.path(), &pins.directory().join(entry.file_name()))?;
    }
    Ok(fs::remove_dir(moving.directory()).doing("remove", moving.directory().display())?)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).doing("rename", from.display())
}
