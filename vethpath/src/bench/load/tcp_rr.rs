//! Round trips over an open TCP connection: a message and its echo.

use std::{
    io::{self, ErrorKind},
    net::TcpStream,
    sync::atomic::AtomicBool,
    time::Instant,
};

use super::{
    interface::Window,
    socket::{read_exact, sleep, write_all},
};
use crate::bench::{measurement::Measurement, workload::Wait};

/// First byte of a request, and of the message that ends a slice.
pub(super) const REQUEST: u8 = 0;
const DONE: u8 = 1;

/// Never set: a process is ended by a signal.
static NEVER: AtomicBool = AtomicBool::new(false);

/// The client, in its process.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) size: usize,
    pub(super) wait: Wait,
}

impl Client {
    pub(super) fn run_slice(&mut self, window: Window) -> io::Result<Measurement> {
        let mut measured = Measurement::round_trips()?;
        let (mut message, mut room) = (vec![REQUEST; self.size], vec![0; self.size]);
        loop {
            let started = Instant::now();
            if started >= window.end {
                message[0] = DONE;
                let _ = write_all(&self.stream, &message, self.wait, &NEVER)?;
                return Ok(measured);
            }
            measured.sent += 1;
            let there_and_back = write_all(&self.stream, &message, self.wait, &NEVER)?
                && read_exact(&self.stream, &mut room, self.wait, &NEVER)?;
            if there_and_back {
                measured.record(started.elapsed(), started >= window.warm);
            }
        }
    }
}

/// The server, in its process. It runs until the connection is closed.
pub(super) fn serve(stream: &TcpStream, size: usize, wait: Wait) -> io::Result<()> {
    let mut room = vec![0; size];
    loop {
        sleep(stream)?;
        loop {
            match read_exact(stream, &mut room, wait, &NEVER) {
                Ok(_) if room[0] == DONE => break,
                Ok(_) => {
                    let _ = write_all(stream, &room, wait, &NEVER)?;
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
