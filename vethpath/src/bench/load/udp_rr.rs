//! UDP round trips: a request and its echo.
//!
//! The sockets are unconnected, like those of most servers and of sockperf. The kernel looks up the route for each
//! datagram, which takes about 0.2 us.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Instant,
};

use super::{
    interface::Window,
    socket::{READ_TIMEOUT, persist, sleep},
};
use crate::bench::{measurement::Measurement, workload::Wait};

/// The client, in its process.
pub(super) struct Client {
    pub(super) socket: UdpSocket,
    /// The server's address.
    pub(super) to: SocketAddr,
    pub(super) size: usize,
    pub(super) wait: Wait,
}

impl Client {
    pub(super) fn run_slice(&mut self, window: Window) -> io::Result<Measurement> {
        let mut measured = Measurement::round_trips()?;
        let (mut datagram, mut room) = (vec![0; self.size], vec![0; self.size]);
        loop {
            let started = Instant::now();
            if started >= window.end || measured.has_lost_round_trips() {
                // Ends the slice at the server. If this datagram is lost, the server times out.
                let _ = self.socket.send_to(&[], self.to);
                return Ok(measured);
            }
            measured.sent += 1;
            if self.round_trip(measured.sent, &mut datagram, &mut room)? {
                measured.record(started.elapsed(), started >= window.warm);
            }
        }
    }

    /// One round trip. Returns false if it was lost.
    fn round_trip(&self, number: u64, datagram: &mut [u8], room: &mut [u8]) -> io::Result<bool> {
        // The sequence number, truncated in a short datagram, identifies recent requests.
        let number = number.to_le_bytes();
        let length = number.len().min(datagram.len());
        datagram[..length].copy_from_slice(&number[..length]);
        let _ = persist(self.wait, || self.socket.send_to(datagram, self.to))?;
        let mut others = None;
        loop {
            match persist(self.wait, || self.socket.recv_from(room))? {
                Some((length, from))
                    if from == self.to
                        && length == datagram.len()
                        && room[..length] == datagram[..length] =>
                {
                    return Ok(true);
                }
                // A late reply, or a datagram of another sender. The latter must not extend the timeout.
                Some(_) if others.get_or_insert_with(Instant::now).elapsed() <= READ_TIMEOUT => {}
                _ => return Ok(false),
            }
        }
    }
}

/// The server, in its process. It runs until the process is killed.
pub(super) fn serve(socket: &UdpSocket, client: SocketAddr, size: usize, wait: Wait) -> io::Result<()> {
    let mut room = vec![0; size];
    loop {
        sleep(socket)?;
        // Until the end of the slice. A spinning end also stops on a timeout.
        while let Some((length, from)) = persist(wait, || socket.recv_from(&mut room))? {
            match length {
                _ if from != client => {}
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
        net::{IpAddr, Ipv4Addr, Ipv6Addr},
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::Duration,
    };

    use super::{
        super::{round_trips::ServerProcess, socket::udp},
        *,
    };
    use crate::bench::measurement::Timing;

    const SLICE: Timing = Timing { warm_up: Duration::from_millis(5), measure: Duration::from_millis(20) };

    /// How many slices without loss are required, and the maximum of slices: on a busy machine some replies are late.
    const ENOUGH: usize = 10;
    const MOST: usize = 1000;

    fn anybody(address: IpAddr) -> UdpSocket {
        udp(address, Wait::Blocking).unwrap()
    }

    /// A client in this process, and a server process.
    fn between(client: UdpSocket, server: UdpSocket, size: usize, wait: Wait) -> (Client, ServerProcess) {
        let (from, to) = (client.local_addr().unwrap(), server.local_addr().unwrap());
        let server_process = ServerProcess::start(server, size, wait, Some(from)).unwrap();
        (Client { socket: client, to, size, wait }, server_process)
    }

    fn at(address: IpAddr, size: usize) -> (Client, ServerProcess) {
        between(anybody(address), anybody(address), size, Wait::Blocking)
    }

    /// Runs slices in sequence. Each wakes the server, which sleeps between slices.
    fn assert_nothing_is_lost((client, _): &mut (Client, ServerProcess)) {
        let slices = (0..MOST).map(|_| client.run_slice(Window::start(SLICE)).unwrap());
        let lossless = slices.filter(|measured| measured.lost() == 0 && !measured.is_empty());
        assert_eq!(lossless.take(ENOUGH).count(), ENOUGH);
    }

    #[test]
    fn what_is_asked_is_answered_and_counted() {
        for (size, wait) in
            [(1, Wait::Blocking), (64, Wait::Blocking), (9000, Wait::Blocking), (64, Wait::Spinning)]
        {
            let [client, server] = [(); 2].map(|()| udp(Ipv4Addr::LOCALHOST.into(), wait).unwrap());
            let (from, to) = (client.local_addr().unwrap(), server.local_addr().unwrap());
            // A datagram of an earlier slice is not a reply.
            server.send_to(&vec![7; size], from).unwrap();
            // A datagram like the first reply, from another sender.
            let mut reply = vec![0; size];
            reply[0] = 1;
            anybody(from.ip()).send_to(&reply, from).unwrap();
            // An end of slice.
            client.send_to(&[], to).unwrap();
            assert_nothing_is_lost(&mut between(client, server, size, wait));
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
        // With a deadline, or a failure would hang the test.
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
        let mut client = Client { socket, to, size: 64, wait: Wait::Blocking };
        let long = Timing { measure: Duration::from_secs(600), ..SLICE };
        // This datagram is not a reply.
        silent.send_to(&[7; 64], client.socket.local_addr().unwrap()).unwrap();
        let measured = client.run_slice(Window::start(long)).unwrap();
        assert!(measured.has_lost_round_trips() && measured.is_empty(), "{measured:?}");
    }
}
