//! Round trips over an open TCP connection: a message there, and the same back.

use std::{
    io,
    net::{IpAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::{
    Arrived, End, Error, Load, Measured, Wait, Window,
    socket::{read_exact, tcp_pair, write_all},
};

/// The first byte of a message that wants an answer, and of the one that does not.
const ANSWER: u8 = 0;
const DONE: u8 = 1;

/// The ends of the connection.
pub(super) struct TcpRr {
    asking: TcpStream,
    answering: TcpStream,
    size: usize,
    wait: Wait,
    /// Whether the slice is over: a word from the slice before may have been left over.
    done: AtomicBool,
}

impl TcpRr {
    pub(super) async fn open(
        ends: (&End, &End),
        addresses: (IpAddr, IpAddr),
        size: usize,
        wait: Wait,
    ) -> Result<io::Result<Self>, Error> {
        let pair = tcp_pair(ends, addresses, wait).await?;
        Ok(pair.map(|(asking, answering)| Self {
            asking,
            answering,
            size,
            wait,
            done: AtomicBool::new(false),
        }))
    }
}

impl Load for TcpRr {
    fn begin(&self) {
        self.done.store(false, Ordering::Release);
    }

    fn ask(&self, window: Window, stop: &AtomicBool) -> io::Result<Measured> {
        let mut measured = Measured::round_trips()?;
        let (mut message, mut room) = (vec![ANSWER; self.size], vec![0; self.size]);
        loop {
            let begin = Instant::now();
            if begin >= window.end || stop.load(Ordering::Relaxed) {
                message[0] = DONE;
                self.done.store(true, Ordering::Release);
                let _ = write_all(&self.asking, &message, self.wait, stop)?;
                return Ok(measured);
            }
            measured.sent += 1;
            let there_and_back = write_all(&self.asking, &message, self.wait, stop)?
                && read_exact(&self.asking, &mut room, self.wait, stop)?;
            if there_and_back {
                measured.record(begin.elapsed(), begin >= window.warm);
            }
        }
    }

    fn answer(&self, stop: &AtomicBool) -> io::Result<Arrived> {
        let mut message = vec![0; self.size];
        while read_exact(&self.answering, &mut message, self.wait, stop)? {
            if message[0] == DONE {
                if self.done.load(Ordering::Acquire) {
                    break;
                }
            } else if !write_all(&self.answering, &message, self.wait, stop)? {
                break;
            }
        }
        Ok(Arrived::default())
    }

    fn fewest_frames(&self, measured: &Measured) -> u64 {
        2 * measured.received
    }
}
