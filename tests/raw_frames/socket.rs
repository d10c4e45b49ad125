//! An AF_XDP socket: frames from and to memory that is shared with the kernel.
#![expect(unsafe_code, reason = "the crate leaves it to us that frames do not outlive their memory")]

use std::os::fd::{AsRawFd, RawFd};

use vethpath::kernel::Netns;
use xdp::{
    RingConfigBuilder, Umem, WakableRings,
    nic::NicIndex,
    slab::{HeapSlab, Slab as _},
    socket::{XdpSocket, XdpSocketBuilder},
    umem::UmemCfgBuilder,
};

/// Frames that are sent or received at once: as many as the kernel sends in one call, so that none waits for another
/// (`TX_BATCH_SIZE` in net/xdp/xsk.c).
const BATCH: usize = 32;

/// A socket on the first queue of an interface.
pub(crate) struct RawSocket {
    // Declared before the memory, so that it is dropped first.
    socket: XdpSocket,
    rings: WakableRings,
    batch: HeapSlab,
    umem: Umem,
}

impl RawSocket {
    /// Opens a socket on the interface of this name in `netns`.
    #[track_caller]
    pub(crate) fn on(netns: &Netns, interface: &str) -> Self {
        let made = netns.run(|| {
            let nic = nix::net::if_::if_nametoindex(interface).expect("it is there");
            (nic, XdpSocketBuilder::new().expect("a socket"))
        });
        let (nic, mut builder) = made.expect("it can be entered");
        let mut umem =
            Umem::map(UmemCfgBuilder::default().build().expect("a configuration")).expect("memory");
        let config = RingConfigBuilder::default().build().expect("a configuration");
        let (mut rings, mut flags) = builder.build_wakable_rings(&umem, config).expect("rings");
        flags.force_copy();
        // SAFETY: the memory outlives the socket: the socket's field is dropped first.
        unsafe { rings.fill_ring.enqueue(&mut umem, 1024, false) }.expect("there is room");
        let socket = builder.bind(NicIndex::new(nic), 0, flags).expect("it can be bound");
        Self { socket, rings, batch: HeapSlab::with_capacity(BATCH), umem }
    }

    /// Sends a frame as often as the rings accept it now, up to `most` times. Returns how often.
    pub(crate) fn send(&mut self, frame: &[u8], most: usize) -> usize {
        let _ = self.rings.completion_ring.dequeue(&mut self.umem, 2 * BATCH);
        for _ in self.batch.len()..most.min(BATCH) {
            // SAFETY: the memory outlives the socket: the socket's field is dropped first.
            let Some(mut packet) = (unsafe { self.umem.alloc() }) else { break };
            packet.append(frame).expect("it fits");
            assert!(self.batch.push_front(packet).is_none(), "there is room");
        }
        let ring = self.rings.tx_ring.as_mut().expect("asked for");
        let before = self.batch.len();
        // SAFETY: the memory outlives the socket: the socket's field is dropped first.
        match unsafe { ring.send(&mut self.batch, true) } {
            Ok(_) => {}
            // The ring of the other end was full: the next call sends what is queued.
            Err(error) if is_busy(&error) => {}
            Err(error) => panic!("sending: {error}"),
        }
        before - self.batch.len()
    }

    /// The frames that have arrived.
    pub(crate) fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut packets = HeapSlab::with_capacity(BATCH);
        let ring = self.rings.rx_ring.as_mut().expect("asked for");
        // SAFETY: the packets are returned to the memory below, while it exists.
        let count = unsafe { ring.recv(&self.umem, &mut packets) };
        let mut frames = Vec::new();
        while let Some(packet) = packets.pop_back() {
            frames.push(packet.to_vec());
            self.umem.free_packet(packet);
        }
        // SAFETY: the memory outlives the socket: the socket's field is dropped first.
        unsafe { self.rings.fill_ring.enqueue(&mut self.umem, count, true) }.expect("there is room");
        frames
    }
}

/// Whether the error means that the kernel could not send all queued frames yet.
fn is_busy(error: &std::io::Error) -> bool {
    [nix::libc::EAGAIN, nix::libc::EBUSY, nix::libc::ENOBUFS].map(Some).contains(&error.raw_os_error())
}

impl AsRawFd for RawSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
