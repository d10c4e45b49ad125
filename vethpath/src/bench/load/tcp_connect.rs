//! TCP connections, one after the other: opened, greeted with a byte, closed.
//!
//! The greeting keeps the two in step, so that no queue of half-open connections runs over. Whoever has
//! opened a connection resets it (SO_LINGER of 0 s): in TIME_WAIT the ports would be used up in seconds.

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
    Arrived, End, Error, Load, Measured, Timing, Wait, Window,
    socket::{dial, listener, persist},
};

/// SYN, its answer, the acknowledgement with it, the greeting and the reset.
const FRAMES: u64 = 5;

/// Who listens, and who calls.
pub(super) struct TcpConnect {
    listening: TcpListener,
    from: IpAddr,
    to: SocketAddr,
    /// Which connection is the last of the slice, counted from 1; none before it is over.
    last: AtomicU64,
}

/// No connection has this number.
const NONE: u64 = u64::MAX;

impl TcpConnect {
    pub(super) async fn open(
        (_, answers): (&End, &End),
        (from, to): (IpAddr, IpAddr),
    ) -> Result<io::Result<Self>, Error> {
        let open = |listening: TcpListener| {
            let to = listening.local_addr()?;
            Ok(Self { listening, from, to, last: AtomicU64::new(NONE) })
        };
        Ok(answers.run(move || listener(to)).await?.and_then(open))
    }

    fn connect(&self) -> io::Result<()> {
        let mut stream = dial(self.from, self.to)?;
        setsockopt(&stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        stream.read_exact(&mut [0])
    }
}

impl Load for TcpConnect {
    fn begin(&self) {
        self.last.store(NONE, Ordering::Release);
    }

    fn ask(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measured> {
        let window = Window::begin(timing);
        let mut measured = Measured::counted();
        let mut since = None;
        loop {
            let begin = Instant::now();
            if begin >= window.warm && since.is_none() {
                (since, measured.within) = (Some(begin), 0);
            }
            if begin >= window.end || stop.load(Ordering::Relaxed) {
                measured.window = since.map(|since| begin - since).unwrap_or_default();
                // By number: whoever answers may not have looked yet since it greeted the one before.
                self.last.store(measured.sent + 1, Ordering::Release);
                // Who has been told to stop may be gone already.
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

    fn answer(&self, stop: &AtomicBool) -> io::Result<Arrived> {
        let mut greeted = 0;
        loop {
            match persist(Wait::Blocking, || self.listening.accept())? {
                Some((mut stream, _)) => {
                    // The caller may be gone already.
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

    fn fewest_frames(&self, measured: &Measured) -> u64 {
        FRAMES * measured.sent
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread, time::Duration};

    use super::*;

    const SLICE: Timing = Timing { warm_up: Duration::ZERO, measure: Duration::from_millis(1) };

    /// Whoever answers does so until the last, whenever it looks which that is.
    #[test]
    fn every_slice_ends_with_its_last_connection() {
        let listening = listener(Ipv4Addr::LOCALHOST.into()).unwrap();
        let (from, to) = (Ipv4Addr::LOCALHOST.into(), listening.local_addr().unwrap());
        let both = TcpConnect { listening, from, to, last: AtomicU64::new(NONE) };
        let never = AtomicBool::new(false);
        for _ in 0..300 {
            both.begin();
            thread::scope(|scope| {
                let answering = scope.spawn(|| both.answer(&never).unwrap());
                let _ = both.ask(SLICE, &never).unwrap();
                let _ = answering.join().unwrap();
            });
        }
    }
}
