//! One slice: its times and its result.

use std::{fmt, io, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{distribution::median_us, workload::Workload};

/// A slice may lose this many round trips, plus one in `ONE_IN`.
const MAY_BE_LOST: u64 = 5;
const ONE_IN: u64 = 1000;

/// The histogram's upper limit, in nanoseconds.
const LONGEST: u64 = 1_000_000_000;

/// Significant decimal digits of the histogram: 0.1 %.
const DIGITS: u8 = 3;

/// The times of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The warm-up, which does not count.
    pub warm_up: Duration,
    /// The measurement.
    pub measure: Duration,
}

/// Round trips, connections, bytes or datagrams of one slice.
#[derive(Clone)]
pub struct Measurement {
    /// Round-trip times in nanoseconds, if round trips are measured.
    pub histogram: Option<Histogram<u64>>,
    /// How many were sent, including the warm-up.
    pub sent: u64,
    /// How many of them arrived; for round trips, how many returned.
    pub received: u64,
    /// How many of those count, without the warm-up.
    pub within: u64,
    /// The duration of the measurement.
    pub window: Duration,
}

impl Measurement {
    /// An empty result of round trips.
    ///
    /// # Errors
    /// Never: the bounds of the histogram are valid.
    pub fn round_trips() -> io::Result<Self> {
        let histogram = Histogram::new_with_max(LONGEST, DIGITS).map_err(io::Error::other)?;
        Ok(Self { histogram: Some(histogram), ..Self::counted() })
    }

    /// An empty result of counters only.
    #[must_use]
    pub fn counted() -> Self {
        Self { histogram: None, sent: 0, received: 0, within: 0, window: Duration::ZERO }
    }

    /// Round trips that another process has measured: how many took how many nanoseconds.
    ///
    /// # Errors
    /// Never: the bounds of the histogram are valid, and it saturates.
    pub fn parse_counts(sent: u64, received: u64, nanoseconds: &[(u64, u64)]) -> io::Result<Self> {
        let mut measured = Self::round_trips()?;
        for &(taken, count) in nanoseconds {
            measured.within += count;
            if let Some(histogram) = &mut measured.histogram {
                histogram.saturating_record_n(taken, count);
            }
        }
        Ok(Self { sent, received, ..measured })
    }

    /// Records a round trip. One of the warm-up does not `count`.
    pub fn record(&mut self, taken: Duration, counts: bool) {
        self.received += 1;
        if let Some(histogram) = self.histogram.as_mut().filter(|_| counts) {
            self.within += 1;
            histogram.saturating_record(u64::try_from(taken.as_nanos()).unwrap_or(LONGEST));
        }
    }

    /// Adds what only the receiver knows: how many arrived, how many of them count, and how long after the sender's end
    /// the last one arrived.
    #[must_use]
    pub fn with(mut self, received: u64, within: u64, late: Duration) -> Self {
        self.received += received;
        self.within += within;
        self.window += late;
        self
    }

    /// How many did not arrive.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// Whether too many round trips were lost. Loss of one-way datagrams is not limited.
    #[must_use]
    pub fn has_lost_round_trips(&self) -> bool {
        self.histogram.is_some() && self.lost() > MAY_BE_LOST + self.sent / ONE_IN
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.within == 0
    }

    /// The figure of the slice, in the unit of its work.
    #[must_use]
    pub fn figure(&self, work: Workload) -> Option<f64> {
        if let Some(histogram) = &self.histogram {
            return (!histogram.is_empty()).then(|| median_us(histogram));
        }
        let seconds = self.window.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "bytes of a fraction of a second")]
        let count = self.within as f64 * if work == Workload::TcpStream { 8.0 } else { 1.0 };
        (seconds > 0.0 && count > 0.0).then(|| (count / seconds).round())
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The buckets number thousands: only the median is printed.
        let p50_us = self.histogram.as_ref().map(median_us);
        let Self { sent, received, within, window, .. } = self;
        write!(f, "Measurement {{ p50_us: {p50_us:?}, sent: {sent}, received: {received}, ")?;
        write!(f, "within: {within}, window: {window:?} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_counts_by_the_time_it_took() {
        let counted =
            Measurement { within: 1000, window: Duration::from_millis(50), ..Measurement::counted() };
        assert_eq!(counted.figure(Workload::UdpRate), Some(20_000.0));
        assert_eq!(counted.figure(Workload::TcpStream), Some(160_000.0));
        assert_eq!(Measurement::counted().figure(Workload::UdpRate), None);
    }

    #[test]
    fn warm_up_does_not_count() {
        let mut measured = Measurement::round_trips().unwrap();
        measured.sent = 3;
        measured.record(Duration::from_micros(90), false);
        measured.record(Duration::from_micros(5), true);
        assert_eq!((measured.within, measured.received, measured.lost()), (1, 2, 1));
        assert!(measured.figure(Workload::UdpRr).is_some_and(|us| (4.99..5.01).contains(&us)));
        measured.sent = 20;
        assert!(measured.has_lost_round_trips());
    }
}
