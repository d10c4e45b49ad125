//! TCP connections, one after the other: opened, greeted with a byte, closed.
//!
//! The greeting keeps the two in step, so that no queue of half-open connections runs over. Whoever has
//! opened a connection resets it (SO_LINGER of 0 s): in TIME_WAIT the ports would be used up in seconds.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt::Linger},
};

use super::{
    Arrived, End, Error, Load, Measured, Wait, Window,
    socket::{dial, listener, persist},
};

/// SYN, its answer, the acknowledgement with it, the greeting and the reset.
const FRAMES: u64 = 5;

/// Who listens, and who calls.
pub(super) struct TcpConnect {
    listening: TcpListener,
    from: IpAddr,
    to: SocketAddr,
    /// Whether the next connection is the last of the slice.
    last: AtomicBool,
}

impl TcpConnect {
    pub(super) async fn open(
        (_, answers): (&End, &End),
        (from, to): (IpAddr, IpAddr),
    ) -> Result<io::Result<Self>, Error> {
        let open = |listening: TcpListener| {
            let to = listening.local_addr()?;
            Ok(Self { listening, from, to, last: AtomicBool::new(false) })
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
        self.last.store(false, Ordering::Release);
    }

    fn ask(&self, window: Window, stop: &AtomicBool) -> io::Result<Measured> {
        let mut measured = Measured::counted();
        let mut since = None;
        loop {
            let begin = Instant::now();
            if begin >= window.warm && since.is_none() {
                (since, measured.within) = (Some(begin), 0);
            }
            if begin >= window.end || stop.load(Ordering::Relaxed) {
                measured.window = since.map(|since| begin - since).unwrap_or_default();
                self.last.store(true, Ordering::Release);
                let _ = self.connect();
                return Ok(measured);
            }
            self.connect()?;
            measured.sent += 1;
            measured.received += 1;
            measured.within += 1;
        }
    }

    fn answer(&self, stop: &AtomicBool) -> io::Result<Arrived> {
        loop {
            match persist(Wait::Blocking, || self.listening.accept())? {
                Some((mut stream, _)) => {
                    // The caller may be gone already.
                    let _ = stream.write(&[0]);
                    if self.last.load(Ordering::Acquire) {
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
