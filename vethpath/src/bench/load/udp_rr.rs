//! UDP round trips: one asks, the other sends it back.
//!
//! Their sockets are not connected, as those of most servers and of sockperf are not: the kernel finds the
//! route for each datagram anew, for 0.2 us or so.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Instant,
};

use super::{
    End, Error, Measured, Wait, Window,
    peer::sleep,
    round_trips::RoundTrips,
    socket::{READ_TIMEOUT, persist, udp_sockets},
};

/// Two processes, each with a socket. What anybody else sends them is none of theirs, as if they were connected.
pub(super) async fn open(
    ends: (&End, &End),
    addresses: (IpAddr, IpAddr),
    size: usize,
    wait: Wait,
) -> Result<io::Result<RoundTrips>, Error> {
    let sockets = udp_sockets(ends, addresses, wait).await?.and_then(|(asking, answering)| {
        // It need not look up from time to time, which takes a timer for each datagram.
        answering.set_read_timeout(None)?;
        let addresses = (asking.local_addr()?, answering.local_addr()?);
        Ok(((asking, answering), addresses))
    });
    match sockets {
        Ok((sockets, addresses)) => RoundTrips::start(ends, sockets, Some(addresses), size, wait).await,
        Err(error) => Ok(Err(error)),
    }
}

/// The end that asks, in its process.
pub(super) struct Asking {
    pub(super) socket: UdpSocket,
    /// Where the answerer is.
    pub(super) to: SocketAddr,
    pub(super) size: usize,
    pub(super) wait: Wait,
}

impl Asking {
    pub(super) fn ask(&mut self, window: Window) -> io::Result<Measured> {
        let mut measured = Measured::round_trips()?;
        let (mut datagram, mut room) = (vec![0; self.size], vec![0; self.size]);
        loop {
            let begin = Instant::now();
            if begin >= window.end || measured.has_lost_round_trips() {
                // To the answerer, that it is over. If this is lost too, it hears nothing for a while.
                let _ = self.socket.send_to(&[], self.to);
                return Ok(measured);
            }
            measured.sent += 1;
            if self.round_trip(measured.sent, &mut datagram, &mut room)? {
                measured.record(begin.elapsed(), begin >= window.warm);
            }
        }
    }

    /// One datagram there and back. False if it was lost.
    fn round_trip(&self, number: u64, datagram: &mut [u8], room: &mut [u8]) -> io::Result<bool> {
        // As much of it as a short datagram has room for tells it from those just before.
        let number = number.to_le_bytes();
        let told = number.len().min(datagram.len());
        datagram[..told].copy_from_slice(&number[..told]);
        let _ = persist(self.wait, || self.socket.send_to(datagram, self.to))?;
        let mut others = None;
        loop {
            match persist(self.wait, || self.socket.recv_from(room))? {
                Some((length, from))
                    if from == self.to && length == datagram.len() && room[..told] == datagram[..told] =>
                {
                    return Ok(true);
                }
                // The answer to one that was given up, or somebody else's, who must not keep us here.
                Some(_) if others.get_or_insert_with(Instant::now).elapsed() <= READ_TIMEOUT => {}
                _ => return Ok(false),
            }
        }
    }
}

/// The end that answers, in its process, until that is ended.
pub(super) fn answer(socket: &UdpSocket, asker: SocketAddr, size: usize, wait: Wait) -> io::Result<()> {
    let mut room = vec![0; size];
    loop {
        sleep(socket)?;
        // Until it is told that the slice is over. Who spins does so no longer than until it hears nothing for a while.
        while let Some((length, from)) = persist(wait, || socket.recv_from(&mut room))? {
            match length {
                _ if from != asker => {}
                0 => break,
                _ => {
                    let _ = persist(wait, || socket.send_to(&room[..length], from))?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, Ipv6Addr},
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::Duration,
    };

    use super::{
        super::{Timing, peer::Answerer, socket::udp},
        *,
    };

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(5), measure: Duration::from_millis(20) };

    /// Slices that must be whole, and how many there may be in all: a busy machine is too late for some answers.
    const WHOLE: usize = 10;
    const MOST: usize = 1000;

    fn anybody(address: IpAddr) -> UdpSocket {
        udp(address, Wait::Blocking).unwrap()
    }

    /// One that asks here, and a process that answers.
    fn between(asking: UdpSocket, answering: UdpSocket, size: usize, wait: Wait) -> (Asking, Answerer) {
        let (from, to) = (asking.local_addr().unwrap(), answering.local_addr().unwrap());
        let answerer = Answerer::start(answering, size, wait, Some(from)).unwrap();
        (Asking { socket: asking, to, size, wait }, answerer)
    }

    fn at(address: IpAddr, size: usize) -> (Asking, Answerer) {
        between(anybody(address), anybody(address), size, Wait::Blocking)
    }

    /// One slice after the other: each wakes up who slept since the one before.
    fn assert_nothing_is_lost((asking, _): &mut (Asking, Answerer)) {
        let slices = (0..MOST).map(|_| asking.ask(Window::begin(SLICE)).unwrap());
        let whole = slices.filter(|measured| measured.lost() == 0 && !measured.is_empty());
        assert_eq!(whole.take(WHOLE).count(), WHOLE);
    }

    #[test]
    fn what_is_asked_is_answered_and_counted() {
        for (size, wait) in
            [(1, Wait::Blocking), (64, Wait::Blocking), (9000, Wait::Blocking), (64, Wait::Spinning)]
        {
            let [asking, answering] = [(); 2].map(|()| udp(Ipv4Addr::LOCALHOST.into(), wait).unwrap());
            let (from, to) = (asking.local_addr().unwrap(), answering.local_addr().unwrap());
            // Left over from a slice before: no answer to anything.
            answering.send_to(&vec![7; size], from).unwrap();
            // What looks like the answer to the first question, from somebody else.
            let mut answer = vec![0; size];
            answer[0] = 1;
            anybody(from.ip()).send_to(&answer, from).unwrap();
            // And the word that it was over.
            asking.send_to(&[], to).unwrap();
            assert_nothing_is_lost(&mut between(asking, answering, size, wait));
        }
    }

    #[test]
    fn addresses_of_ipv6_are_known_again() {
        assert_nothing_is_lost(&mut at(Ipv6Addr::LOCALHOST.into(), 64));
    }

    #[test]
    fn others_are_not_answered_and_keep_nobody() {
        let mut both = at(Ipv4Addr::LOCALHOST.into(), 64);
        let (from, to) = (both.0.socket.local_addr().unwrap(), both.0.to);
        let other = anybody(to.ip());
        let ended = AtomicBool::new(false);
        // Not for ever, or a failure would not be told.
        let deadline = Instant::now() + Duration::from_secs(30);
        let talk = || {
            while !ended.load(Ordering::Relaxed) && Instant::now() < deadline {
                for (bytes, to) in [(&[7; 64][..], from), (&[7; 64], to), (&[], to)] {
                    other.send_to(bytes, to).unwrap();
                }
                thread::sleep(Duration::from_millis(1));
            }
            ended.load(Ordering::Relaxed)
        };
        thread::scope(|scope| {
            let talking = scope.spawn(talk);
            assert_nothing_is_lost(&mut both);
            ended.store(true, Ordering::Relaxed);
            assert!(talking.join().unwrap(), "it took until they were silent");
        });
        assert!(other.recv(&mut [0; 64]).is_err(), "it was answered");
    }

    #[test]
    fn nobody_answers_and_nothing_hangs() {
        let [socket, silent] = [(); 2].map(|()| anybody(Ipv4Addr::LOCALHOST.into()));
        let to = silent.local_addr().unwrap();
        let mut asking = Asking { socket, to, size: 64, wait: Wait::Blocking };
        let long = Timing { measure: Duration::from_secs(600), ..SLICE };
        // What it says is no answer.
        silent.send_to(&[7; 64], asking.socket.local_addr().unwrap()).unwrap();
        let measured = asking.ask(Window::begin(long)).unwrap();
        assert!(measured.has_lost_round_trips() && measured.is_empty(), "{measured:?}");
    }
}
