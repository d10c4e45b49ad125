//! Frames that never were a socket's: made by `BPF_PROG_TEST_RUN` at one inner end, counted and dropped by an
//! XDP program at the other.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    slice,
    time::Duration,
};

use aya::{EbpfLoader, include_bytes_aligned, programs::Xdp};
use nix::{libc, net::if_::if_nametoindex};

use crate::{
    machine::{self, Lab},
    rounds::Short,
    users::User,
};

static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vethpath-raw"));

/// How long a round takes.
const SLICE: Duration = Duration::from_millis(200);
/// Frames of a first try.
const A_FEW: u32 = 50_000;
/// First tries.
const TRIES: usize = 5;

/// `BPF_PROG_TEST_RUN` and `BPF_F_TEST_XDP_LIVE_FRAMES` of linux/bpf.h.
const TEST_RUN: i32 = 10;
const LIVE_FRAMES: u32 = 1 << 1;

/// What is attached to a lab while live frames cross it.
struct Standing {
    sink: User,
    /// Where there is no XDP of ours: the port must have a program that takes what is transmitted to it.
    _ports: Vec<User>,
    generator: OwnedFd,
    ifindex: u32,
    /// How many take a slice.
    frames: u32,
}

thread_local! {
    static STANDING: RefCell<HashMap<String, Standing>> = RefCell::default();
}

/// Millions of frames a second from the first host to the second.
pub(crate) fn rate(lab: &Lab) -> Result<f64, Short> {
    STANDING.with_borrow_mut(|all| {
        let standing = all.get_mut(&lab.name).unwrap();
        let before = standing.sink.taken();
        standing.send(lab, standing.frames);
        let (came, rate) = (standing.sink.taken() - before, standing.sink.rate());
        if came * 100 < u64::from(standing.frames) * 95 {
            return Err(Short(format!("{}: {came} frames of {} came", lab.name, standing.frames)));
        }
        Ok(rate)
    })
}

impl Standing {
    fn at(lab: &Lab) -> Self {
        let sink = User::attach(&lab.b, "eth0", "sink");
        let mut ports = Vec::new();
        if lab.datapath != "xdp" {
            ports.push(User::attach(&lab.here, &lab.ports[0], "pass"));
        }
        let mut object = EbpfLoader::new().load(PROGRAMS).unwrap();
        let program: &mut Xdp = object.program_mut("transmit").unwrap().try_into().unwrap();
        program.load().unwrap();
        let generator = program.fd().unwrap().as_fd().try_clone_to_owned().unwrap();
        let ifindex = lab.a.run(|| if_nametoindex("eth0")).unwrap().unwrap();
        Self { sink, _ports: ports, generator, ifindex, frames: A_FEW }
    }

    /// Rounds for nothing, which show that frames go the way they should, and how many take a slice.
    #[expect(clippy::cast_possible_truncation, reason = "a slice has far fewer than 2^32")]
    fn try_out(&mut self, lab: &Lab) {
        let as_it_should = (0..TRIES).any(|_| {
            let before = lab.fast();
            self.send(lab, A_FEW);
            let fast = lab.fast() > before;
            if fast == (lab.datapath == "bridge") {
                machine::settle(slice::from_ref(lab));
            }
            fast != (lab.datapath == "bridge")
        });
        assert!(as_it_should, "{}: frames do not go its way", lab.name);
        let _ = self.sink.rate();
        self.send(lab, A_FEW);
        self.frames = ((self.sink.rate() * 1e6 * SLICE.as_secs_f64()) as u32).max(A_FEW);
    }

    /// Sends frames. When it returns, all have come or are lost: this CPU has done its softirqs.
    fn send(&self, lab: &Lab, frames: u32) {
        let frame = lab.frame();
        lab.a.run(|| send(&self.generator, self.ifindex, &frame, frames)).unwrap().unwrap();
    }
}

/// The `test` part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    zero: u32,
}

/// Has the program send a frame `repeat` times from an interface where the calling thread is. (The time that
/// the kernel tells is too short: it leaves out what ksoftirqd did meanwhile; and that around the call is too
/// long: it has the making and unmaking of a pool of pages in it. So the receiver tells.)
fn send(program: &OwnedFd, ifindex: u32, frame: &[u8], repeat: u32) -> io::Result<()> {
    // `struct xdp_md`: where the frame begins and ends, its metadata, interface, queue.
    let context = [0, u32::try_from(frame.len()).unwrap(), 0, ifindex, 0, 0];
    let mut attributes = Attributes {
        program: program.as_raw_fd().cast_unsigned(),
        size_in: u32::try_from(frame.len()).unwrap(),
        data_in: frame.as_ptr() as u64,
        repeat,
        context_size_in: u32::try_from(size_of_val(&context)).unwrap(),
        context_in: context.as_ptr() as u64,
        flags: LIVE_FRAMES,
        batch: 64,
        ..Attributes::default()
    };
    // SAFETY: the attributes are as long as is said, and what they point to outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, TEST_RUN, &raw mut attributes, size_of::<Attributes>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes labs ready for live frames.
pub(crate) fn begin(labs: &[Lab]) {
    let standing: Vec<_> = labs.iter().map(Standing::at).collect();
    machine::settle(labs);
    for (lab, mut standing) in labs.iter().zip(standing) {
        standing.try_out(lab);
        STANDING.with_borrow_mut(|all| drop(all.insert(lab.name.clone(), standing)));
    }
}

/// Takes everything off the labs again.
pub(crate) fn end(labs: &[Lab]) {
    STANDING.with_borrow_mut(HashMap::clear);
    machine::settle(labs);
}
