//! One trial: numbered datagrams before, during and after a change, and which of them went the old way.

use std::{
    collections::HashSet,
    io::{self, IoSliceMut},
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    panic,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    errno::Errno,
    sys::{
        prctl::set_timerslack,
        socket::{
            AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
            setsockopt, socket,
            sockopt::{RcvBufForce, ReceiveTimestampns},
        },
        time::TimeSpec,
    },
    time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep},
};
use vethpath::kernel::Netns;

use super::Result;

/// The time from one frame to the next.
const INTERVAL: Duration = Duration::from_micros(50);

/// How long frames are sent before the change.
const BEFORE: Duration = Duration::from_millis(50);

/// The hosts: the sender, the receiver, and the one that sees what the bridge floods. The namespaces have these names.
pub(crate) const HOSTS: [&str; 3] = ["a", "b", "c"];

/// The addresses of the hosts.
pub(crate) const ADDRESSES: [&str; 3] = ["10.79.0.1", "10.79.0.2", "10.79.0.3"];

/// Half of the frames of [`BEFORE`]. A trial in which fewer go the old way before the command returns is void.
pub(crate) const ENOUGH: usize = 500;

/// How long frames are sent after the command has returned.
const AFTER: Duration = Duration::from_millis(300);

/// Time for the last frames to arrive.
const UNDER_WAY: Duration = Duration::from_millis(20);

/// If one of this many last frames went the old way, the old way has not ended.
const LAST: u64 = 20;

/// Frames from either end before a trial.
pub(crate) const GREETINGS: usize = 5;

/// Their number.
const GREETING: u64 = u64::MAX;

/// Time for them to arrive.
const GREETING_TIME: Duration = Duration::from_millis(5);

/// The UDP port of both ends.
const PORT: u16 = 7079;

/// Bytes of a datagram, which begins with its number. The frame has 60 bytes, the least without padding.
const SIZE: usize = 18;

/// Bytes of the headers of IPv4 and UDP.
const HEADERS: usize = 28;

/// Bytes of a receive buffer: enough for a page for each frame of a trial.
const BUFFER: usize = 128 << 20;

/// The result of a trial.
pub(crate) struct Trial {
    /// From the return of the command to the arrival of the last frame that went the old way; 0 if none did. [`AFTER`]
    /// if the old way has not ended.
    pub(crate) lag: Duration,
    /// Frames that went the old way after the command had returned.
    pub(crate) frames: usize,
    /// Whether the old way has ended.
    pub(crate) has_ended: bool,
    /// The longest time between two frames of the sender.
    pub(crate) pause: Duration,
}

/// The sockets of the three hosts.
pub(crate) struct Traffic {
    sender: UdpSocket,
    receiver: UdpSocket,
    /// Gets all IPv4 packets that reach the third host, also those for others: a veth does not filter by address.
    witness: OwnedFd,
}

/// A frame that has arrived.
struct Arrival {
    number: u64,
    /// When, in the time since 1970. The kernel reads the clock when it gives the frame to its receive path: with
    /// `"tc"` at the sender's port, and otherwise at the inner end.
    at: Duration,
}

/// What the sender has done.
struct Sent {
    /// The number of frames.
    count: u64,
    /// The longest time between two of them.
    pause: Duration,
}

/// Sets a flag when it is dropped, so that threads which wait for it end in any case.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Traffic {
    /// Opens the sockets. Each stays in the namespace in which it was opened.
    pub(crate) fn open() -> Result<Self> {
        let [a, b, c] = HOSTS;
        let sender = inside(a, || UdpSocket::bind((ADDRESSES[0], PORT)))?;
        let receiver = inside(b, || UdpSocket::bind((ADDRESSES[1], PORT)))?;
        let witness = inside(c, || {
            let packets = SockProtocol::EthIp;
            Ok(socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, packets)?)
        })?;
        record(&receiver)?;
        record(&witness)?;
        Ok(Self { sender, receiver, witness })
    }

    /// Sends some frames in both directions. Returns how many have reached the receiver. A frame that cannot be sent
    /// does not arrive.
    pub(crate) fn greet(&self) -> Result<usize> {
        let _ = receive(&self.receiver, 0)?;
        let datagram = datagram(GREETING);
        for _ in 0..GREETINGS {
            // The sender's socket drops what it has no room for.
            let _ = self.receiver.send_to(&datagram, (ADDRESSES[0], PORT));
            let _ = self.sender.send_to(&datagram, (ADDRESSES[1], PORT));
        }
        thread::sleep(GREETING_TIME);
        let arrived = receive(&self.receiver, 0)?;
        Ok(arrived.iter().filter(|frame| frame.number == GREETING).count())
    }

    /// Makes a change while frames are sent. `change` returns when its command has returned. With `floods`, frames that
    /// the third host has seen went the new way.
    pub(crate) fn trial(&self, change: impl FnOnce() -> Result<Duration>, floods: bool) -> Result<Trial> {
        let _ = receive(&self.receiver, 0)?;
        let _ = receive(&self.witness, HEADERS)?;
        let stop = AtomicBool::new(false);
        let (sent, returned) = thread::scope(|scope| {
            let sender = scope.spawn(|| self.send_until(&stop));
            let stopper = Stop(&stop);
            thread::sleep(BEFORE);
            let returned = change();
            if returned.is_ok() {
                thread::sleep(AFTER);
            }
            drop(stopper);
            (joined(sender), returned)
        });
        let (returned, sent) = (returned?, sent?);
        thread::sleep(UNDER_WAY);
        let read = realtime()?;
        let mut old = receive(&self.receiver, 0)?;
        let seen: HashSet<_> = receive(&self.witness, HEADERS)?.iter().map(|frame| frame.number).collect();
        // The kernel reports the present time for a frame that has none.
        if old.iter().any(|frame| frame.at >= read) {
            return Err("the kernel has not recorded when frames arrived".to_owned());
        }
        old.retain(|frame| frame.number != GREETING && !(floods && seen.contains(&frame.number)));
        assess(&old, returned, &sent)
    }

    /// Sends frames at a constant rate until the flag is set. Those that are late are sent at once.
    fn send_until(&self, stop: &AtomicBool) -> Result<Sent> {
        const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
        // By default a thread sleeps up to 50 us longer.
        set_timerslack(1).map_err(|errno| format!("setting the timer slack: {errno}"))?;
        let now = clock_gettime(CLOCK).map_err(|errno| format!("reading the clock: {errno}"))?;
        let (mut due, mut last) = (Duration::from(now), Instant::now());
        let mut sent = Sent { count: 0, pause: Duration::ZERO };
        while !stop.load(Ordering::Relaxed) {
            let to = (ADDRESSES[1], PORT);
            let _ = self
                .sender
                .send_to(&datagram(sent.count), to)
                .map_err(|error| format!("sending frame {}: {error}", sent.count))?;
            let now = Instant::now();
            sent.pause = sent.pause.max(now.duration_since(last));
            sent.count += 1;
            last = now;
            due += INTERVAL;
            match clock_nanosleep(CLOCK, ClockNanosleepFlags::TIMER_ABSTIME, &TimeSpec::from(due)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(format!("sleeping until the next frame: {errno}")),
            }
        }
        Ok(sent)
    }
}

/// The result of a trial, from the frames that went the old way.
fn assess(old: &[Arrival], returned: Duration, sent: &Sent) -> Result<Trial> {
    let frames = old.iter().filter(|frame| frame.at > returned).count();
    let before = old.len() - frames;
    if before < ENOUGH {
        return Err(format!("only {before} frames went the old way before the command returned"));
    }
    let has_ended = old.iter().all(|frame| frame.number.saturating_add(LAST) < sent.count);
    let last = old.iter().map(|frame| frame.at).max().unwrap_or_default();
    let lag = if has_ended { last.saturating_sub(returned) } else { AFTER };
    Ok(Trial { lag, frames, has_ended, pause: sent.pause })
}

/// The clock of the kernel's times of arrival: the time since 1970.
pub(crate) fn realtime() -> Result<Duration> {
    SystemTime::UNIX_EPOCH.elapsed().map_err(|error| format!("reading the clock: {error}"))
}

/// The result of a thread. A panic is propagated.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
}

/// Opens a socket in the namespace of a host.
fn inside<T: Send>(host: &str, open: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
    let netns = Netns::open(&Path::new("/run/netns").join(host), host);
    let opened = netns.and_then(|netns| netns.run(open)).map_err(|error| error.to_string())?;
    opened.map_err(|error| format!("opening a socket in {host}: {error}"))
}

/// Makes a socket keep what arrives during a trial, with the times of arrival.
fn record(socket: &impl AsFd) -> Result<()> {
    setsockopt(socket, RcvBufForce, &BUFFER).map_err(|errno| format!("setting SO_RCVBUFFORCE: {errno}"))?;
    setsockopt(socket, ReceiveTimestampns, &true).map_err(|errno| format!("setting SO_TIMESTAMPNS: {errno}"))
}

/// The datagram with this number.
fn datagram(number: u64) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    for (byte, value) in bytes.iter_mut().zip(number.to_be_bytes()) {
        *byte = value;
    }
    bytes
}

/// Reads all datagrams that have arrived at a socket, behind so many bytes of headers. Packets of another length are
/// not ours.
fn receive(socket: &impl AsRawFd, headers: usize) -> Result<Vec<Arrival>> {
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut bytes = [0; 2 * (HEADERS + SIZE)];
    let mut arrivals = Vec::new();
    loop {
        let mut room = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let (length, at) = match recvmsg::<()>(socket.as_raw_fd(), &mut room, Some(&mut space), flags) {
            Ok(message) => {
                let mut parts = message.cmsgs().map_err(|errno| format!("reading a time: {errno}"))?;
                let at = parts.find_map(|part| match part {
                    ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                    _ => None,
                });
                (message.bytes, at)
            }
            Err(Errno::EAGAIN) => return Ok(arrivals),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(format!("receiving: {errno}")),
        };
        let (_, payload) = bytes.split_at(headers);
        if length == headers + SIZE
            && let Some(number) = payload.first_chunk::<8>()
        {
            let at = at.ok_or("a frame without a time of arrival")?;
            arrivals.push(Arrival { number: u64::from_be_bytes(*number), at });
        }
    }
}
