//! Loading the programs of a lab and making, or taking over, its maps.

use aya::{EbpfLoader, programs::SchedClassifier};
use vethpath_common::{ABI_VERSION, Config, names};

use super::{
    Maps, OBJECT, Pins, Result,
    error::{Context, Error},
};
use crate::kernel::bpffs;

/// How many entries a lab's maps hold. Fixed when they are made.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Ports, and pairs with counters.
    pub ports: u32,
    /// Stations.
    pub stations: u32,
}

impl Sizes {
    /// Stations that fit into even the smallest lab, for hosts that appear behind its ports.
    const STATIONS: u32 = 16_384;

    /// Room for `ports` ports and as many again.
    #[must_use]
    pub fn for_ports(ports: usize) -> Self {
        let ports =
            u32::try_from(ports).unwrap_or(u32::MAX / 4).saturating_mul(2).next_power_of_two().max(64);
        Self { ports, stations: ports.saturating_mul(4).max(Self::STATIONS) }
    }
}

/// Loads one copy of the port program for each of `domains` bridge namespaces and pins all. Maps
/// that are pinned already are taken over with what they hold, if nothing of them is missing. Returns
/// whether they were made anew.
///
/// # Errors
/// The kernel refuses a program or map, or the pinned maps are of another version.
pub fn load(pins: &Pins, domains: u32, sizes: Sizes) -> Result<bool> {
    let whole = names::PINNED_MAPS.iter().all(|map| pins.map(map).exists())
        && (0..domains).all(|domain| pins.program(domain).exists());
    if !whole {
        // Parts of what was pinned would not fit with what is made now.
        bpffs::remove_directory(pins.directory())?;
    }
    bpffs::make_directory(pins.directory())?;
    for domain in 0..domains {
        if !pins.program(domain).exists() {
            load_one(pins, domain, sizes)?;
        }
    }
    let mut maps = Maps::open(pins)?;
    match maps.config()? {
        fresh @ Config { abi: 0, .. } => maps.set_config(Config { abi: ABI_VERSION, ..fresh })?,
        Config { abi: ABI_VERSION, .. } => {}
        Config { abi, .. } => return Err(Error::Abi { found: abi, ours: ABI_VERSION }),
    }
    Ok(!whole)
}

/// A loader of one copy of the programs, for the bridge namespace `domain`, that pins nothing.
#[must_use]
pub fn loader(domain: &u32, sizes: Sizes) -> EbpfLoader<'_> {
    let mut loader = EbpfLoader::new();
    loader
        .override_global(names::DOMAIN, domain, true)
        .map_max_entries(names::PORTS, sizes.ports)
        .map_max_entries(names::COUNTERS, sizes.ports.saturating_add(1))
        .map_max_entries(names::SOURCES, sizes.stations)
        .map_max_entries(names::STATIONS, sizes.stations);
    loader
}

fn load_one(pins: &Pins, domain: u32, sizes: Sizes) -> Result<()> {
    let mut loader = loader(&domain, sizes);
    for map in names::PINNED_MAPS {
        loader.map_pin_path(map, pins.map(map));
    }
    let mut object = loader.load(OBJECT).doing("load", "the eBPF programs")?;
    let missing = || Error::Refused {
        operation: "find",
        object: names::PORT_INGRESS.to_owned(),
        cause: "the embedded object has no such program".to_owned(),
    };
    let program = object.program_mut(names::PORT_INGRESS).ok_or_else(missing)?;
    let program: &mut SchedClassifier = program.try_into().doing("use", names::PORT_INGRESS)?;
    program.load().doing("load program", names::PORT_INGRESS)?;
    program.pin(pins.program(domain)).doing("pin program", names::PORT_INGRESS)
}
