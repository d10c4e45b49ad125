//! Copies of the programs at different addresses. The cost of a program within the stack depends on its address: a
//! branch with the same lower address bits as a branch of the stack shares its prediction (see docs/performance.md). So
//! paths are compared over several addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, MapInfo},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use vethpath::{
    datapath::{self, OBJECT, Pins, Sizes},
    topology::IfName,
};
use vethpath_common::names;

use super::path::{CONSTANT, PARTS, PASS};

static CONSTANT_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vethpath-constant"));
static PARTS_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vethpath-parts"));

/// Copies of each program.
pub(crate) const COPIES: usize = 6;

/// The bridge namespace's number in the maps.
pub(crate) const DOMAIN: u16 = 0;

/// A program for each of the two ports.
pub(crate) struct Copy(Vec<One>);

struct One {
    port: IfName,
    program: &'static str,
    object: Ebpf,
    address: String,
}

/// Loads the copies of all programs, in the namespace of the ports.
pub(crate) fn load(pins: &Pins, ports: &[IfName]) -> BTreeMap<&'static str, Vec<Copy>> {
    let sizes = sizes(pins);
    let mut copies: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for _ in 0..COPIES {
        for program in [CONSTANT, PASS, names::PORT_INGRESS].into_iter().chain(PARTS) {
            let others = ports.iter().rev();
            let both = ports.iter().zip(others).map(|(port, other)| one(program, port, other, pins, &sizes));
            copies.entry(program).or_default().push(Copy(both.collect()));
        }
    }
    copies
}

fn one(program: &'static str, port: &IfName, other: &IfName, pins: &Pins, sizes: &Sizes) -> One {
    let target = nix::net::if_::if_nametoindex(other.as_str()).unwrap();
    let domain = u32::from(DOMAIN);
    let is_constant = program == CONSTANT || program == PASS;
    let mut loader = if is_constant { EbpfLoader::new() } else { datapath::loader(&domain, sizes) };
    if !is_constant {
        for map in names::PINNED_MAPS {
            loader.map_pin_path(map, pins.map(map));
        }
    }
    let bytes = match program {
        CONSTANT | PASS => CONSTANT_OBJECT,
        names::PORT_INGRESS => OBJECT,
        _ => PARTS_OBJECT,
    };
    let mut object =
        loader.override_global("TARGET", &target, program != names::PORT_INGRESS).load(bytes).unwrap();
    let before = addresses(program);
    datapath::load_program(classifier(&mut object, program)).unwrap();
    let address = addresses(program).difference(&before).next().cloned().unwrap_or_default();
    One { port: port.clone(), program, object, address }
}

/// The sizes of the lab's maps.
fn sizes(pins: &Pins) -> Sizes {
    let entries = |map| {
        let map = MapData::from_pin(pins.map(map)).unwrap();
        map.info().as_ref().map(MapInfo::max_entries).unwrap()
    };
    Sizes {
        slot_bits: entries(names::SOURCE_SLOTS).ilog2(),
        width: entries(names::CELLS).isqrt(),
        ..Sizes::of(2, 1)
    }
}

fn classifier<'a>(object: &'a mut Ebpf, program: &str) -> &'a mut SchedClassifier {
    object.program_mut(program).unwrap().try_into().unwrap()
}

/// The addresses of programs with this name.
fn addresses(program: &str) -> BTreeSet<String> {
    // The kernel truncates names to 15 bytes.
    let end = format!("_{}\t[bpf]", &program[..program.len().min(15)]);
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let ours = symbols.lines().filter(|line| line.ends_with(&end));
    ours.filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

impl Copy {
    /// Attaches it to both ports. Dropping the links detaches it.
    pub(crate) fn attach(&mut self) -> Vec<FdLink> {
        self.0.iter_mut().map(One::attach).collect()
    }

    /// Total run time and run count of its programs, from the time that statistics were enabled.
    pub(crate) fn runs(&mut self) -> (Duration, u64) {
        let infos = self.0.iter_mut().map(|copy| classifier(&mut copy.object, copy.program).info().unwrap());
        infos.fold((Duration::ZERO, 0), |(time, count), info| {
            (time + info.run_time(), count + info.run_count())
        })
    }

    /// The addresses of its code.
    pub(crate) fn addresses(&self) -> String {
        self.0.iter().map(|copy| copy.address.as_str()).collect::<Vec<_>>().join(" ")
    }
}

impl One {
    fn attach(&mut self) -> FdLink {
        let program = classifier(&mut self.object, self.program);
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let link = program.attach_with_options(self.port.as_str(), TcAttachType::Ingress, options).unwrap();
        let link: SchedClassifierLink = program.take_link(link).unwrap();
        link.try_into().unwrap()
    }
}
