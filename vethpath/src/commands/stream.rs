//! Standard output of a command that prints until it is interrupted. A thread writes, so that the command can be
//! interrupted while nobody reads.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    pin::Pin,
    thread,
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};

use super::Failure;

/// How long a reader has to take the rest of a line after an interrupt.
const GRACE: Duration = Duration::from_secs(1);

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All was written.
    All,
    /// The user has interrupted it. What was written may end within a line.
    Interrupted,
}

/// A stream of texts to standard output. One text at a time is in memory: whoever makes them waits for the reader.
pub struct Stream {
    texts: std::sync::mpsc::Sender<Vec<u8>>,
    done: mpsc::UnboundedReceiver<io::Result<()>>,
}

impl Stream {
    /// A stream to this process's standard output.
    pub fn to_stdout() -> Result<Self, Failure> {
        let refused = |error: io::Error| Failure::system(format!("cannot write the output: {error}"));
        // Not `io::stdout`, which the main thread has locked.
        let mut output = io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(refused)?;
        let (texts, inbox) = std::sync::mpsc::channel::<Vec<u8>>();
        let (results, done) = mpsc::unbounded_channel();
        let write = move || {
            for text in inbox {
                if results.send(output.write_all(&text)).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("output".to_owned()).spawn(write).map_err(refused)?;
        Ok(Self { texts, done })
    }

    /// Writes a text, as far as the reader takes it before `interrupt` is ready.
    pub async fn write(
        &mut self,
        text: Vec<u8>,
        interrupt: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Written, Failure> {
        let ended = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.texts.send(text).map_err(|_| Failure::output(ended()))?;
        let done = tokio::select! {
            biased;
            done = self.done.recv() => done,
            () = interrupt => {
                let _ = timeout(GRACE, self.done.recv()).await;
                return Ok(Written::Interrupted);
            }
        };
        done.unwrap_or_else(|| Err(ended())).map_err(Failure::output)?;
        Ok(Written::All)
    }
}
