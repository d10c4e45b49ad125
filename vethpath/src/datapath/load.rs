//! Loading the programs of a lab, creating or reusing its maps, and forwarding the programs' log.

use std::{fs, io, path::Path, sync::LazyLock};

use aya::{
    EbpfLoader,
    programs::{ProgramError, ProgramInfo, SchedClassifier, Xdp},
};
use aya_log::EbpfLogger;
use log::{Log, info, warn};
use tokio::io::{Interest, unix::AsyncFd};
use vethpath_common::{ABI_VERSION, Config, names};

use super::{Maps, Pins, maps::data};
use crate::kernel::{Context, Error, Result, bpffs, probe::peer_redirect_scrubs};

/// The ELF object that `build.rs` builds from the `vethpath-ebpf` crate.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vethpath-ebpf"));

/// Maximum number of attempts to load a program.
const TRIES: u32 = 10;

/// Capacities of a lab's maps, which are fixed at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Ports, and pairs with counters.
    pub ports: u32,
    /// Stations as senders.
    pub sources: u32,
    /// Stations as receivers. Each bridge has those of its whole segment.
    pub stations: u32,
    /// Binary logarithm of the number of slots for stations, for senders and receivers each.
    pub slot_bits: u32,
    /// Combinations of a sending and a receiving pair.
    pub matrix: u32,
    /// Traffic between pairs below this number is counted in cells of its own, not in `matrix`.
    pub width: u32,
    /// Paths across trunks.
    pub paths: u32,
}

impl Sizes {
    /// Minimum number of stations, even in the smallest lab, for hosts that appear behind its ports.
    const SOURCES: u32 = 16_384;
    /// With more, the map would take more than 150 MB.
    const MOST_STATIONS: u32 = 1 << 20;
    /// Entries are allocated on demand. This many take 20 MB, and 6 MB for each CPU.
    const MOST_CELLS: u32 = 1 << 18;
    /// With one station per port, a quarter of the slots is used, so that two keys seldom collide.
    const SLOTS_A_STATION: u32 = 4;
    /// Bounds on the number of slots, which take 150 kB and 9 MB.
    const SLOTS: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 16;
    /// The cells of this many pairs with each other take 400 kB for each CPU, and are read in 4 ms: 0.3 us each, used or
    /// not (`generic_map_lookup_batch` in kernel/bpf/syscall.c).
    const MOST_WIDTH: u32 = 128;
    /// The same of a lab whose pairs do not all have cells with each other: its agent and its readers read them each
    /// second, and an element of the matrix costs a frame 10 ns more. Numbers are given from the lowest.
    const WIDTH_OF_SOME: u32 = 32;
    /// Room for the first trunks that are added later.
    const LEAST_PATHS: u32 = 64;
    /// With more, their counters would take more than 1.5 MB for each CPU.
    const MOST_PATHS: u32 = 1 << 16;

    /// The smallest sufficient sizes, without room for more. Traffic that does not fit into the matrix is still
    /// counted.
    #[must_use]
    pub fn least(ports: usize, bridges: usize) -> Self {
        let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX / 16);
        let (ports, bridges) = (bounded(ports), bounded(bridges).max(1));
        Self {
            ports,
            sources: ports,
            stations: ports.saturating_mul(bridges).min(Self::MOST_STATIONS),
            slot_bits: 1,
            matrix: 1,
            width: 1,
            paths: bridges.saturating_mul(bridges - 1).saturating_add(1).min(Self::MOST_PATHS),
        }
    }

    /// The sizes of the pinned maps. All programs of a set must use the same sizes.
    fn pinned(pins: &Pins) -> Result<Self> {
        let entries = |map: &str| -> Result<u32> {
            Ok(data(&pins.map(map))?.info().doing("look up map", map)?.max_entries())
        };
        Ok(Self {
            ports: entries(names::COUNTERS)?.saturating_sub(1),
            sources: entries(names::SOURCES)?,
            stations: entries(names::STATIONS)?,
            slot_bits: entries(names::SOURCE_SLOTS)?.checked_ilog2().unwrap_or_default(),
            matrix: entries(names::MATRIX)?,
            width: entries(names::CELLS)?.isqrt(),
            paths: entries(names::PATHS)?,
        })
    }

    /// Room for twice as many ports as `ports`, with up to `bridges` bridges in a segment.
    #[must_use]
    pub fn of(ports: usize, bridges: usize) -> Self {
        let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX / 16);
        let ports = bounded(ports).saturating_mul(2).clamp(64, 1 << 20).next_power_of_two();
        let (sources, bridges) = (ports.saturating_mul(4).max(Self::SOURCES), bounded(bridges).max(1));
        let paths = bridges.saturating_mul(bridges - 1);
        let slots = ports.saturating_mul(Self::SLOTS_A_STATION / 2).saturating_mul(bridges);
        let slots = slots.clamp(*Self::SLOTS.start(), *Self::SLOTS.end());
        Self {
            ports,
            sources,
            slot_bits: slots.next_power_of_two().ilog2(),
            width: if ports <= Self::MOST_WIDTH { ports } else { Self::WIDTH_OF_SOME },
            stations: ports.saturating_mul(bridges).clamp(sources, Self::MOST_STATIONS.max(sources)),
            matrix: ports.saturating_mul(ports).min(Self::MOST_CELLS),
            // Room for the paths of other trees, which spanning tree may choose.
            paths: paths.saturating_mul(4).saturating_add(1).clamp(Self::LEAST_PATHS, Self::MOST_PATHS),
        }
    }
}

/// The programs of a bridge namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Its number in the maps.
    pub domain: u32,
    /// Whether it has the XDP program.
    /// Minimum kernel: Linux 5.18 (XDP frags).
    pub xdp: bool,
}

/// Whether all maps of a lab and these programs are pinned.
#[must_use]
pub fn is_complete(pins: &Pins, copies: &[Copies]) -> bool {
    let is_there = |copy: &Copies| {
        pins.program(copy.domain).exists() && (!copy.xdp || pins.xdp_program(copy.domain).exists())
    };
    names::PINNED_MAPS.iter().all(|map| pins.map(map).exists()) && copies.iter().all(is_there)
}

/// Checks that the pinned maps, if they are complete, can be reused.
///
/// # Errors
/// They are of another version of vethpath, or cannot be read.
pub fn check_version(pins: &Pins) -> Result<()> {
    if is_complete(pins, &[]) { Maps::open(pins).map(drop) } else { Ok(()) }
}

/// Loads the programs of each bridge namespace, and pins programs and maps. Pinned maps are reused with their contents,
/// unless a map or one of the programs `loaded` before is missing. Returns whether the maps are new.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`); with the XDP program 5.18 (XDP frags).
///
/// # Errors
/// The kernel refuses a program or map, or the pinned maps are of another version.
pub fn load(pins: &Pins, copies: &[Copies], loaded: &[Copies], sizes: Sizes) -> Result<bool> {
    let is_complete = is_complete(pins, loaded);
    if !is_complete {
        // The remaining pins would not match the new maps.
        bpffs::remove_directory(pins.directory())?;
    }
    bpffs::make_directory(pins.directory())?;
    let sizes = if is_complete { Sizes::pinned(pins)? } else { sizes };
    for &Copies { domain, xdp } in copies {
        if !is_current(pins, &pins.program(domain))? {
            load_one(pins, domain, sizes)?;
        }
        if xdp && !is_current(pins, &pins.xdp_program(domain))? {
            load_xdp(pins, domain, sizes)?;
        }
    }
    let mut maps = Maps::open(pins)?;
    let config = maps.config();
    // The maps are new. An agent may be writing maps that are not.
    if config.abi == 0 {
        maps.set_config(Config { abi: ABI_VERSION, ..config });
    }
    Ok(!is_complete)
}

/// Whether a program is pinned there that uses the lab's maps. A program that was not part of the lab when it got
/// larger maps uses the former maps, and is unpinned.
fn is_current(pins: &Pins, program: &Path) -> Result<bool> {
    if !program.exists() {
        return Ok(false);
    }
    let config = data(&pins.map(names::CONFIG))?.info().doing("look up map", names::CONFIG)?.id();
    let maps = ProgramInfo::from_pin(program)
        .and_then(|program| program.map_ids())
        .doing("inspect", program.display())?;
    // A kernel that does not report map ids is too old for larger maps.
    let is_current = maps.is_none_or(|maps| maps.contains(&config));
    if !is_current {
        fs::remove_file(program).doing("unpin", program.display())?;
    }
    Ok(is_current)
}

/// A loader for one copy of the programs, for the bridge namespace `domain`. It pins nothing.
#[must_use]
pub fn loader<'a>(domain: &'a u32, sizes: &'a Sizes) -> EbpfLoader<'a> {
    static SCRUBS: LazyLock<u32> = LazyLock::new(|| u32::from(peer_redirect_scrubs()));
    let (slots, cells) = (1 << sizes.slot_bits, sizes.width * sizes.width);
    let mut loader = EbpfLoader::new();
    loader
        .override_global(names::DOMAIN, domain, true)
        .override_global(names::SLOT_BITS, &sizes.slot_bits, true)
        .override_global(names::WIDTH, &sizes.width, true)
        .override_global(names::SCRUBS, &*SCRUBS, true)
        .map_max_entries(names::SOURCE_SLOTS, slots)
        .map_max_entries(names::STATION_SLOTS, slots)
        .map_max_entries(names::CELLS, cells.max(1))
        .map_max_entries(names::PORTS, sizes.ports)
        .map_max_entries(names::COUNTERS, sizes.ports.saturating_add(1))
        .map_max_entries(names::SOURCES, sizes.sources)
        .map_max_entries(names::STATIONS, sizes.stations)
        .map_max_entries(names::MATRIX, sizes.matrix)
        .map_max_entries(names::PATHS, sizes.paths)
        .map_max_entries(names::CROSSINGS, sizes.paths)
        .map_max_entries(names::XDP_PORTS, sizes.ports);
    loader
}

/// Loads a program. Retries on `EAGAIN`, with which the verifier aborts when any signal is pending (`do_check` in
/// kernel/bpf/verifier.c).
///
/// # Errors
/// The kernel refuses the program, or signals arrive all the time.
pub fn load_program(program: &mut SchedClassifier) -> std::result::Result<(), ProgramError> {
    retry_on_eagain(|| program.load())
}

/// As [`load_program`], for a program of any type, which `load` loads.
pub(super) fn retry_on_eagain(
    mut load: impl FnMut() -> std::result::Result<(), ProgramError>,
) -> std::result::Result<(), ProgramError> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(nix::libc::EAGAIN) && tries > 0 => {}
            result => return result,
        }
    }
}

/// Makes the loader reuse the pinned maps of a lab, or pin new ones.
pub(super) fn pinning(loader: &mut EbpfLoader<'_>, pins: &Pins) {
    for map in names::PINNED_MAPS {
        loader.map_pin_path(map, pins.map(map));
    }
}

fn load_one(pins: &Pins, domain: u32, sizes: Sizes) -> Result<()> {
    let mut loader = loader(&domain, &sizes);
    pinning(&mut loader, pins);
    let mut object = loader.load(OBJECT).doing("load", "the eBPF programs")?;
    let program = object.program_mut(names::PORT_INGRESS).ok_or_else(|| missing(names::PORT_INGRESS))?;
    let program: &mut SchedClassifier = program.try_into().doing("use", names::PORT_INGRESS)?;
    load_program(program).doing("load program", names::PORT_INGRESS)?;
    program.pin(pins.program(domain)).doing("pin program", names::PORT_INGRESS)
}

/// Loads and pins the XDP program of `domain`. It uses the pinned maps of the lab, which have these sizes.
fn load_xdp(pins: &Pins, domain: u32, sizes: Sizes) -> Result<()> {
    let mut loader = loader(&domain, &sizes);
    pinning(&mut loader, pins);
    let _ = fs::remove_file(pins.xdp_ports(domain));
    loader.map_pin_path(names::XDP_PORTS, pins.xdp_ports(domain));
    let mut object = loader.load(OBJECT).doing("load", "the eBPF programs")?;
    let program = object.program_mut(names::PORT_XDP).ok_or_else(|| missing(names::PORT_XDP))?;
    let program: &mut Xdp = program.try_into().doing("use", names::PORT_XDP)?;
    retry_on_eagain(|| program.load()).doing("load program", names::PORT_XDP)?;
    program.pin(pins.xdp_program(domain)).doing("pin program", names::PORT_XDP)
}

fn missing(program: &str) -> Error {
    Error::new("find", program, io::Error::other("the embedded object has no such program"))
}

/// Forwards the log of the port program of `domain` to this process's log, for the lifetime of the tokio runtime. Does
/// nothing in a build without logging.
///
/// # Errors
/// The program is not pinned.
pub fn forward_log(pins: &Pins, domain: u32) -> Result<()> {
    if !cfg!(feature = "ebpf-log") {
        return Ok(());
    }
    let program =
        SchedClassifier::from_pin(pins.program(domain)).doing("open", pins.program(domain).display())?;
    let id = program.info().doing("inspect", "the port program")?.id();
    let logger = EbpfLogger::init_from_id(id).doing("read the log of", "the port program")?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that might close their descriptor; a logger does not"
    )]
    let logger =
        AsyncFd::with_interest(logger, Interest::READABLE).doing("watch the log of", "the port program")?;
    info!("passing on the log of program {id}");
    tokio::spawn(forward(logger));
    Ok(())
}

async fn forward<T: Log>(mut logger: AsyncFd<EbpfLogger<T>>) {
    loop {
        match logger.readable_mut().await {
            Ok(mut guard) => {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
            Err(error) => return warn!("cannot read the programs' log: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_with_the_lab_and_have_bounds() {
        let small = Sizes::of(3, 1);
        assert_eq!((small.ports, small.sources, small.stations, small.paths), (64, 16_384, 16_384, 64));
        assert_eq!((small.slot_bits, small.matrix, small.width), (10, 4096, 64));
        let chain = Sizes::of(100, 8);
        assert_eq!((chain.ports, chain.matrix, chain.paths), (256, 65_536, 225));
        let large = Sizes::of(4096, 64);
        assert_eq!((large.ports, large.sources, large.stations), (8192, 32_768, 524_288));
        assert_eq!((large.matrix, large.paths), (262_144, 16_129));
        assert_eq!((large.slot_bits, large.width), (16, 32));
        let absurd = Sizes::of(usize::MAX, usize::MAX);
        assert_eq!((absurd.matrix, absurd.paths), (Sizes::MOST_CELLS, Sizes::MOST_PATHS));
    }
}
