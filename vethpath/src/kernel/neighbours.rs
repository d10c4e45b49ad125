//! The neighbour tables of the kernel, which all network namespaces share.

use netlink_packet_core::NlasIterator;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{
    Context, Netns, Result, blocking,
    exchange::{self, ExchangeError},
};
use crate::topology::Family;

/// A neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourTable {
    /// Its address family.
    pub family: Family,
    /// Number of entries, including permanent ones.
    pub entries: u32,
    /// Limit on entries that are not permanent (`gc_thresh3`).
    pub limit: u32,
}

/// The tables, read in any namespace: only the machine's initial namespace has the sysctls.
///
/// # Errors
/// The kernel refuses the dump.
pub fn neighbour_tables(netns: &Netns) -> Result<Vec<NeighbourTable>> {
    // `RTM_GETNEIGHTBL`, and `struct ndtmsg` of linux/neighbour.h.
    const LIST: u16 = 66;
    let socket = blocking(netns, NETLINK_ROUTE)?;
    let read = || -> std::result::Result<Vec<_>, ExchangeError> {
        let answers = exchange::dump(&socket, LIST, &[0; HEADER])?;
        let tables = answers.iter().map(|answer| parse(answer));
        tables.filter_map(std::result::Result::transpose).collect()
    };
    read().doing("list neighbour tables in", netns)
}

const HEADER: usize = 4;

/// Parses one message; `None` if it has a table's settings for one device (`neightbl_fill_param_info`), or is of
/// another family.
fn parse(answer: &[u8]) -> std::result::Result<Option<NeighbourTable>, ExchangeError> {
    const THRESH3: u16 = 4;
    const CONFIG: u16 = 5;
    /// Offset of `ndtc_entries` in `struct ndt_config`.
    const ENTRIES: usize = 4;
    let malformed = || ExchangeError::Malformed("a neighbour table cannot be parsed");
    let (header, attributes) = answer.split_first_chunk::<HEADER>().ok_or_else(malformed)?;
    let family = match i32::from(header[0]) {
        nix::libc::AF_INET => Family::Ipv4,
        nix::libc::AF_INET6 => Family::Ipv6,
        _ => return Ok(None),
    };
    let (mut entries, mut limit) = (None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| malformed())?;
        let number = |at: usize| {
            let bytes = attribute.value().get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_ne_bytes)
        };
        match attribute.kind() {
            THRESH3 => limit = number(0),
            CONFIG => entries = number(ENTRIES),
            _ => {}
        }
    }
    Ok(entries.zip(limit).map(|(entries, limit)| NeighbourTable { family, entries, limit }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_there_with_their_limits() {
        let tables = neighbour_tables(&Netns::current().unwrap()).unwrap();
        let setting = |family: Family| {
            let path = format!("/proc/sys/{}", family.limit().replace('.', "/"));
            // Only the machine's initial namespace has it.
            std::fs::read_to_string(path).ok().map(|text| text.trim().parse::<u32>().unwrap())
        };
        assert!(tables.iter().any(|table| table.family == Family::Ipv4), "{tables:?}");
        for table in &tables {
            assert!(
                table.limit > 0 && setting(table.family).is_none_or(|limit| limit == table.limit),
                "{table:?}"
            );
        }
    }

    #[test]
    fn what_is_cut_off_is_malformed_and_nothing_panics() {
        assert!(parse(&[2, 0, 0]).is_err());
        assert_eq!(parse(&[2, 0, 0, 0]).unwrap(), None, "the settings of a device");
        assert_eq!(parse(&[99, 0, 0, 0, 1]).unwrap(), None);
        assert!(parse(&[2, 0, 0, 0, 9, 0, 4, 0, 1]).is_err());
    }
}
