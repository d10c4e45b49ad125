//! The agent's socket: a client that connects, and is root, receives the status. Nothing is read from it.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use log::warn;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

/// Timeout for sending a reply to a client.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Clients that are served at once. More of them wait in the kernel's queue, which is bounded too
/// (`net.core.somaxconn`), so that they cost no descriptors here.
const MOST_CLIENTS: usize = 16;

/// Least interval between two warnings, and pause after a failed accept.
const WARN_INTERVAL: Duration = Duration::from_secs(1);

/// The listening socket.
pub struct Listener {
    listener: UnixListener,
    seats: Arc<Semaphore>,
    warned: Option<Instant>,
}

/// A client that is root, and has no reply yet.
pub struct Client {
    stream: UnixStream,
    seat: OwnedSemaphorePermit,
}

impl Listener {
    /// Listens at `path`, for root alone. Replaces a socket that an earlier agent left there.
    ///
    /// # Errors
    /// The folder does not exist, or the socket cannot be created.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, seats: Arc::new(Semaphore::new(MOST_CLIENTS)), warned: None })
    }

    /// The next client that may have a reply. Others are refused, whatever the socket's mode. Dropping the future
    /// loses no client.
    pub async fn client(&mut self) -> Client {
        loop {
            let Ok(seat) = Arc::clone(&self.seats).acquire_owned().await else {
                // The semaphore is never closed.
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, _)) if is_root(&stream) => return Client { stream, seat },
                Ok(_) => self.warn_rate_limited("refused a client that is not root"),
                Err(error) => {
                    self.warn_rate_limited(&format!("cannot accept a client: {error}"));
                    sleep(WARN_INTERVAL).await;
                }
            }
        }
    }

    /// Clients must not be able to fill the log.
    fn warn_rate_limited(&mut self, about: &str) {
        if self.warned.is_none_or(|last| last.elapsed() >= WARN_INTERVAL) {
            self.warned = Some(Instant::now());
            warn!("{about}");
        }
    }
}

/// By the credentials that the kernel recorded when the client connected (SO_PEERCRED).
fn is_root(stream: &UnixStream) -> bool {
    let own = nix::unistd::Uid::effective().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

impl Client {
    /// Sends the client its reply, within a timeout.
    pub async fn reply(mut self, status: Vec<u8>) {
        match timeout(WRITE_TIMEOUT, self.stream.write_all(&status)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("cannot send the status to a client: {error}"),
            Err(_) => warn!("a client did not read the status in time"),
        }
        drop(self.seat);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net};

    use super::*;

    /// A reply that no socket's buffer holds: it is sent only if the client reads.
    const LONG: usize = 8 << 20;

    // The clock advances only while all tasks wait. Otherwise a slow test would free seats.
    #[tokio::test(start_paused = true)]
    async fn clients_beyond_the_seats_wait_and_are_answered_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let mut door = Listener::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut idle: Vec<_> = (0..=MOST_CLIENTS).map(|_| net::UnixStream::connect(&path).unwrap()).collect();
        for _ in 0..MOST_CLIENTS {
            drop(tokio::spawn(door.client().await.reply(vec![b'x'; LONG])));
        }
        assert!(timeout(Duration::from_millis(1), door.client()).await.is_err(), "a seat too many");
        // They do not read, so their seats become free after the timeout. The next client is then served.
        door.client().await.reply(b"hello".to_vec()).await;
        let mut text = String::new();
        let _ = idle.pop().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}
