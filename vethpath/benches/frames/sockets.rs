//! Frames from sockets: AF_XDP, UDP and TCP.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::{
    machine::{self, Lab},
    rounds::Short,
    socket::RawSocket,
    users::User,
};

/// The duration of a measurement.
const SLICE: Duration = Duration::from_millis(100);
/// Round trips.
const TRIPS: usize = 5_000;

thread_local! {
    static RAW: RefCell<HashMap<String, (User, RawSocket)>> = RefCell::default();
}

/// Frames per second from an AF_XDP socket of the first host to a program at the second, in millions.
pub(crate) fn af_xdp(lab: &Lab) -> Result<f64, Short> {
    RAW.with_borrow_mut(|all| {
        let (sink, socket) = all.get_mut(&lab.name).unwrap();
        let (frame, before, started) = (lab.frame(), sink.received(), Instant::now());
        let mut sent = 0;
        while started.elapsed() < SLICE {
            sent += socket.send(&frame, 32);
        }
        let (elapsed, came) = (started.elapsed(), sink.received() - before);
        if came * 10 < sent as u64 * 9 {
            return Err(Short(format!("{}: {came} frames of {sent} came", lab.name)));
        }
        Ok(came as f64 / elapsed.as_secs_f64() / 1e6)
    })
}

/// Prepares labs for AF_XDP.
pub(crate) fn prepare(labs: &[Lab]) {
    for lab in labs {
        let standing = (User::attach(&lab.b, "eth0", "sink"), RawSocket::on(&lab.a, "eth0"));
        RAW.with_borrow_mut(|all| drop(all.insert(lab.name.clone(), standing)));
    }
    machine::settle(labs);
}

/// Detaches everything from the labs.
pub(crate) fn end(labs: &[Lab]) {
    RAW.with_borrow_mut(HashMap::clear);
    machine::settle(labs);
}

/// The median UDP round trip of 64 bytes, in microseconds, with both hosts on this CPU. The sockets are unconnected,
/// like those of `bench`.
pub(crate) fn round_trip(lab: &Lab) -> Result<f64, Short> {
    let [a, b] = &lab.addresses;
    let socket = |netns: &vethpath::kernel::Netns, address: &String| {
        let socket = netns.run(|| UdpSocket::bind((address.as_str(), 0))).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    };
    let (one, other) = (socket(&lab.a, a), socket(&lab.b, b));
    let to = other.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((64, from)) = other.recv_from(&mut bytes)
            && other.send_to(&bytes, from).is_ok()
        {}
    });
    let (mut bytes, mut trips) = ([0; 64], Vec::with_capacity(TRIPS));
    for _ in 0..TRIPS {
        let started = Instant::now();
        let _ = one.send_to(&bytes, to).unwrap();
        // The echo thread ends on its own timeout.
        let lost = |error| Short(format!("{}: a datagram did not come back: {error}", lab.name));
        let _ = one.recv_from(&mut bytes).map_err(lost)?;
        trips.push(started.elapsed().as_secs_f64() * 1e6);
    }
    // Another length ends the echo thread.
    let _ = one.send_to(&[0], to);
    echo.join().unwrap();
    trips.sort_by(f64::total_cmp);
    Ok(trips[TRIPS / 2])
}

/// The throughput of one TCP connection in Gbit/s, with both hosts on this CPU.
#[expect(clippy::unnecessary_wraps, reason = "TCP loses nothing; others do")]
pub(crate) fn bulk(lab: &Lab) -> Result<f64, Short> {
    let listener = lab.b.run(|| TcpListener::bind((lab.addresses[1].as_str(), 0))).unwrap().unwrap();
    let to = listener.local_addr().unwrap();
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut bytes, mut all) = (vec![0; 1 << 18], 0);
        loop {
            match stream.read(&mut bytes).unwrap() {
                0 => return all,
                length => all += length,
            }
        }
    });
    let mut stream = lab.a.run(|| TcpStream::connect(to)).unwrap().unwrap();
    let (bytes, started) = (vec![0; 1 << 18], Instant::now());
    while started.elapsed() < 2 * SLICE {
        stream.write_all(&bytes).unwrap();
    }
    drop(stream);
    Ok(receiver.join().unwrap() as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e9)
}
