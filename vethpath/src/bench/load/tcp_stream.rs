//! Bytes over one TCP connection, as many as will go.

use std::{
    io::{self, ErrorKind, Read},
    net::{IpAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use super::{
    Arrived, End, Error, Load, Measured, Timing, Wait, Window,
    socket::{be_patient, persist, tcp_pair, write_all},
};

/// Bytes that are read at a time at most.
const ROOM: usize = 256 << 10;

/// What is not known yet.
const UNKNOWN: u64 = u64::MAX;

/// The ends of the connection, and what the sender tells the receiver of the slice.
pub(super) struct TcpStreaming {
    sending: TcpStream,
    receiving: TcpStream,
    size: usize,
    /// Bytes sent before the measuring began.
    warm_up: AtomicU64,
    /// Bytes sent before it ended.
    measured: AtomicU64,
    /// All bytes of the slice.
    all: AtomicU64,
}

impl TcpStreaming {
    pub(super) async fn open(
        ends: (&End, &End),
        addresses: (IpAddr, IpAddr),
        size: usize,
    ) -> Result<io::Result<Self>, Error> {
        let unknown = || AtomicU64::new(UNKNOWN);
        let pair = tcp_pair(ends, addresses, Wait::Blocking).await?;
        Ok(pair.map(|(sending, receiving)| Self {
            sending,
            receiving,
            size,
            warm_up: unknown(),
            measured: unknown(),
            all: unknown(),
        }))
    }
}

impl Load for TcpStreaming {
    fn begin(&self) {
        for told in [&self.warm_up, &self.measured, &self.all] {
            told.store(UNKNOWN, Ordering::Release);
        }
    }

    fn ask(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measured> {
        let window = Window::begin(timing);
        let mut measured = Measured::counted();
        let chunk = vec![0; self.size];
        let mut since = None;
        loop {
            let now = Instant::now();
            if now >= window.warm && since.is_none() {
                since = Some((now, measured.sent));
                self.warm_up.store(measured.sent, Ordering::Release);
            }
            if now >= window.end || stop.load(Ordering::Relaxed) {
                break;
            }
            if !write_all(&self.sending, &chunk, Wait::Blocking, stop)? {
                break;
            }
            measured.sent += chunk.len() as u64;
        }
        self.measured.store(measured.sent, Ordering::Release);
        // One byte more than was told wakes the receiver up to be told.
        measured.sent += 1;
        self.all.store(measured.sent, Ordering::Release);
        let _ = write_all(&self.sending, &[0], Wait::Blocking, stop)?;
        // What is under way when the window begins and when it ends is about as much.
        measured.window = since.map(|(since, _)| since.elapsed()).unwrap_or_default();
        Ok(measured)
    }

    fn answer(&self, stop: &AtomicBool) -> io::Result<Arrived> {
        let mut room = vec![0; ROOM];
        let mut all = 0;
        let mut stuck = None;
        while all < self.all.load(Ordering::Acquire) {
            match persist(Wait::Blocking, || (&self.receiving).read(&mut room))? {
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(read) => all += read as u64,
                // Once the sender has told how much it was, everything is waited for: the rest would
                // be taken for the next slice's.
                None if stop.load(Ordering::Relaxed) && self.all.load(Ordering::Acquire) == UNKNOWN => break,
                None => be_patient(&mut stuck)?,
            }
        }
        let [before, within] =
            [&self.warm_up, &self.measured].map(|told| told.load(Ordering::Acquire).min(all));
        Ok(Arrived { all, within: within - before.min(within), ..Arrived::default() })
    }

    fn fewest_frames(&self, _: &Measured) -> u64 {
        // Segments may be of any size.
        1
    }
}
