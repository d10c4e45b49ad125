//! The agent's socket: whoever connects, and is root, is told the status. Nothing is read from it.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use log::warn;
use tokio::{io::AsyncWriteExt, net::UnixListener, time::timeout};

/// How long a client may take to read its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Listens at `path`, for root alone. A socket that an earlier agent left there is replaced.
///
/// # Errors
/// The folder is not there, or the socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers one client. The caller makes the answer only for those who may have it.
pub async fn answer(mut stream: tokio::net::UnixStream, status: Vec<u8>) {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == nix::unistd::Uid::effective().as_raw() || peer.uid() == 0 => {}
        _ => return warn!("refused a client that is not root"),
    }
    match timeout(PATIENCE, stream.write_all(&status)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("a client did not take its answer: {error}"),
        Err(_) => warn!("a client did not read its answer"),
    }
}
