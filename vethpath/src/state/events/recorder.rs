//! Writes events: complete lines, one write each, and a size limit. An error of the file system does not stop the
//! caller.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use log::warn;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{Event, Kind};
use crate::{kernel::files, state::Directory, topology::LabName};

/// The size in bytes at which the file is rotated. One older file is kept.
const MOST_BYTES: u64 = 1 << 20;

/// An upper bound for a line. It is kept free, so that the next line does not exceed the limit.
const ROOM: u64 = 16 << 10;

/// The interval between two attempts to take the lock.
const INTERVAL: Duration = Duration::from_millis(1);

/// How many events are kept while they cannot be written. The oldest are dropped first.
const MOST_WAITING: usize = 1000;

/// The lock timeout of a process that writes once and cannot retry later.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The lock timeout of a process that must not block and retries later.
const HASTE: Duration = Duration::from_millis(20);

/// Writes a lab's events.
pub struct Recorder {
    patience: Duration,
    lab: LabName,
    file: EventFile,
    /// Events that could not be written yet.
    waiting: VecDeque<Event>,
}

impl Recorder {
    /// The recorder of a process that writes once. It waits for another writer.
    #[must_use]
    pub fn of(directory: &Directory) -> Self {
        Self::in_folder(directory.lab(), directory.path())
    }

    fn in_folder(lab: &LabName, folder: &Path) -> Self {
        Self {
            patience: LOCK_TIMEOUT,
            lab: lab.clone(),
            file: EventFile::in_folder(folder),
            waiting: VecDeque::new(),
        }
    }

    /// A recorder with the short timeout, for a process that records repeatedly and must not block. Events that cannot
    /// be written are retried the next time.
    #[must_use]
    pub fn non_blocking(self) -> Self {
        Self { patience: HASTE, ..self }
    }

    /// Sets the long timeout again, for the last events of such a process.
    pub fn blocking(&mut self) {
        self.patience = LOCK_TIMEOUT;
    }

    /// Writes events of this moment. Those that cannot be written are kept with their time, and retried in the next
    /// call, even if that call has no new ones.
    pub fn record(&mut self, kinds: impl IntoIterator<Item = Kind>) {
        let had_trouble = !self.waiting.is_empty();
        let mut trouble = self.catch_up().err();
        for kind in kinds {
            if trouble.is_none() {
                // Its time is taken under the lock.
                trouble =
                    self.file.append(self.patience, || line(&Event::now(&self.lab, kind.clone()))).err();
            }
            if trouble.is_some() {
                self.waiting.push_back(Event::now(&self.lab, kind));
            }
        }
        let given_up = self.waiting.len().saturating_sub(MOST_WAITING);
        self.waiting.drain(..given_up);
        if let Some(error) = trouble.filter(|_| !had_trouble) {
            warn!("cannot write {}: {error}", self.file.current.display());
        }
    }

    fn catch_up(&mut self) -> io::Result<()> {
        while let Some(event) = self.waiting.front() {
            self.file.append(self.patience, || line(event))?;
            self.waiting.pop_front();
        }
        Ok(())
    }
}

fn line(event: &Event) -> String {
    // It has only strings and numbers, which JSON can represent.
    serde_json::to_string(event).unwrap_or_default()
}

/// The files of a lab's events.
#[derive(Clone, Debug)]
pub(super) struct EventFile {
    pub(super) current: PathBuf,
    pub(super) old: PathBuf,
}

impl EventFile {
    /// The files in the folder of a lab.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { current: folder.join("events.jsonl"), old: folder.join("events.old.jsonl") }
    }

    /// Appends a line, which is made under the lock: so lines are in the order of their times. `make` must leave out
    /// the newline.
    ///
    /// Waits for another writer as long as `patience`. A write takes a few microseconds, or longer if the writer is
    /// preempted.
    ///
    /// No process writes to a rotated file: each writer holds its lock, and has checked that it is still the current
    /// one.
    ///
    /// # Errors
    /// A file operation fails, or another process holds the lock for too long. Nothing was written then.
    fn append(&self, patience: Duration, make: impl FnOnce() -> String) -> io::Result<()> {
        loop {
            let file = self.lock(patience)?;
            let there = file.metadata()?;
            if !fs::metadata(&self.current).is_ok_and(|now| is_same(&now, &there)) {
                continue;
            }
            let length = there.len();
            if length + ROOM > MOST_BYTES {
                fs::rename(&self.current, &self.old)?;
                continue;
            }
            // The last writer may have been killed within a line.
            let mut last = *b"\n";
            if length > 0 {
                file.read_exact_at(&mut last, length - 1)?;
            }
            let newline = if last == *b"\n" { "" } else { "\n" };
            let line = format!("{newline}{}\n", make());
            return (&*file).write_all(line.as_bytes()).inspect_err(|_| {
                // Most likely the file system is full. Remove the partial line.
                let _ = file.set_len(length);
            });
        }
    }

    fn lock(&self, patience: Duration) -> io::Result<Flock<File>> {
        let mut options = OpenOptions::new();
        let mut file = files::open_private(options.read(true).append(true).create(true), &self.current)?;
        let deadline = Instant::now() + patience;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((refused, Errno::EWOULDBLOCK)) => file = refused,
                Err((_, errno)) => return Err(errno.into()),
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            thread::sleep(INTERVAL);
        }
    }
}

/// Whether two results of stat(2) are of the same file.
pub(super) fn is_same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::state::events::Reader;

    fn lab() -> LabName {
        "lab".parse().unwrap()
    }

    fn up(changes: usize) -> Kind {
        Kind::LabUp { changes }
    }

    fn numbers(events: Vec<Event>) -> Vec<usize> {
        let number = |event: Event| match event.kind {
            Kind::LabUp { changes } => changes,
            other => panic!("{other:?}"),
        };
        events.into_iter().map(number).collect()
    }

    #[test]
    fn twenty_thousand_flaps_stay_within_the_bound_and_a_follower_misses_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::in_folder(&lab(), folder.path());
        let mut follower = Reader::in_folder(folder.path());
        let (mut seen, mut armed) = (Vec::new(), true);
        for flap in 0..20_000 {
            let state = |armed: bool| if armed { "armed" } else { "the inner end is down" }.to_owned();
            let (pair, port, before) = ("ns0:eth0".to_owned(), "vp0".to_owned(), Some(state(armed)));
            armed = !armed;
            recorder.record([match armed {
                true => Kind::PairArmed { pair, port, before },
                false => Kind::PairNotArmed { pair, port, reason: state(armed), before },
            }]);
            if flap % 1000 == 0 {
                seen.extend(follower.read().unwrap());
                let size: u64 = fs::read_dir(folder.path())
                    .unwrap()
                    .map(|entry| entry.unwrap().metadata().unwrap())
                    .inspect(|file| assert_eq!(file.permissions().mode() & 0o777, 0o600))
                    .inspect(|file| assert!(file.len() <= MOST_BYTES))
                    .map(|file| file.len())
                    .sum();
                assert!(size <= 2 * MOST_BYTES, "{size}");
            }
        }
        seen.extend(follower.read().unwrap());
        assert_eq!(seen.len(), 20_000);
        assert!(seen.is_sorted_by_key(|event| event.time));
        let kept = Reader::in_folder(folder.path()).read().unwrap();
        assert!(kept.len() > 4_000 && seen.ends_with(&kept), "the newest are kept");
    }

    #[test]
    fn writers_side_by_side_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |number: usize| {
            let mut recorder = Recorder::in_folder(&lab(), folder.path());
            for _ in 0..5_000 {
                recorder.record([up(number)]);
            }
            let deadline = Instant::now() + Duration::from_secs(60);
            while !recorder.waiting.is_empty() && Instant::now() < deadline {
                recorder.record([]);
            }
        };
        let mut reader = Reader::in_folder(folder.path());
        let mut seen = Vec::new();
        thread::scope(|scope| {
            let writers = [1, 2].map(|number| scope.spawn(move || write(number)));
            while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
                seen.extend(reader.read().unwrap());
            }
        });
        seen.extend(reader.read().unwrap());
        let of = |number| seen.iter().filter(|event| event.kind == up(number)).count();
        assert_eq!((of(1), of(2), seen.len()), (5_000, 5_000, 10_000));
    }

    #[test]
    fn half_and_broken_lines_hide_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut recorder = Recorder::in_folder(&lab(), folder.path());
        let mut reader = Reader::in_folder(folder.path());
        let append = |bytes: &[u8]| {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(bytes).unwrap();
        };
        recorder.record([up(1)]);
        append(b"{\"time\":\"2026-11-2");
        assert_eq!(numbers(reader.read().unwrap()), [1], "half a line is none yet");
        recorder.record([up(2)]);
        append(b"\xff\xfe nonsense\n{\"kind\":\"of another age\"}\n\n");
        recorder.record([up(3)]);
        assert_eq!(numbers(reader.read().unwrap()), [2, 3]);
        assert_eq!(numbers(Reader::in_folder(folder.path()).read().unwrap()), [1, 2, 3]);
        let complete = line(&Event::now(&lab(), up(4)));
        let (head, tail) = complete.split_at(20);
        append(head.as_bytes());
        assert_eq!(reader.read().unwrap(), []);
        append(format!("{tail}\n").as_bytes());
        assert_eq!(numbers(reader.read().unwrap()), [4], "the rest of a line came later");
    }

    #[test]
    fn who_was_killed_while_putting_the_file_aside_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let [current, old] = ["events.jsonl", "events.old.jsonl"].map(|name| folder.path().join(name));
        let mut recorder = Recorder::in_folder(&lab(), folder.path());
        recorder.record([up(1)]);
        let mut follower = Reader::in_folder(folder.path());
        assert_eq!(numbers(follower.read().unwrap()), [1]);
        recorder.record([up(2)]);
        fs::rename(&current, &old).unwrap();
        let mut late = Reader::in_folder(folder.path());
        assert_eq!(numbers(late.read().unwrap()), [1, 2], "there is no new file yet");
        recorder.record([up(3)]);
        assert_eq!(numbers(late.read().unwrap()), [3]);
        assert_eq!(numbers(follower.read().unwrap()), [2, 3]);
        fs::remove_file(&current).unwrap();
        recorder.record([up(4)]);
        assert_eq!(numbers(follower.read().unwrap()), [4], "the older file was read before");
    }

    #[test]
    fn what_cannot_be_written_waits() {
        let folder = tempfile::tempdir().unwrap();
        let lab_folder = folder.path().join("lab");
        let mut recorder = Recorder::in_folder(&lab(), &lab_folder);
        let mut reader = Reader::in_folder(&lab_folder);
        assert_eq!(reader.read().unwrap(), []);
        recorder.record((0..MOST_WAITING + 7).map(up));
        assert_eq!(recorder.waiting.len(), MOST_WAITING, "not without end");
        fs::create_dir(&lab_folder).unwrap();
        recorder.record([]);
        recorder.record([up(9999)]);
        let numbers = numbers(reader.read().unwrap());
        assert_eq!((numbers.len(), numbers[0], numbers[MOST_WAITING]), (MOST_WAITING + 1, 7, 9999));
    }

    #[test]
    fn who_writes_once_waits_for_one_who_was_not_let_run_in_the_middle_of_it() {
        let folder = tempfile::tempdir().unwrap();
        Recorder::in_folder(&lab(), folder.path()).record([up(1)]);
        let held = File::open(folder.path().join("events.jsonl")).unwrap();
        let held = Flock::lock(held, FlockArg::LockExclusiveNonblock).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(HASTE * 10);
                drop(held);
            });
            Recorder::in_folder(&lab(), folder.path()).record([up(2)]);
        });
        assert_eq!(numbers(Reader::in_folder(folder.path()).read().unwrap()), [1, 2]);
    }

    #[test]
    fn who_holds_the_lock_for_ever_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::in_folder(&lab(), folder.path()).non_blocking();
        recorder.record([up(1)]);
        let held = File::open(folder.path().join("events.jsonl")).unwrap();
        let held = Flock::lock(held, FlockArg::LockExclusiveNonblock).unwrap();
        let began = Instant::now();
        recorder.record([up(2)]);
        assert!(began.elapsed() < LOCK_TIMEOUT, "it was kept for {:?}", began.elapsed());
        drop(held);
        recorder.record([up(3)]);
        assert_eq!(numbers(Reader::in_folder(folder.path()).read().unwrap()), [1, 2, 3]);
    }
}
