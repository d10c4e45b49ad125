//! Round trips over an open TCP connection: a message there, and the same back.

use std::{
    io,
    net::{IpAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::{
    Arrived, End, Error, Load, Measured, Wait, Window,
    answerer::{ANSWER, Answer, Answerer, DONE},
    socket::{read_exact, tcp_pair, write_all},
};

/// The asker's end of the connection, and who has the other.
pub(super) struct TcpRr {
    asking: TcpStream,
    _answerer: Answerer,
    size: usize,
    wait: Wait,
}

impl TcpRr {
    pub(super) async fn open(
        ends: (&End, &End),
        addresses: (IpAddr, IpAddr),
        size: usize,
        wait: Wait,
    ) -> Result<io::Result<Self>, Error> {
        let (asking, answering) = match tcp_pair(ends, addresses, wait).await? {
            Ok(pair) => pair,
            Err(error) => return Ok(Err(error)),
        };
        let start = move || Answerer::start(answering, Answer::new(size, wait, None));
        Ok(ends.1.run(start).await?.map(|answerer| Self { asking, _answerer: answerer, size, wait }))
    }
}

impl Load for TcpRr {
    fn ask(&self, window: Window, stop: &AtomicBool) -> io::Result<Measured> {
        let mut measured = Measured::round_trips()?;
        let (mut message, mut room) = (vec![ANSWER; self.size], vec![0; self.size]);
        loop {
            let begin = Instant::now();
            if begin >= window.end || stop.load(Ordering::Relaxed) {
                message[0] = DONE;
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

    /// The other process does.
    fn answer(&self, _: &AtomicBool) -> io::Result<Arrived> {
        Ok(Arrived::default())
    }

    fn fewest_frames(&self, measured: &Measured) -> u64 {
        2 * measured.received
    }
}
