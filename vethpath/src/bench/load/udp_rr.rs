//! UDP round trips: one asks, the other sends it back.
//!
//! Their sockets are not connected, as those of most servers and of sockperf are not: the kernel finds the
//! route for each datagram anew, for 0.2 us or so.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::{
    Arrived, End, Error, Load, Measured, Wait, Window,
    socket::{persist, udp},
};

/// The ends.
pub(super) struct UdpRr {
    asking: UdpSocket,
    answering: UdpSocket,
    /// Where the answerer is.
    to: SocketAddr,
    size: usize,
    wait: Wait,
    /// Whether the slice is over. What says so too early is left over from the slice before, where the
    /// answerer stopped in the very moment in which it was told.
    done: AtomicBool,
}

impl UdpRr {
    pub(super) async fn open(
        (asks, answers): (&End, &End),
        (from, to): (IpAddr, IpAddr),
        size: usize,
        wait: Wait,
    ) -> Result<io::Result<Self>, Error> {
        let asking = asks.run(move || udp(from, wait)).await?;
        let answering = answers.run(move || udp(to, wait)).await?;
        Ok(asking.and_then(|asking| Self::between(asking, answering?, size, wait)))
    }

    fn between(asking: UdpSocket, answering: UdpSocket, size: usize, wait: Wait) -> io::Result<Self> {
        let to = answering.local_addr()?;
        Ok(Self { asking, answering, to, size, wait, done: AtomicBool::new(false) })
    }

    /// One datagram there and back. False if it was lost.
    fn round_trip(&self, number: u64, datagram: &mut [u8], room: &mut [u8]) -> io::Result<bool> {
        // As much of it as a short datagram has room for tells it from those just before.
        let number = number.to_le_bytes();
        let told = number.len().min(datagram.len());
        datagram[..told].copy_from_slice(&number[..told]);
        let _ = persist(self.wait, || self.asking.send_to(datagram, self.to))?;
        loop {
            match persist(self.wait, || self.asking.recv_from(room))? {
                Some((length, from))
                    if from == self.to && length == datagram.len() && room[..told] == datagram[..told] =>
                {
                    return Ok(true);
                }
                // The answer to one that was given up, or somebody else's.
                Some(_) => {}
                None => return Ok(false),
            }
        }
    }
}

impl Load for UdpRr {
    fn begin(&self) {
        self.done.store(false, Ordering::Release);
    }

    fn ask(&self, window: Window, stop: &AtomicBool) -> io::Result<Measured> {
        let mut measured = Measured::round_trips()?;
        let (mut datagram, mut room) = (vec![0; self.size], vec![0; self.size]);
        loop {
            let begin = Instant::now();
            if begin >= window.end || measured.has_lost_round_trips() || stop.load(Ordering::Relaxed) {
                // To the answerer, that it is done. If this is lost too, it hears nothing for a while.
                self.done.store(true, Ordering::Release);
                let _ = self.asking.send_to(&[], self.to);
                return Ok(measured);
            }
            measured.sent += 1;
            if self.round_trip(measured.sent, &mut datagram, &mut room)? {
                measured.record(begin.elapsed(), begin >= window.warm);
            }
        }
    }

    fn answer(&self, stop: &AtomicBool) -> io::Result<Arrived> {
        let mut datagram = vec![0; self.size];
        loop {
            match persist(self.wait, || self.answering.recv_from(&mut datagram))? {
                Some((0, _)) if self.done.load(Ordering::Acquire) => return Ok(Arrived::default()),
                Some((0, _)) => {}
                Some((length, from)) => {
                    let _ = persist(self.wait, || self.answering.send_to(&datagram[..length], from))?;
                }
                None if stop.load(Ordering::Relaxed) => return Ok(Arrived::default()),
                None => {}
            }
        }
    }

    fn fewest_frames(&self, measured: &Measured) -> u64 {
        2 * measured.received
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::{super::Timing, *};

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(5), measure: Duration::from_millis(20) };

    fn both(size: usize) -> UdpRr {
        let open = || udp([127, 0, 0, 1].into(), Wait::Blocking).unwrap();
        UdpRr::between(open(), open(), size, Wait::Blocking).unwrap()
    }

    #[test]
    fn what_is_asked_is_answered_and_counted() {
        for size in [1, 64, 9000] {
            let both = both(size);
            let asker = both.asking.local_addr().unwrap();
            // Left over from a slice before: no answer to anything.
            both.answering.send_to(&vec![7; size], asker).unwrap();
            // What looks like the answer to the first question, from somebody else.
            let mut answer = vec![0; size];
            answer[0] = 1;
            let other = udp([127, 0, 0, 1].into(), Wait::Blocking).unwrap();
            other.send_to(&answer, asker).unwrap();
            // And the word that it was over.
            both.asking.send_to(&[], both.to).unwrap();
            let measured = thread::scope(|scope| {
                let answering = scope.spawn(|| both.answer(&AtomicBool::new(true)).unwrap());
                let measured = both.ask(Window::begin(SLICE), &AtomicBool::new(false)).unwrap();
                let _ = answering.join().unwrap();
                measured
            });
            assert!(measured.sent > 0 && !measured.is_empty(), "{measured:?}");
            assert_eq!(measured.lost(), 0);
        }
    }

    #[test]
    fn nobody_answers_and_nothing_hangs() {
        let both = both(64);
        let long = Timing { measure: Duration::from_secs(600), ..SLICE };
        let measured = both.ask(Window::begin(long), &AtomicBool::new(false)).unwrap();
        assert!(measured.has_lost_round_trips() && measured.is_empty(), "{measured:?}");
    }
}
