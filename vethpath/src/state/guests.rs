//! What the inner ends of guest ports had counted before the program was attached to their ports.

use std::{collections::BTreeMap, fs};

use vethpath_common::PortKey;

use super::Directory;
use crate::kernel::{Context, LinkFacts, Result, files};

/// The counters of an inner end at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// The number of its port in the maps. Another number is another port's.
    pub number: u32,
    /// Frames and bytes sent.
    pub sent: (u64, u64),
    /// Frames and bytes received.
    pub received: (u64, u64),
}

impl Before {
    /// The counters that a link has now.
    #[must_use]
    pub fn of(number: u32, inner: &LinkFacts) -> Self {
        Self { number, sent: inner.sent, received: inner.received }
    }

    /// A link with what it counted since then.
    #[must_use]
    pub fn since(&self, inner: LinkFacts) -> LinkFacts {
        let less =
            |now: (u64, u64), then: (u64, u64)| (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1));
        LinkFacts {
            sent: less(inner.sent, self.sent),
            received: less(inner.received, self.received),
            ..inner
        }
    }
}

/// Those of all guest ports of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Befores(pub BTreeMap<PortKey, Before>);

impl Befores {
    /// Reads them. A missing file has none, and lines that cannot be parsed are skipped.
    #[must_use]
    pub fn read(directory: &Directory) -> Self {
        let text = files::read_bounded(&directory.guests(), files::LIST).unwrap_or_default();
        Self(text.lines().filter_map(parse).collect())
    }

    /// Whether they have that of a port: the program was attached to it, or was about to be.
    #[must_use]
    pub fn has(&self, port: PortKey, number: u32) -> bool {
        self.0.get(&port).is_some_and(|before| before.number == number)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn write(&self, directory: &Directory) -> Result<()> {
        let line = |(PortKey { ifindex, domain }, before): (&PortKey, &Before)| {
            let Before { number, sent, received } = before;
            format!("{domain} {ifindex} {number} {} {} {} {}\n", sent.0, sent.1, received.0, received.1)
        };
        let (path, new) = (directory.guests(), directory.new_guests());
        let text: String = self.0.iter().map(line).collect();
        files::write_private(&new, text.as_bytes()).doing("write", new.display())?;
        fs::rename(&new, &path).doing("replace", path.display())
    }
}

fn parse(line: &str) -> Option<(PortKey, Before)> {
    let mut words = line.split(' ').map(str::parse::<u64>);
    let mut next = || words.next()?.ok();
    let domain = u32::try_from(next()?).ok()?;
    let ifindex = u32::try_from(next()?).ok()?;
    let number = u32::try_from(next()?).ok()?;
    let before = Before { number, sent: (next()?, next()?), received: (next()?, next()?) };
    Some((PortKey { ifindex, domain }, before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::stand_in(folder.path());
        assert_eq!(Befores::read(&directory), Befores::default());
        let before = Before { number: 11, sent: (1, 60), received: (u64::MAX, 2) };
        let befores = Befores([(PortKey { ifindex: 5, domain: 1 }, before)].into());
        befores.write(&directory).unwrap();
        assert_eq!(Befores::read(&directory), befores);
        fs::write(directory.guests(), "1 5\n\nx\n1 6 11 1 2 3 4\n").unwrap();
        assert_eq!(
            Befores::read(&directory).0.into_keys().collect::<Vec<_>>(),
            [PortKey { ifindex: 6, domain: 1 }]
        );
    }

    #[test]
    fn what_was_counted_before_is_left_out() {
        let link = |frames| LinkFacts { sent: (frames, frames * 60), ..LinkFacts::default() };
        let before = Before::of(11, &link(10));
        assert_eq!(before.since(link(12)).sent, (2, 120));
        assert_eq!(before.since(link(3)).sent, (0, 0), "made again");
    }
}
