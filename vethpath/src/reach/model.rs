//! The data of `ping` and `test`, as `--json` prints them.

use std::{net::IpAddr, time::Duration};

use serde::{Serialize, Serializer};

use crate::topology::{Expectation, Family, LabName, NsName};

/// Which hosts of a lab reach which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// The lab.
    pub lab: LabName,
    /// The hosts that were asked for, in the file's order.
    pub hosts: Vec<NsName>,
    /// How many pairs were tried, and how many of them have answered. Each family counts.
    pub tried: usize,
    /// See `tried`.
    pub reached: usize,
    /// Each pair of hosts by each family of which both have an address: by family, then in the order of `hosts`.
    pub pairs: Vec<Cell>,
}

/// One host to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Who asks.
    pub from: NsName,
    /// Who is to answer.
    pub to: NsName,
    /// The family of the address.
    pub family: Family,
    /// The address of `to` that was asked.
    pub address: IpAddr,
    /// The result.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether an address has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has, after this time.
    Reached(Duration),
    /// It has not, for this reason.
    Unreached(&'static str),
}

impl Outcome {
    /// Whether it has answered.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        matches!(self, Self::Reached(_))
    }
}

/// `{"reached": true, "rtt_us": 81}` or `{"reached": false, "reason": "no reply"}`.
impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Json {
            reached: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            rtt_us: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'static str>,
        }
        let (rtt_us, reason) = match self {
            Self::Reached(time) => (Some(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)), None),
            Self::Unreached(reason) => (None, Some(*reason)),
        };
        Json { reached: self.is_reached(), rtt_us, reason }.serialize(to)
    }
}

/// An expectation and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The expectation as a sentence: `ns0 reaches ns1 at port 80`.
    pub name: String,
    /// The expectation.
    #[serde(flatten)]
    pub expectation: Expectation,
    /// Whether it holds.
    pub holds: bool,
    /// How long it took until it held, or until that was given up, in milliseconds.
    pub took_ms: u64,
    /// What was found instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
