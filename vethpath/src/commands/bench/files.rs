//! The files of `bench`: a former run, which is read, and the page, which is replaced as a whole.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{self, Path, PathBuf},
};

use serde_json::Value;
use tempfile::{Builder, NamedTempFile};

use crate::{
    bench::{Report, VERSION},
    commands::Failure,
    kernel::files,
    output::bench::{self as output, Document},
};

/// How a file of a former run is made.
const HINT: &str = "`vethpath bench --json > FILE` writes one";

/// Reads the report of a former run.
pub fn former(path: &Path) -> Result<Report, Failure> {
    let shown = path.display();
    let text = files::read_bounded(path, files::LIST)
        .map_err(|error| Failure::request(format!("cannot read `{shown}`: {error}")).hint(HINT))?;
    parse(&text)
        .map_err(|why| Failure::request(format!("cannot compare with `{shown}`: {}", why.0)).hint(why.1))
}

/// The error and a hint.
#[derive(Debug, PartialEq, Eq)]
struct Why(String, &'static str);

fn parse(text: &str) -> Result<Report, Why> {
    let unlike = |what: String| Why(what, HINT);
    let json: Value =
        serde_json::from_str(text).map_err(|error| unlike(format!("it is not JSON: {error}")))?;
    match json["version"].as_u64() {
        None => Err(unlike("it is not a report of `vethpath bench --json`".to_owned())),
        Some(version) if version == u64::from(VERSION) => serde_json::from_value(json)
            .map_err(|error| unlike(format!("it is not a report of `vethpath bench --json`: {error}"))),
        Some(version) => Err(Why(
            format!("it is a report of version {version}, and this vethpath knows version {VERSION}"),
            "measure once more with this vethpath",
        )),
    }
}

/// The path of a page.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
}

impl Page {
    /// Checks that a file can be written to the path.
    pub fn at(path: &Path) -> Result<Self, Failure> {
        let refused = |why: &str| {
            let failure = Failure::request(format!("cannot write `{}`: {why}", path.display()));
            failure.hint("give --html a file in a folder that is there and may be written to")
        };
        if path.file_name().is_none() {
            return Err(refused("it names no file"));
        }
        let path = match fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(refused("it is there and not a file")),
            // A symlink is kept. Its target is replaced.
            Ok(_) => fs::canonicalize(path).map_err(|error| refused(&error.to_string()))?,
            // The process may enter the mount namespace of a lab later.
            Err(_) => path::absolute(path).map_err(|error| refused(&error.to_string()))?,
        };
        let page = Self { path };
        page.beside().map_err(|error| refused(&error.to_string()))?;
        Ok(page)
    }

    /// Writes a report, replacing an existing file.
    pub fn write(self, document: Document<'_>) -> Result<(), Failure> {
        let html = output::html(document.report, document.compare)
            .map_err(|error| Failure::system(error.to_string()))?;
        self.replace(&html).map_err(|error| {
            Failure::system(format!("cannot write `{}`: {error}", self.path.display()))
                .hint("the figures are still printed")
        })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut file = self.beside()?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// A temporary file in the same folder. It is deleted unless it is renamed to the page.
    fn beside(&self) -> io::Result<NamedTempFile> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // Readable by all: it has no secrets, and a user who measures as root may read it as another user.
        let mode = fs::Permissions::from_mode(0o644);
        let mut file = Builder::new();
        file.prefix(".vethpath-")
            .suffix(".html")
            .permissions(mode)
            .tempfile_in(folder.unwrap_or(Path::new(".")))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::bench::samples;

    #[test]
    fn what_json_gave_is_read() {
        let report = samples::report();
        assert_eq!(parse(&serde_json::to_string(&report).unwrap()), Ok(report));
    }

    #[test]
    fn other_files_are_told_so() {
        let why = |text: &str| parse(text).unwrap_err().0;
        assert!(why("[stats").starts_with("it is not JSON: expected"), "{}", why("[stats"));
        for other in ["{}", "[]", "1", r#"{"lab": "a", "agent": {}}"#] {
            assert_eq!(why(other), "it is not a report of `vethpath bench --json`", "{other}");
        }
        assert!(
            why(r#"{"version": 3}"#).starts_with("it is not a report of `vethpath bench --json`: missing")
        );
        for other in [1, 9] {
            assert_eq!(
                parse(&format!(r#"{{"version": {other}}}"#)),
                Err(Why(
                    format!("it is a report of version {other}, and this vethpath knows version 3"),
                    "measure once more with this vethpath"
                ))
            );
        }
    }

    fn message(path: &Path) -> String {
        let mut text = Vec::new();
        let _ = Page::at(path).unwrap_err().report(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_page_takes_the_place_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.html"), folder.path().join("link.html"));
        symlink(&file, &link).unwrap();
        fs::write(&file, "old").unwrap();
        let page = Page::at(&link).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old", "until there is a new one");
        page.write(Document { report: &samples::report(), compare: None }).unwrap();
        assert!(fs::read_to_string(&file).unwrap().starts_with("<!DOCTYPE html>"));
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left there");
    }

    #[test]
    fn where_no_page_can_be_is_told_before() {
        let folder = tempfile::tempdir().unwrap();
        for (path, why) in [
            (folder.path().to_owned(), "it is there and not a file"),
            (PathBuf::from("/dev/null"), "it is there and not a file"),
            (folder.path().join("none/a.html"), "No such file or directory"),
            (PathBuf::new(), "it names no file"),
        ] {
            let text = message(&path);
            assert!(text.contains(why) && text.contains("\nhint: give --html a file"), "{text}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
