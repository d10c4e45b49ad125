//! Opens sockets, and waits on them by blocking or spinning.

use std::{
    ffi::OsString,
    hint,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket,
            sockopt::{ReceiveTimeout, SendTimeout, TcpCongestion},
        },
        time::TimeVal,
    },
};

use crate::bench::{endpoints::Endpoint, error::Error, workload::Wait};

/// Timeout of a reply, which takes some microseconds on one core.
pub(super) const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// Timeout for establishing a connection and for a stalled one. It is longer than the first TCP retransmissions.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A spinning end reads the clock once per this many attempts.
const SPINS: u32 = 64;

/// Cubic is always available (`net/ipv4/tcp_cubic.c`) and does not pace, unlike BBR. It is set before the socket
/// connects: a socket that starts with BBR stays paced until it is closed (`sk_pacing_status` in `net/ipv4/tcp_bbr.c`).
pub const CONGESTION_CONTROL: &str = "cubic";

/// A UDP socket bound to an address and a free port.
pub(super) fn udp(address: IpAddr, wait: Wait) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(address, 0))?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    socket.set_nonblocking(wait == Wait::Spinning)?;
    Ok(socket)
}

/// A UDP socket at each end.
pub(super) async fn udp_sockets(
    (client_end, server_end): (&Endpoint, &Endpoint),
    (from, to): (IpAddr, IpAddr),
    wait: Wait,
) -> Result<io::Result<(UdpSocket, UdpSocket)>, Error> {
    let (a, b) =
        (client_end.run(move || udp(from, wait)).await?, server_end.run(move || udp(to, wait)).await?);
    Ok(a.and_then(|a| Ok((a, b?))))
}

/// Two UDP sockets that are connected to each other.
pub(super) async fn udp_pair(
    ends: (&Endpoint, &Endpoint),
    addresses: (IpAddr, IpAddr),
    wait: Wait,
) -> Result<io::Result<(UdpSocket, UdpSocket)>, Error> {
    let connected = |(a, b): (UdpSocket, UdpSocket)| {
        a.connect(b.local_addr()?)?;
        b.connect(a.local_addr()?)?;
        Ok((a, b))
    };
    Ok(udp_sockets(ends, addresses, wait).await?.and_then(connected))
}

/// A listening TCP socket. `accept` has the same timeout as a read.
pub(super) fn listener(address: IpAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::new(address, 0))?;
    // Accepted sockets inherit it.
    with_cubic(&listener)?;
    setsockopt(&listener, ReceiveTimeout, &timeval(READ_TIMEOUT))?;
    Ok(listener)
}

/// The two ends of a new TCP connection, with cubic and without Nagle's algorithm.
pub(super) async fn tcp_pair(
    (client_end, server_end): (&Endpoint, &Endpoint),
    (from, to): (IpAddr, IpAddr),
    wait: Wait,
) -> Result<io::Result<(TcpStream, TcpStream)>, Error> {
    let listening = match server_end.run(move || listener(to)).await? {
        Ok(listening) => listening,
        Err(error) => return Ok(Err(error)),
    };
    let target = match listening.local_addr() {
        Ok(target) => target,
        Err(error) => return Ok(Err(error)),
    };
    let accepted = server_end.run(move || accept(&listening));
    let connected = client_end.run(move || dial(from, target)).await?;
    let accepted = accepted.await?;
    let both = || {
        // The connecting end has the cause of a failure; the accepting end has only timed out.
        let both = (connected?, accepted?);
        for stream in [&both.0, &both.1] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(READ_TIMEOUT))?;
            stream.set_write_timeout(Some(READ_TIMEOUT))?;
            stream.set_nonblocking(wait == Wait::Spinning)?;
        }
        Ok(both)
    };
    Ok(both())
}

fn accept(listening: &TcpListener) -> io::Result<TcpStream> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        match listening.accept() {
            Err(error) if is_nothing_yet(&error) && Instant::now() < deadline => {}
            other => return other.map(|(stream, _)| stream),
        }
    }
}

fn with_cubic(socket: impl AsFd) -> nix::Result<()> {
    setsockopt(&socket, TcpCongestion, &OsString::from(CONGESTION_CONTROL))
}

/// Connects with cubic, within a timeout.
pub(super) fn dial(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    limit(&socket, CONNECT_TIMEOUT)?;
    with_cubic(&socket)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        // `connect` returns EINPROGRESS when the socket's send timeout expires.
        Err(nix::errno::Errno::EINPROGRESS) => Err(ErrorKind::TimedOut.into()),
        Err(errno) => Err(errno.into()),
        Ok(()) => Ok(socket.into()),
    }
}

fn limit(socket: impl AsFd, time: Duration) -> nix::Result<()> {
    setsockopt(&socket, SendTimeout, &timeval(time))?;
    setsockopt(&socket, ReceiveTimeout, &timeval(time))
}

fn timeval(time: Duration) -> TimeVal {
    // From microseconds.
    let microseconds = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    TimeVal::new(microseconds / 1_000_000, microseconds % 1_000_000)
}

/// Blocks until the socket is readable. Between slices an end must not spin on a CPU that others are measured on.
pub(super) fn sleep(socket: impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Repeats `operation` until it succeeds. A blocking socket waits in it; a spinning one is polled. `None` on timeout.
pub(super) fn persist<T>(wait: Wait, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    let mut spins = 0_u32;
    let mut began = None;
    loop {
        match operation() {
            Ok(done) => return Ok(Some(done)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_nothing_yet(&error) && wait == Wait::Blocking => return Ok(None),
            Err(error) if is_nothing_yet(&error) => {
                spins = spins.wrapping_add(1);
                if spins.is_multiple_of(SPINS)
                    && began.get_or_insert_with(Instant::now).elapsed() > READ_TIMEOUT
                {
                    return Ok(None);
                }
                hint::spin_loop();
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes all bytes. Returns false if `stop` was set in the meantime.
pub(super) fn write_all(
    stream: &TcpStream,
    mut bytes: &[u8],
    wait: Wait,
    stop: &AtomicBool,
) -> io::Result<bool> {
    let mut stuck = None;
    while !bytes.is_empty() {
        match persist(wait, || (&*stream).write(bytes))? {
            Some(written) => bytes = &bytes[written..],
            None if stop.load(Ordering::Relaxed) => return Ok(false),
            None => be_patient(&mut stuck)?,
        }
    }
    Ok(true)
}

/// Fills the buffer. Returns false if `stop` was set in the meantime.
pub(super) fn read_exact(
    stream: &TcpStream,
    mut room: &mut [u8],
    wait: Wait,
    stop: &AtomicBool,
) -> io::Result<bool> {
    let mut stuck = None;
    while !room.is_empty() {
        match persist(wait, || (&*stream).read(room))? {
            Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Some(read) => room = &mut room[read..],
            None if stop.load(Ordering::Relaxed) => return Ok(false),
            None => be_patient(&mut stuck)?,
        }
    }
    Ok(true)
}

/// # Errors
/// The connection has been stalled for too long.
pub(super) fn be_patient(stuck: &mut Option<Instant>) -> io::Result<()> {
    if stuck.get_or_insert_with(Instant::now).elapsed() > CONNECT_TIMEOUT {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(())
}

pub(super) fn is_nothing_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr};

    use nix::sys::socket::getsockopt;

    use super::*;
    use crate::kernel::{Netns, Rtnl};

    /// Both ends use cubic before they connect, if the namespace's default is another.
    #[tokio::test]
    async fn connections_begin_with_cubic_whatever_is_usual() {
        let Ok(netns) = Netns::create("one with reno") else { return eprintln!("SKIPPED: it needs root") };
        Rtnl::open(&netns).unwrap().set_up(1, "lo").await.unwrap();
        let usual = "/proc/sys/net/ipv4/tcp_congestion_control";
        let name = |socket: &dyn AsFd| getsockopt(&socket.as_fd(), TcpCongestion).unwrap();
        netns
            .run(|| {
                fs::write(usual, "reno").unwrap();
                let here = IpAddr::from(Ipv4Addr::LOCALHOST);
                let listening = listener(here).unwrap();
                let dialled = dial(here, listening.local_addr().unwrap()).unwrap();
                let accepted = accept(&listening).unwrap();
                for end in [&listening as &dyn AsFd, &dialled, &accepted] {
                    assert_eq!(name(end), CONGESTION_CONTROL);
                }
            })
            .unwrap();
    }
}
