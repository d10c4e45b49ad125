//! Round trips of any protocol: an asking process and an answering one.

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::atomic::AtomicBool};

use super::{
    Arrived, End, Error, Load, Measured, Timing, Wait,
    peer::{Answerer, Asker},
};

/// The two processes.
pub(super) struct RoundTrips {
    asker: Asker,
    _answerer: Answerer,
}

impl RoundTrips {
    /// Starts them, each at its end with its socket. For UDP, `addresses` are the asker's and the answerer's.
    pub(super) async fn start(
        (asks, answers): (&End, &End),
        (asking, answering): (impl Into<OwnedFd> + Send + 'static, impl Into<OwnedFd> + Send + 'static),
        addresses: Option<(SocketAddr, SocketAddr)>,
        size: usize,
        wait: Wait,
    ) -> Result<io::Result<Self>, Error> {
        let (from, to) = addresses.unzip();
        let answerer = answers.run(move || Answerer::start(answering, size, wait, from)).await?;
        let asker = asks.run(move || Asker::start(asking, size, wait, to)).await?;
        Ok(answerer.and_then(|answerer| Ok(Self { asker: asker?, _answerer: answerer })))
    }
}

impl Load for RoundTrips {
    fn ask(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measured> {
        self.asker.slice(timing, stop)
    }

    /// The answering process does the work.
    fn answer(&self, _: &AtomicBool) -> io::Result<Arrived> {
        Ok(Arrived::default())
    }

    fn fewest_frames(&self, measured: &Measured) -> u64 {
        2 * measured.received
    }
}
