//! Requests to an engine over HTTP/1.1 on a Unix socket. What it sends is bounded in size, and in time but for the
//! stream of events.

use std::{error, io, path::Path, time::Duration};

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer in bytes. A container with all its settings has some ten kilobytes.
const MOST: usize = 4 << 20;

/// The longest event in bytes. It has the labels of the container.
const MOST_OF_EVENT: usize = 1 << 20;

/// The longest header of an answer in bytes, and the size of the read buffer.
const MOST_OF_HEAD: usize = 64 << 10;

/// The most characters of a text of the engine that are shown.
const SHOWN: usize = 300;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nobody listens at the socket.
    Connect(io::Error),
    /// The answer is late, too long, or none of HTTP.
    Answer(String),
}

/// An answer.
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Bytes,
    /// The process that listens, or that has made the socket.
    pub(super) peer: Option<i32>,
}

/// Requests a path.
pub(super) async fn get(socket: &Path, target: &str) -> Result<Answer, Fault> {
    let answer = async {
        let (response, peer) = send(socket, target).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MOST).collect().await.map_err(|error| {
            let is_long = error.is::<LengthLimitError>();
            Fault::Answer(if is_long { format!("more than {MOST} bytes") } else { text(&*error) })
        })?;
        Ok(Answer { status, body: body.to_bytes(), peer })
    };
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(late()))
}

/// An answer without an end: one line for each event.
pub(super) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// How much of the buffer has no newline.
    searched: usize,
}

impl Lines {
    /// Requests a path.
    pub(super) async fn open(socket: &Path, target: &str) -> Result<Self, Fault> {
        let answer = timeout(PATIENCE, send(socket, target)).await.unwrap_or_else(|_| Err(late()));
        let (response, _) = answer?;
        if !response.status().is_success() {
            return Err(Fault::Answer(format!("status {}", response.status().as_u16())));
        }
        Ok(Self { body: response.into_body(), buffer: Vec::new(), searched: 0 })
    }

    /// Waits for the next line. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                line.pop();
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.searched > MOST_OF_EVENT {
                return Err(Fault::Answer(format!("an event of more than {MOST_OF_EVENT} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(Fault::Answer(text(&error))),
                None => return Err(Fault::Answer("its events have ended".to_owned())),
            }
        }
    }
}

/// Sends a request. The returned process is that of `SO_PEERCRED`.
async fn send(socket: &Path, target: &str) -> Result<(Response<Incoming>, Option<i32>), Fault> {
    let stream = UnixStream::connect(socket).await.map_err(Fault::Connect)?;
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let mut client = http1::Builder::new();
    client.max_buf_size(MOST_OF_HEAD);
    let answered = |error: hyper::Error| Fault::Answer(text(&error));
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(answered)?;
    // It ends when the sender and the body of the answer are dropped.
    drop(tokio::spawn(connection));
    let request = Request::get(target).header(HOST, "localhost").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Fault::Answer(text(&error)))?;
    Ok((sender.send_request(request).await.map_err(answered)?, peer))
}

fn late() -> Fault {
    Fault::Answer(format!("no answer within {} s", PATIENCE.as_secs()))
}

/// The text of an error and of its cause.
fn text(error: &dyn error::Error) -> String {
    let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
    short(&format!("{error}{cause}"))
}

/// The beginning of a text of the engine.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
