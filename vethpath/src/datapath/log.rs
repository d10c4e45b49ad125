//! The log of the programs, in a build with the feature `ebpf-log`.

use aya::programs::SchedClassifier;
use aya_log::EbpfLogger;
use log::{Log, info, warn};
use tokio::io::{Interest, unix::AsyncFd};

use super::Pins;
use crate::kernel::{Context, Result};

/// Forwards the log of the port program of `domain` to this process's log, for the lifetime of the tokio runtime. Does
/// nothing in a build without logging.
///
/// # Errors
/// The program is not pinned.
pub fn forward_log(pins: &Pins, domain: u32) -> Result<()> {
    if !cfg!(feature = "ebpf-log") {
        return Ok(());
    }
    let program =
        SchedClassifier::from_pin(pins.program(domain)).doing("open", pins.program(domain).display())?;
    let id = program.info().doing("inspect", "the port program")?.id();
    let logger = EbpfLogger::init_from_id(id).doing("read the log of", "the port program")?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that might close their descriptor; a logger does not"
    )]
    let logger =
        AsyncFd::with_interest(logger, Interest::READABLE).doing("watch the log of", "the port program")?;
    info!("passing on the log of program {id}");
    tokio::spawn(forward(logger));
    Ok(())
}

async fn forward<T: Log>(mut logger: AsyncFd<EbpfLogger<T>>) {
    loop {
        match logger.readable_mut().await {
            Ok(mut guard) => {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
            Err(error) => return warn!("cannot read the programs' log: {error}"),
        }
    }
}
