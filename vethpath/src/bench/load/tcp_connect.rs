//! TCP connections in sequence: opened, one byte sent by the server, closed.
//!
//! The byte synchronizes the two ends, so that the queue of half-open connections cannot overflow. The client resets
//! each connection (SO_LINGER of 0 s): in TIME_WAIT the ports would run out within seconds.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt::Linger},
};

use super::{
    interface::{Arrived, Load, Window},
    socket::{dial, listener, persist},
};
use crate::bench::{
    endpoints::Endpoint,
    error::Error,
    measurement::{Measurement, Timing},
    workload::Wait,
};

/// SYN, SYN-ACK, ACK, the byte and the RST.
const FRAMES: u64 = 5;

/// The listening socket, and both addresses of a connection.
pub(super) struct TcpConnect {
    listening: TcpListener,
    from: IpAddr,
    to: SocketAddr,
    /// Number of the slice's last connection, counted from 1. It is `NONE` until the slice ends.
    last: AtomicU64,
}

/// Not a valid connection number.
const NONE: u64 = u64::MAX;

impl TcpConnect {
    pub(super) async fn open(
        (_, server_end): (&Endpoint, &Endpoint),
        (from, to): (IpAddr, IpAddr),
    ) -> Result<io::Result<Self>, Error> {
        let open = |listening: TcpListener| {
            let to = listening.local_addr()?;
            Ok(Self { listening, from, to, last: AtomicU64::new(NONE) })
        };
        Ok(server_end.run(move || listener(to)).await?.and_then(open))
    }

    fn connect(&self) -> io::Result<()> {
        let mut stream = dial(self.from, self.to)?;
        setsockopt(&stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        stream.read_exact(&mut [0])
    }
}

impl Load for TcpConnect {
    fn prepare(&self) {
        self.last.store(NONE, Ordering::Release);
    }

    fn run_client(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measurement> {
        let window = Window::start(timing);
        let mut measured = Measurement::counted();
        let mut since = None;
        loop {
            let started = Instant::now();
            if started >= window.warm && since.is_none() {
                (since, measured.within) = (Some(started), 0);
            }
            if started >= window.end || stop.load(Ordering::Relaxed) {
                measured.window = since.map(|since| started - since).unwrap_or_default();
                // It is a number and not a flag: the server may not have read `last` since the previous connection.
                self.last.store(measured.sent + 1, Ordering::Release);
                // If `stop` is set, the server may be gone already.
                self.connect()
                    .or_else(|error| if stop.load(Ordering::Relaxed) { Ok(()) } else { Err(error) })?;
                return Ok(measured);
            }
            self.connect()?;
            measured.sent += 1;
            measured.received += 1;
            measured.within += 1;
        }
    }

    fn run_server(&self, stop: &AtomicBool) -> io::Result<Arrived> {
        let mut greeted = 0;
        loop {
            match persist(Wait::Blocking, || self.listening.accept())? {
                Some((mut stream, _)) => {
                    // The client may be gone already.
                    let _ = stream.write(&[0]);
                    greeted += 1;
                    if greeted >= self.last.load(Ordering::Acquire) {
                        return Ok(Arrived::default());
                    }
                }
                None if stop.load(Ordering::Relaxed) => return Ok(Arrived::default()),
                None => {}
            }
        }
    }

    fn fewest_frames(&self, measured: &Measurement) -> u64 {
        FRAMES * measured.sent
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread, time::Duration};

    use super::*;

    const SLICE: Timing = Timing { warm_up: Duration::ZERO, measure: Duration::from_millis(1) };

    /// The server accepts until the last connection, whenever it reads which one that is.
    #[test]
    fn every_slice_ends_with_its_last_connection() {
        let listening = listener(Ipv4Addr::LOCALHOST.into()).unwrap();
        let (from, to) = (Ipv4Addr::LOCALHOST.into(), listening.local_addr().unwrap());
        let load = TcpConnect { listening, from, to, last: AtomicU64::new(NONE) };
        let never = AtomicBool::new(false);
        for _ in 0..300 {
            load.prepare();
            thread::scope(|scope| {
                let server = scope.spawn(|| load.run_server(&never).unwrap());
                let _ = load.run_client(SLICE, &never).unwrap();
                let _ = server.join().unwrap();
            });
        }
    }
}
