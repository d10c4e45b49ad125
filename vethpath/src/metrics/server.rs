//! The process without privileges: an HTTP/1.1 server.
//!
//! A connection has one request and ten seconds. Each of the two groups of connections is bounded, those that send their
//! request and those that wait for a reply or read it. When a group is full, its oldest connection is closed. So slow
//! clients keep no others waiting, and cost a bounded amount of memory.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{Format, LENGTH};

/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most connections that send their request.
const MOST_ASKING: usize = 256;

/// The most connections that wait for a reply, or read it.
const MOST_ANSWERED: usize = 16;

/// The longest request in bytes, the least that hyper permits.
const LONGEST_REQUEST: usize = 8 << 10;

/// The longest text in bytes, many times that of the largest lab.
const LONGEST_TEXT: u64 = 1 << 30;

/// The pause after an error of `accept`, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

const PAGE: &str = "<!DOCTYPE html><title>vethpath</title><a href=\"/metrics\">metrics</a>\n";

/// Serves until the reader ends.
///
/// # Errors
/// The reader has ended, or what it sends is none of its replies.
pub async fn serve(
    listener: std::net::TcpListener,
    reader: std::os::unix::net::UnixStream,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    reader.set_nonblocking(true)?;
    let (listener, reader) = (TcpListener::from_std(listener)?, UnixStream::from_std(reader)?);
    let (questions, inbox) = mpsc::channel(MOST_ANSWERED);
    tokio::select! {
        ended = ask(reader, inbox) => ended,
        () = accept(&listener, &questions) => Ok(()),
    }
}

/// A request for a text, which is read after it was made.
struct Question {
    format: Format,
    answer: oneshot::Sender<Bytes>,
}

/// Asks the reader. All questions that wait get the same text.
async fn ask(mut reader: UnixStream, mut inbox: mpsc::Receiver<Question>) -> io::Result<()> {
    loop {
        let mut nothing = [0];
        let first = tokio::select! {
            question = inbox.recv() => question,
            // It sends nothing without being asked.
            _ = reader.read(&mut nothing) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let mut waiting: Vec<Question> = first.into_iter().collect();
        while let Ok(question) = inbox.try_recv() {
            waiting.push(question);
        }
        for format in Format::ALL {
            let (these, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|question| question.format == format);
            waiting = others;
            if these.iter().any(|question| !question.answer.is_closed()) {
                let text = text(&mut reader, format).await?;
                // A client may have gone meanwhile.
                these.into_iter().for_each(|question| drop(question.answer.send(text.clone())));
            }
        }
    }
}

/// Asks for one text.
async fn text(reader: &mut UnixStream, format: Format) -> io::Result<Bytes> {
    reader.write_all(&[format.byte()]).await?;
    let mut length = [0; LENGTH];
    let _ = reader.read_exact(&mut length).await?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_TEXT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let _ = reader.read_exact(&mut text).await?;
    Ok(text.into())
}

/// The connections, oldest first.
#[derive(Default)]
struct Seats {
    asking: VecDeque<(SocketAddr, AbortHandle)>,
    answered: VecDeque<(SocketAddr, AbortHandle)>,
}

impl Seats {
    /// Adds a new connection.
    fn enter(&mut self, client: SocketAddr, task: AbortHandle) {
        take(&mut self.asking, MOST_ASKING, (client, task));
    }

    /// Moves a connection that has sent its request to the second group.
    fn asked(&mut self, client: SocketAddr) {
        let number = self.asking.iter().rposition(|(other, _)| *other == client);
        if let Some(seat) = number.and_then(|number| self.asking.remove(number)) {
            take(&mut self.answered, MOST_ANSWERED, seat);
        }
    }
}

/// Adds to a group, and closes the oldest connection if there are too many.
fn take(group: &mut VecDeque<(SocketAddr, AbortHandle)>, most: usize, seat: (SocketAddr, AbortHandle)) {
    group.retain(|(_, task)| !task.is_finished());
    group.push_back(seat);
    if group.len() > most {
        let _ = group.pop_front().map(|(_, oldest)| oldest.abort());
    }
}

async fn accept(listener: &TcpListener, questions: &mpsc::Sender<Question>) {
    let seats = Arc::new(Mutex::new(Seats::default()));
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let task = connection(stream, client, Arc::clone(&seats), questions.clone());
                let task = tokio::spawn(async { drop(timeout(PATIENCE, task).await) });
                locked(&seats).enter(client, task.abort_handle());
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn locked(seats: &Mutex<Seats>) -> std::sync::MutexGuard<'_, Seats> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request and its response. Errors are the client's.
async fn connection(
    stream: TcpStream,
    client: SocketAddr,
    seats: Arc<Mutex<Seats>>,
    questions: mpsc::Sender<Question>,
) {
    let service = service_fn(|request| {
        locked(&seats).asked(client);
        respond(request, questions.clone())
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(LONGEST_REQUEST).header_read_timeout(None);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    request: Request<Incoming>,
    questions: mpsc::Sender<Question>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        let _ = response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            let format = wanted(request.headers());
            let (answer, text) = oneshot::channel();
            // The reader has ended if either fails.
            let _ = questions.send(Question { format, answer }).await;
            match text.await {
                Ok(text) => typed(StatusCode::OK, format.content_type(), text),
                Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the counts cannot be read\n"),
            }
        }
        "/" => typed(StatusCode::OK, "text/html; charset=utf-8", PAGE.into()),
        _ => plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
    })
}

/// OpenMetrics for a client that accepts it.
fn wanted(headers: &HeaderMap) -> Format {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    match accepted.any(|value| value.contains("application/openmetrics-text")) {
        true => Format::OpenMetrics,
        false => Format::Text,
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text.into())
}

fn typed(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let _ = response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
