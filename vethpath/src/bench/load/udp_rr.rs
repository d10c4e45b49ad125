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
    socket::{PATIENCE, persist, udp_sockets},
};

/// The ends. What anybody else sends them is none of theirs, as if they were connected.
pub(super) struct UdpRr {
    asking: UdpSocket,
    answering: UdpSocket,
    /// Where the asker is.
    from: SocketAddr,
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
        ends: (&End, &End),
        addresses: (IpAddr, IpAddr),
        size: usize,
        wait: Wait,
    ) -> Result<io::Result<Self>, Error> {
        let open = |(asking, answering)| Self::between(asking, answering, size, wait);
        Ok(udp_sockets(ends, addresses, wait).await?.and_then(open))
    }

    fn between(asking: UdpSocket, answering: UdpSocket, size: usize, wait: Wait) -> io::Result<Self> {
        let (from, to) = (asking.local_addr()?, answering.local_addr()?);
        Ok(Self { asking, answering, from, to, size, wait, done: AtomicBool::new(false) })
    }

    /// One datagram there and back. False if it was lost.
    fn round_trip(&self, number: u64, datagram: &mut [u8], room: &mut [u8]) -> io::Result<bool> {
        // As much of it as a short datagram has room for tells it from those just before.
        let number = number.to_le_bytes();
        let told = number.len().min(datagram.len());
        datagram[..told].copy_from_slice(&number[..told]);
        let _ = persist(self.wait, || self.asking.send_to(datagram, self.to))?;
        let mut others = None;
        loop {
            match persist(self.wait, || self.asking.recv_from(room))? {
                Some((length, from))
                    if from == self.to && length == datagram.len() && room[..told] == datagram[..told] =>
                {
                    return Ok(true);
                }
                // The answer to one that was given up, or somebody else's, who must not keep us here.
                Some(_) if others.get_or_insert_with(Instant::now).elapsed() <= PATIENCE => {}
                _ => return Ok(false),
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
                Some((length, from)) if from == self.from => match length {
                    0 if self.done.load(Ordering::Acquire) => return Ok(Arrived::default()),
                    0 => {}
                    _ => {
                        let _ = persist(self.wait, || self.answering.send_to(&datagram[..length], from))?;
                    }
                },
                // Nothing, or somebody else's.
                _ if stop.load(Ordering::Relaxed) => return Ok(Arrived::default()),
                _ => {}
            }
        }
    }

    fn fewest_frames(&self, measured: &Measured) -> u64 {
        2 * measured.received
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, Ipv6Addr},
        thread,
        time::Duration,
    };

    use super::{
        super::{Timing, socket::udp},
        *,
    };

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(5), measure: Duration::from_millis(20) };

    fn anybody(address: IpAddr) -> UdpSocket {
        udp(address, Wait::Blocking).unwrap()
    }

    fn at(address: IpAddr, size: usize) -> UdpRr {
        UdpRr::between(anybody(address), anybody(address), size, Wait::Blocking).unwrap()
    }

    fn both(size: usize) -> UdpRr {
        at(Ipv4Addr::LOCALHOST.into(), size)
    }

    #[test]
    fn what_is_asked_is_answered_and_counted() {
        for size in [1, 64, 9000] {
            let both = both(size);
            // Left over from a slice before: no answer to anything.
            both.answering.send_to(&vec![7; size], both.from).unwrap();
            // What looks like the answer to the first question, from somebody else.
            let mut answer = vec![0; size];
            answer[0] = 1;
            anybody(both.from.ip()).send_to(&answer, both.from).unwrap();
            // And the word that it was over.
            both.asking.send_to(&[], both.to).unwrap();
            assert_nothing_is_lost(&both);
        }
    }

    fn assert_nothing_is_lost(both: &UdpRr) {
        let measured = thread::scope(|scope| {
            let answering = scope.spawn(|| both.answer(&AtomicBool::new(true)).unwrap());
            let measured = both.ask(Window::begin(SLICE), &AtomicBool::new(false)).unwrap();
            let _ = answering.join().unwrap();
            measured
        });
        assert!(measured.sent > 0 && !measured.is_empty(), "{measured:?}");
        assert_eq!(measured.lost(), 0);
    }

    #[test]
    fn addresses_of_ipv6_are_known_again() {
        assert_nothing_is_lost(&at(Ipv6Addr::LOCALHOST.into(), 64));
    }

    #[test]
    fn others_are_not_answered_and_keep_nobody() {
        let both = both(64);
        let other = anybody(both.from.ip());
        let (ended, over) = (AtomicBool::new(false), AtomicBool::new(false));
        // Not for ever, or a failure would not be told.
        let deadline = Instant::now() + Duration::from_secs(30);
        let talk = || {
            while !ended.load(Ordering::Relaxed) && Instant::now() < deadline {
                for (bytes, to) in [(&[7; 64][..], both.from), (&[7; 64], both.to), (&[], both.to)] {
                    other.send_to(bytes, to).unwrap();
                }
                thread::sleep(Duration::from_millis(1));
            }
            ended.load(Ordering::Relaxed)
        };
        let long = Timing { measure: Duration::from_secs(600), ..SLICE };
        thread::scope(|scope| {
            let talking = scope.spawn(talk);
            // Nobody answers, but others talk.
            let measured = both.ask(Window::begin(long), &over).unwrap();
            assert!(measured.has_lost_round_trips() && measured.is_empty(), "{measured:?}");
            // What was asked until now is answered; then nobody asks any more, but others talk.
            both.begin();
            over.store(true, Ordering::Relaxed);
            let _ = both.answer(&over).unwrap();
            ended.store(true, Ordering::Relaxed);
            assert!(talking.join().unwrap(), "it took until they were silent");
        });
        assert!(other.recv(&mut [0; 64]).is_err(), "it was answered");
    }

    #[test]
    fn nobody_answers_and_nothing_hangs() {
        let both = both(64);
        let long = Timing { measure: Duration::from_secs(600), ..SLICE };
        let measured = both.ask(Window::begin(long), &AtomicBool::new(false)).unwrap();
        assert!(measured.has_lost_round_trips() && measured.is_empty(), "{measured:?}");
    }
}
