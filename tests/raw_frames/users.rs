//! Users' programs, attached in driver mode (vethpath-ebpf/src/raw.rs).

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Array, MapData, PerCpuArray, XskMap},
    programs::{Xdp, XdpMode},
};
use vethpath::kernel::Netns;

static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vethpath-raw"));

/// A program at an interface, until this is dropped.
pub(crate) struct User {
    object: Ebpf,
}

/// Where `forward` sends frames: out of an interface, to a host, from that interface's address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Forwarding {
    pub(crate) ifindex: u32,
    pub(crate) to: [u8; 6],
    pub(crate) from: [u8; 6],
}

impl User {
    /// Attaches the program of this name.
    #[track_caller]
    pub(crate) fn attach(netns: &Netns, interface: &str, name: &str) -> Self {
        Self::forwarding(netns, interface, name, Forwarding::default())
    }

    /// The same, with the destination of frames.
    #[track_caller]
    pub(crate) fn forwarding(netns: &Netns, interface: &str, name: &str, onward: Forwarding) -> Self {
        let address =
            |mac: [u8; 6]| u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0]);
        let (to, from) = (address(onward.to), address(onward.from));
        let mut loader = EbpfLoader::new();
        loader.override_global("OUT", &onward.ifindex, true);
        loader.override_global("TO", &to, true).override_global("FROM", &from, true);
        let mut object = loader.load(PROGRAMS).expect("the object loads");
        let program: &mut Xdp =
            object.program_mut(name).expect("it is there").try_into().expect("it is for XDP");
        program.load().expect("the verifier accepts it");
        let attached = netns.run(|| program.attach(interface, XdpMode::Driver)).expect("it can be entered");
        attached.unwrap_or_else(|error| panic!("{name} at {interface}: {error:?}"));
        Self { object }
    }

    /// Frames that it has received.
    pub(crate) fn received(&self) -> u64 {
        let map: PerCpuArray<&MapData, u64> =
            self.object.map("TAKEN").expect("it is there").try_into().expect("per CPU");
        map.get(&0, 0).expect("it has one element").iter().sum()
    }

    /// Millions of frames a second that `sink` has received since the last call, measured from the first of them to
    /// one of the last.
    pub(crate) fn rate(&mut self) -> f64 {
        let map = self.object.map_mut("STAMPS").expect("it is there");
        let mut map: Array<&mut MapData, [u64; 2]> = map.try_into().expect("an array");
        let [first, last] = [0, 1].map(|index| map.get(&index, 0).expect("it has two elements"));
        map.set(0, [0; 2], 0).expect("it has two elements");
        (last[1] - first[1]) as f64 * 1e3 / (last[0] - first[0]).max(1) as f64
    }

    /// Makes it pass the frames of a queue to a socket.
    pub(crate) fn attach_socket(&mut self, queue: u32, socket: &impl std::os::fd::AsRawFd) {
        let mut map: XskMap<&mut MapData> =
            self.object.map_mut("SOCKETS").expect("it is there").try_into().expect("of sockets");
        map.set(queue, socket.as_raw_fd(), 0).expect("the socket is bound to that queue");
    }
}
