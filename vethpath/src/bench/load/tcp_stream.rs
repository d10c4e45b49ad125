//! Bytes over one TCP connection at the highest rate.

use std::{
    io::{self, ErrorKind, Read},
    net::{IpAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use super::{
    interface::{Arrived, Load, Window},
    socket::{be_patient, persist, tcp_pair, write_all},
};
use crate::bench::{
    endpoints::Endpoint,
    error::Error,
    measurement::{Measurement, Timing},
    workload::Wait,
};

/// Bytes per read at most.
const ROOM: usize = 256 << 10;

/// A counter that is not set yet.
const UNKNOWN: u64 = u64::MAX;

/// The ends of the connection, and the byte counters that the sender passes to the receiver.
pub(super) struct TcpStreaming {
    sending: TcpStream,
    receiving: TcpStream,
    size: usize,
    /// Bytes sent before the window began.
    warm_up: AtomicU64,
    /// Bytes sent before the window ended.
    measured: AtomicU64,
    /// All bytes of the slice.
    all: AtomicU64,
}

impl TcpStreaming {
    pub(super) async fn open(
        ends: (&Endpoint, &Endpoint),
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
    fn prepare(&self) {
        for count in [&self.warm_up, &self.measured, &self.all] {
            count.store(UNKNOWN, Ordering::Release);
        }
    }

    fn run_client(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measurement> {
        let window = Window::start(timing);
        let mut measured = Measurement::counted();
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
        // One byte more wakes the receiver, which then reads `all`.
        measured.sent += 1;
        self.all.store(measured.sent, Ordering::Release);
        let _ = write_all(&self.sending, &[0], Wait::Blocking, stop)?;
        // About the same amount is in flight at the start of the window and at its end.
        measured.window = since.map(|(since, _)| since.elapsed()).unwrap_or_default();
        Ok(measured)
    }

    fn run_server(&self, stop: &AtomicBool) -> io::Result<Arrived> {
        let mut room = vec![0; ROOM];
        let mut all = 0;
        let mut stuck = None;
        while all < self.all.load(Ordering::Acquire) {
            match persist(Wait::Blocking, || (&self.receiving).read(&mut room))? {
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(read) => all += read as u64,
                // Once `all` is set, everything must be read: the rest would count for the next slice.
                None if stop.load(Ordering::Relaxed) && self.all.load(Ordering::Acquire) == UNKNOWN => break,
                None => be_patient(&mut stuck)?,
            }
        }
        let [before, within] =
            [&self.warm_up, &self.measured].map(|count| count.load(Ordering::Acquire).min(all));
        Ok(Arrived { all, within: within - before.min(within), ..Arrived::default() })
    }

    fn fewest_frames(&self, _: &Measurement) -> u64 {
        // Segments may have any size.
        1
    }
}
