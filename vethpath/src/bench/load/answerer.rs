//! Who answers round trips: a process of its own, as a server is.
//!
//! Two threads of one process share their memory: on one CPU they follow each other without a switch of page tables,
//! and a round trip of 64 bytes takes 0.5 us less than it does between two programs.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    sync::atomic::AtomicBool,
};

use clap::Args;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, getppid},
};

use super::{
    Wait,
    socket::{persist, read_exact, write_all},
};

/// The first byte of a message by TCP that wants an answer, and of the one that ends a slice. By UDP a datagram
/// without a byte ends it.
pub(super) const ANSWER: u8 = 0;
pub(super) const DONE: u8 = 1;

/// What is to be answered, on the socket that is standard input.
#[derive(Args, Clone, Copy, Debug)]
pub struct Answer {
    /// Bytes of a message or datagram.
    #[arg(long)]
    size: usize,
    /// How to wait while a slice lasts.
    #[arg(long, value_enum)]
    wait: Wait,
    /// Whose datagrams; without it the socket is one of TCP.
    #[arg(long)]
    asker: Option<SocketAddr>,
    /// The process that wants it, with which this one ends.
    #[arg(long, allow_negative_numbers = true)]
    parent: i32,
}

impl Answer {
    pub(super) fn new(size: usize, wait: Wait, asker: Option<SocketAddr>) -> Self {
        // Not above the kernel's PID_MAX_LIMIT of 2^22.
        Self { size, wait, asker, parent: std::process::id().cast_signed() }
    }

    fn words(self) -> Vec<String> {
        let Self { size, wait, asker, parent } = self;
        let wait = if wait == Wait::Spinning { "spinning" } else { "blocking" };
        let mut words =
            vec![format!("--size={size}"), format!("--wait={wait}"), format!("--parent={parent}")];
        words.extend(asker.map(|asker| format!("--asker={asker}")));
        words
    }

    /// Answers until the other end goes away. This process then ends, as it does with its parent.
    ///
    /// # Errors
    /// Standard input is no such socket, or one that is broken.
    pub fn answer(self) -> io::Result<()> {
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != Pid::from_raw(self.parent) {
            // It ended before we could ask to be told.
            return Ok(());
        }
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        match self.asker {
            Some(asker) => self.datagrams(&socket.into(), asker),
            None => match self.messages(&socket.into()) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
                done => done,
            },
        }
    }

    /// What anybody else sends is none of the asker's, as if the sockets were connected.
    fn datagrams(self, socket: &UdpSocket, asker: SocketAddr) -> io::Result<()> {
        let mut room = vec![0; self.size];
        loop {
            sleep(socket)?;
            // Until it is told that the slice is over, or hears nothing for a while.
            while let Some((length, from)) = persist(self.wait, || socket.recv_from(&mut room))? {
                match length {
                    _ if from != asker => {}
                    0 => break,
                    _ => {
                        let _ = persist(self.wait, || socket.send_to(&room[..length], from))?;
                    }
                }
            }
        }
    }

    fn messages(self, stream: &TcpStream) -> io::Result<()> {
        let (mut room, never) = (vec![0; self.size], AtomicBool::new(false));
        loop {
            sleep(stream)?;
            while read_exact(stream, &mut room, self.wait, &never)? && room[0] != DONE {
                let _ = write_all(stream, &room, self.wait, &never)?;
            }
        }
    }
}

/// Until there is something to read: nobody spins between slices, on a CPU that others may be measured on.
fn sleep(socket: impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A process that answers for as long as this is kept, and as the thread that started it lives.
pub(super) struct Answerer(Child);

impl Answerer {
    /// Starts it, with a socket. It has the namespaces and the CPU of the calling thread.
    pub(super) fn start(socket: impl Into<OwnedFd>, answer: Answer) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        Self::told(&mut command, answer);
        // A group of its own: Ctrl-C is for whoever measures, who ends this one.
        command.process_group(0).stdin(Stdio::from(socket.into()));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }

    #[cfg(not(test))]
    fn told(command: &mut Command, answer: Answer) {
        command.arg("bench-answer").args(answer.words());
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Where a test's answerer finds what it is told.
    const WORDS: &str = "VETHPATH_BENCH_ANSWER";

    #[derive(clap::Parser)]
    struct Told {
        #[command(flatten)]
        answer: Answer,
    }

    impl Answerer {
        /// Tests have no command line of ours: the process is this program again, as the one test below.
        pub(super) fn told(command: &mut Command, answer: Answer) {
            let this = concat!(module_path!(), "::in_a_process_of_its_own");
            let (_, this) = this.split_once("::").expect("a path in a crate");
            command.args([this, "--exact"]).env(WORDS, answer.words().join(" "));
        }
    }

    /// Answers where it is told to, and otherwise does nothing.
    #[test]
    fn in_a_process_of_its_own() {
        let Ok(words) = std::env::var(WORDS) else { return };
        let told: Told = clap::Parser::parse_from(std::iter::once("test").chain(words.split(' ')));
        told.answer.answer().unwrap();
    }

    #[test]
    fn what_it_is_told_is_understood() {
        for asker in [None, Some("192.0.2.1:7"), Some("[fe80::1%3]:7")] {
            let answer = Answer::new(64, Wait::Spinning, asker.map(|asker| asker.parse().unwrap()));
            let words = answer.words();
            let told: Told =
                clap::Parser::try_parse_from(std::iter::once("test".to_owned()).chain(words.clone()))
                    .unwrap();
            assert_eq!(told.answer.words(), words);
        }
    }

    #[test]
    fn it_ends_with_what_started_it() {
        let (one, other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        other.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let pid = std::thread::spawn(move || {
            let answerer = Answerer::start(one, Answer::new(2, Wait::Blocking, None)).unwrap();
            let pid = Pid::from_raw(answerer.0.id().cast_signed());
            // By then it has asked to be told.
            other.send(&[ANSWER, 7]).unwrap();
            let mut room = [0; 2];
            assert_eq!((other.recv(&mut room).unwrap(), room), (2, [ANSWER, 7]));
            // It is not told to end: this thread is no more.
            std::mem::forget(answerer);
            (pid, other)
        });
        let (pid, other) = pid.join().unwrap();
        let _ = nix::sys::wait::waitpid(pid, None).unwrap();
        assert!(other.send(&[0]).is_err(), "its socket is open");
    }
}
