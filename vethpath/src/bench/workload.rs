//! The kinds of work, and how and where the two ends do it.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What the two ends do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// A UDP datagram there and back.
    UdpRr,
    /// A message over an open TCP connection there and back.
    TcpRr,
    /// TCP connections in sequence: opened, one byte received, closed.
    TcpConnect,
    /// Bytes over one TCP connection at the highest rate.
    TcpStream,
    /// Datagrams one way, at the highest rate of one core.
    UdpRate,
}

/// How an end waits for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Sleeps until it is woken up.
    Blocking,
    /// Polls a non-blocking socket.
    Spinning,
}

/// Where the two ends run. Both are pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cores {
    /// Both on one CPU.
    Same,
    /// Each on its own CPU.
    Cross,
}

/// The CPUs of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Whether they share one CPU.
    pub cores: Cores,
    /// The CPU of the client or sender.
    pub from_cpu: usize,
    /// The CPU of the other end.
    pub to_cpu: usize,
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Per second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Bits per second.
    #[serde(rename = "bit/s")]
    BitsPerSecond,
}

/// Which of two figures is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The higher.
    Higher,
    /// The lower.
    Lower,
}

impl Workload {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::UdpRr, Self::TcpRr, Self::TcpConnect, Self::TcpStream, Self::UdpRate];

    /// The text for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UdpRr => "UDP round trips",
            Self::TcpRr => "TCP round trips",
            Self::TcpConnect => "TCP connections",
            Self::TcpStream => "TCP stream",
            Self::UdpRate => "UDP datagrams one way",
        }
    }

    /// The unit of its figure.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::UdpRr | Self::TcpRr => Unit::Microseconds,
            Self::TcpConnect | Self::UdpRate => Unit::PerSecond,
            Self::TcpStream => Unit::BitsPerSecond,
        }
    }

    /// Which of two figures is better.
    #[must_use]
    pub const fn better(self) -> Better {
        match self.unit() {
            Unit::Microseconds => Better::Lower,
            Unit::PerSecond | Unit::BitsPerSecond => Better::Higher,
        }
    }

    /// Whether it measures round trips rather than a rate.
    #[must_use]
    pub const fn is_latency(self) -> bool {
        matches!(self.unit(), Unit::Microseconds)
    }
}

/// One case: a kind of work with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spec {
    /// The kind of work.
    pub work: Workload,
    /// Bytes of a message, datagram or write; 1 for connections, which carry one byte.
    pub size: usize,
    /// How the ends wait.
    pub wait: Wait,
    /// Where they run.
    pub cores: Cores,
}

impl Spec {
    /// The headline case.
    pub const UDP: Self = Self { work: Workload::UdpRr, size: 64, wait: Wait::Blocking, cores: Cores::Same };

    /// The same over TCP.
    pub const TCP: Self = Self { work: Workload::TcpRr, ..Self::UDP };

    /// For people: `UDP round trips of 64 bytes, blocking, on one CPU`.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { work, size, wait, cores } = self;
        let of = match (work, size) {
            (Workload::TcpConnect, _) => String::new(),
            (_, 1) => " of 1 byte".to_owned(),
            (Workload::TcpStream, size) => format!(" in writes of {size} bytes"),
            (_, size) => format!(" of {size} bytes"),
        };
        let wait = match wait {
            Wait::Blocking => "blocking",
            Wait::Spinning => "spinning",
        };
        let cores = match cores {
            Cores::Same => "on one CPU",
            Cores::Cross => "across CPUs",
        };
        format!("{}{of}, {wait}, {cores}", work.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_a_name() {
        assert_eq!(Spec::UDP.name(), "UDP round trips of 64 bytes, blocking, on one CPU");
        let connect = Spec { work: Workload::TcpConnect, size: 1, cores: Cores::Cross, ..Spec::UDP };
        assert_eq!(connect.name(), "TCP connections, blocking, across CPUs");
        let stream = Spec { work: Workload::TcpStream, size: 65536, ..Spec::UDP };
        assert_eq!(stream.name(), "TCP stream in writes of 65536 bytes, blocking, on one CPU");
    }
}
