//! The journal: first the lab's [record](super::Record), then each step before it is done.
//!
//! Before a lab is changed, the record of its new state is appended. Until the change is complete the journal has both
//! records, and every existing object follows from one of them. Then the journal is rewritten with the last record
//! alone.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
};

use super::{
    Directory, Error, Result,
    record::{History, MOST_BYTES, Record, is_of_other_lab, open_journal},
    test_hooks,
};
use crate::{
    kernel::{Context, FormerRoute, NetnsId, files},
    plan::{Offloads, offloads_in},
    topology::{Datapath, IfName, NsName, Place, RouteKey, Sysctl, SysctlKey},
};

/// The keyword of a line about an adopted namespace.
const ADOPTED: &str = "adopted";

/// The keyword of a line about a namespace that the lab has made.
const MADE: &str = "made";

/// The keyword of a line with the value of a setting before the lab changed it.
const WAS: &str = "was";

/// The keyword of a line with a route that the lab's route in an adopted namespace replaces.
const ROUTE: &str = "route";

/// The keyword of a line that takes back those before it about routes to a destination.
const NO_ROUTE: &str = "no-route";

/// The journal, open for writing.
pub struct Journal {
    file: File,
    directory: Directory,
}

impl Journal {
    /// Starts or continues the journal of a lab, with `record` as its last record.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn open(directory: &Directory, record: &Record) -> Result<Self> {
        let history = History::read(directory)?;
        let mut journal = Self::open_file(directory, history.is_some())?;
        if history.is_none_or(|history| &history.record != record) {
            journal.write_line(&text(directory, record)?)?;
        }
        Ok(journal)
    }

    /// Continues the journal of a lab that is to be taken down, or starts one if it is lost.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn resume(directory: &Directory) -> Result<Self> {
        Self::open_file(directory, directory.journal().exists())
    }

    /// Opens the file for writing. It is truncated unless it is `continued`.
    fn open_file(directory: &Directory, continued: bool) -> Result<Self> {
        let path = directory.journal();
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(continued).write(true).truncate(!continued);
        let mut file = files::open_private(&mut options, &path).doing("open", path.display())?;
        cut_torn_line(&mut file).doing("mend", path.display())?;
        Ok(Self { file, directory: directory.clone() })
    }

    /// Writes a step, before it is done.
    ///
    /// # Errors
    /// A file operation fails. The step must not be done then.
    pub fn append(&mut self, step: &str) -> Result<()> {
        self.write_line(step)
    }

    /// Writes several steps at once, before they are done.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_all(&mut self, steps: impl Iterator<Item = impl Display>) -> Result<()> {
        let lines: Vec<String> = steps.map(|step| step.to_string()).collect();
        if lines.is_empty() { Ok(()) } else { self.write_line(&lines.join("\n")) }
    }

    /// Writes which namespace is adopted under a name.
    ///
    /// # Errors
    /// A file operation fails. The namespace must not be adopted then.
    pub fn append_adopted(&mut self, name: &NsName, id: NetnsId) -> Result<()> {
        self.write_line(&format!("{ADOPTED} {name} {id}"))
    }

    /// Writes which namespaces were made. A namespace without such a line is recognised by its mark alone.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn append_created<'n>(&mut self, made: impl Iterator<Item = (&'n NsName, NetnsId)>) -> Result<()> {
        self.append_all(made.map(|(name, id)| format!("{MADE} {name} {id}")))
    }

    /// Writes the value of a setting before its first change.
    ///
    /// # Errors
    /// A file operation fails. The setting must not be changed then.
    pub fn append_former_value(&mut self, place: &Place, setting: &Sysctl) -> Result<()> {
        self.write_line(&was_line(place, &setting.key, &setting.value))
    }

    /// Writes the routes of an adopted namespace with a key that the lab is about to replace. They stand for those that were
    /// written before.
    ///
    /// # Errors
    /// A file operation fails. The routes must not be replaced then.
    pub fn append_former_routes(
        &mut self,
        name: &NsName,
        key: &RouteKey,
        routes: &[FormerRoute],
    ) -> Result<()> {
        let first = format!("{NO_ROUTE} {name} {key}");
        self.append_all([first].into_iter().chain(routes.iter().map(|route| route_line(name, route))))
    }

    /// Rewrites the journal: `record` describes the lab, and nothing is left of its former state.
    ///
    /// # Errors
    /// A file operation fails. The old journal stays then.
    pub fn settle(&mut self, record: &Record) -> Result<()> {
        let facts = Saved::read(&self.directory)?;
        let mut lines = text(&self.directory, record)? + "\n";
        for namespace in &record.topology.namespaces {
            let (kind, known) =
                if namespace.adopt.is_some() { (ADOPTED, &facts.adopted) } else { (MADE, &facts.made) };
            let id = known.get(namespace.name.as_str());
            lines.extend(id.map(|id| format!("{kind} {} {id}\n", namespace.name)));
            // Others have been restored.
            let is_replaced = |key: &RouteKey| namespace.routes.iter().any(|route| route.key() == *key);
            let routes =
                facts.routes.iter().filter(|((of, key), _)| *of == namespace.name && is_replaced(key));
            let routes = routes.flat_map(|(_, routes)| routes);
            lines.extend(routes.map(|route| route_line(&namespace.name, route) + "\n"));
        }
        let is_kept = |place: &Place| match place {
            Place::Host => true,
            Place::Namespace(name) => {
                record.topology.namespaces.iter().any(|namespace| &namespace.name == name)
            }
        };
        for ((place, key), value) in facts.was.iter().filter(|((place, _), _)| is_kept(place)) {
            lines += &(was_line(place, key, value) + "\n");
        }
        for pair in record.topology.pairs.iter().filter(|pair| pair.datapath == Datapath::Xdp) {
            let offloads = facts.offloads.get(&(pair.namespace.clone(), pair.inner.name.clone()));
            lines.extend(offloads.map(|offloads| format!("{offloads}\n")));
        }
        let (path, new) = (self.directory.journal(), self.directory.new_journal());
        files::write_private(&new, lines.as_bytes()).doing("write", new.display())?;
        test_hooks::kill_point();
        fs::rename(&new, &path).doing("replace", path.display())?;
        let file = files::open_private(OpenOptions::new().append(true), &path);
        self.file = file.doing("open", path.display())?;
        test_hooks::kill_point();
        Ok(())
    }

    /// Appends lines in one write. A kill leaves them complete, or an incomplete last one that is cut off later.
    fn write_line(&mut self, text: &str) -> Result<()> {
        let written = self.file.write_all(format!("{text}\n").as_bytes());
        written.doing("write", self.directory.journal().display())?;
        test_hooks::kill_point();
        Ok(())
    }
}

fn text(directory: &Directory, record: &Record) -> Result<String> {
    serde_json::to_string(record).map_err(|error| Error::journal(directory, error.to_string()))
}

fn was_line(place: &Place, key: &SysctlKey, value: &str) -> String {
    format!("{WAS} {place} {} {value}", key.path().join("/"))
}

fn route_line(name: &NsName, route: &FormerRoute) -> String {
    format!("{ROUTE} {name} {route}")
}

/// Cuts off an incomplete last line. Its step was not started.
fn cut_torn_line(file: &mut File) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let length = file.seek(SeekFrom::End(0))?;
    // A complete journal ends with a newline. Only an incomplete one is read.
    if length == 0 {
        return Ok(());
    }
    let _ = file.seek(SeekFrom::End(-1))?;
    let _ = file.read_to_end(&mut bytes)?;
    if bytes != b"\n" {
        let _ = file.seek(SeekFrom::Start(0))?;
        let _ = file.read_to_end(&mut bytes)?;
        let complete = bytes[1..].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        file.set_len(complete as u64)?;
    }
    let _ = file.seek(SeekFrom::End(0))?;
    Ok(())
}

/// The contents of a journal other than records and steps.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// The namespace that was last adopted under each name.
    pub adopted: BTreeMap<String, NetnsId>,
    /// The namespace that the lab last made under each name.
    pub made: BTreeMap<String, NetnsId>,
    /// The value of each setting before the lab changed it.
    pub was: BTreeMap<(Place, SysctlKey), String>,
    /// Routes of adopted namespaces that the lab's have replaced, by destination.
    pub routes: BTreeMap<(NsName, RouteKey), Vec<FormerRoute>>,
    /// The switched offloads of each inner end, with their values from before.
    pub offloads: BTreeMap<(NsName, IfName), Offloads>,
    /// Whether the last run reached its end: there is one record, and no step.
    pub is_settled: bool,
}

impl Saved {
    /// Reads the journal of a lab. A missing journal is empty. Damaged lines and everything beyond 256 MiB are
    /// skipped.
    ///
    /// # Errors
    /// The journal exists and cannot be read.
    pub fn read(directory: &Directory) -> Result<Self> {
        let path = directory.journal();
        let Some(file) = open_journal(directory)? else { return Ok(Self::default()) };
        let mut bytes = Vec::new();
        let _ = file.take(MOST_BYTES).read_to_end(&mut bytes).doing("read", path.display())?;
        let journal = String::from_utf8_lossy(&bytes);
        // Lines in a journal of another lab are about that lab.
        let is_others = |line: &str| is_of_other_lab(line.as_bytes(), directory);
        if journal.lines().filter(|line| line.starts_with('{')).any(is_others) {
            return Ok(Self::default());
        }
        Ok(Self::parse(&journal))
    }

    fn parse(journal: &str) -> Self {
        let is_settled = journal.starts_with('{');
        let mut facts = Self { offloads: offloads_in(journal), is_settled, ..Self::default() };
        for (number, line) in journal.lines().enumerate() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some(kind @ (ADOPTED | MADE)), Some(name), Some(inode), cookie) => {
                    let known = if kind == ADOPTED { &mut facts.adopted } else { &mut facts.made };
                    if let Ok(inode) = inode.parse() {
                        let id = NetnsId { inode, cookie: cookie.and_then(|cookie| cookie.parse().ok()) };
                        if known.insert(name.to_owned(), id).is_some_and(|former| former != id) {
                            // They were restored before the name was given to another namespace.
                            facts.routes.retain(|(of, _), _| of.as_str() != name);
                            facts.was.retain(
                                |(place, _), _| !matches!(place, Place::Namespace(of) if of.as_str() == name),
                            );
                        }
                    }
                }
                (Some(WAS), Some(name), Some(path), Some(value)) => {
                    let place = match name {
                        "host" => Some(Place::Host),
                        name => name.parse().ok().map(Place::Namespace),
                    };
                    if let (Some(place), Ok(key)) = (place, path.parse()) {
                        // The first value counts: the lab itself set the later ones.
                        let _ = facts.was.entry((place, key)).or_insert_with(|| value.to_owned());
                    }
                }
                (Some(NO_ROUTE), Some(name), Some(key), None) => {
                    if let (Ok(name), Ok(key)) = (name.parse(), key.parse()) {
                        let _ = facts.routes.remove(&(name, key));
                    }
                }
                (Some(ROUTE), Some(name), Some(message), None) => {
                    if let (Ok(name), Ok(route)) = (name.parse(), message.parse::<FormerRoute>()) {
                        let known = facts.routes.entry((name, route.key)).or_default();
                        if !known.contains(&route) {
                            known.push(route);
                        }
                    }
                }
                _ => facts.is_settled &= number == 0 || Offloads::are_in(line),
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_adoption_under_a_name_counts() {
        let journal =
            "{}\ncreate namespace a\nadopted a 1\nadopted ab 2 77\nadopted a 3\nadopted b x\nmade c 4 5\n";
        let Saved { adopted, made, .. } = Saved::parse(journal);
        let id = |inode, cookie| Some(NetnsId { inode, cookie });
        assert_eq!((adopted.get("a").copied(), adopted.get("ab").copied()), (id(3, None), id(2, Some(77))));
        assert_eq!((adopted.get("b"), made.get("c").copied()), (None, id(4, Some(5))));
    }

    #[test]
    fn a_journal_with_a_step_or_a_second_record_is_not_settled() {
        let facts = "{}\nmade a 1\nadopted b 2\nwas a net/ipv4/ip_forward 0\nfound a eth0 3 gro=off\n";
        let is_settled = |journal: &str| Saved::parse(journal).is_settled;
        assert!(is_settled(facts) && is_settled("{}\n"));
        assert!(!is_settled(&format!("{facts}create bridge br0\n")) && !is_settled("{}\n{}\n"));
        assert!(!is_settled(""), "there is none");
    }

    #[test]
    fn the_first_value_of_a_setting_is_what_it_was() {
        let journal = "was a net/ipv4/tcp_rmem 4096\t131072 6291456\nwas a net/ipv4/tcp_rmem 1 2 3\n\
            was host net/ipv4/conf/v.0/rp_filter 2\nwas a ../../etc/x 1\n";
        let was = Saved::parse(journal).was;
        let values: Vec<_> =
            was.iter().map(|((place, key), value)| format!("{place} {key} {value}")).collect();
        let expected = ["host net.ipv4.conf.v/0.rp_filter 2", "a net.ipv4.tcp_rmem 4096\t131072 6291456"];
        assert_eq!(values, expected);
    }

    #[test]
    fn replaced_routes_are_known_by_namespace_and_destination() {
        // default via 10.88.0.1 dev 2, and 10.1.0.0/16 by the same gateway.
        let default = "02000000fe0300010000000008000500".to_owned() + "0a5800010800040002000000";
        let subnet = "021000".to_owned() + "00fe03000100000000080001000a010000080005000a580001";
        let journal = format!(
            "{{}}\nadopted a 1\nroute a {0}\nroute a {0}\nroute a {subnet}\nroute b {0}\nroute a 02\nroute a zz\n",
            default
        );
        let saved = Saved::parse(&journal);
        let known: Vec<_> =
            saved.routes.iter().map(|((of, to), routes)| format!("{of} {to} {}", routes.len())).collect();
        assert_eq!(known, ["a 0.0.0.0/0 1", "a 10.1.0.0/16 1", "b 0.0.0.0/0 1"]);
        let route = &saved.routes.iter().next().unwrap().1[0];
        assert_eq!(route.via, Some("10.88.0.1".parse().unwrap()));
        assert_eq!(route.to_string(), default);
        assert!(saved.is_settled);
        let newer = format!("{journal}no-route b 0.0.0.0/0\nno-route a 0.0.0.0/0\nroute a {default}\n");
        assert_eq!(Saved::parse(&newer).routes.len(), 2, "the last ones count");
        let again = journal + "was a net/ipv4/ip_forward 0\nadopted a 2\n";
        let saved = Saved::parse(&again);
        let known: Vec<_> = saved.routes.keys().map(|(of, _)| of.to_string()).collect();
        assert_eq!((known, saved.was.len()), (vec!["b".to_owned()], 0), "another namespace has the name");
    }

    #[test]
    fn a_line_without_its_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        for (before, after) in [("", ""), ("a\nb\n", "a\nb\n"), ("a\nb\nhalf", "a\nb\n"), ("half", "")] {
            fs::write(&path, before).unwrap();
            let mut file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
            cut_torn_line(&mut file).unwrap();
            file.write_all(b"c\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{after}c\n"), "{before:?}");
        }
    }
}
