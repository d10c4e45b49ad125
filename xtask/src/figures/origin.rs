//! When each source was measured, and of which commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{results::Raw, sources};
use crate::{
    error::Error,
    tools::{command, output},
};

/// The key of the origins in the results.
pub(super) const KEY: &str = "measured";

/// The origin of one source. Unknown fields are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The day, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
}

/// The origins of all sources.
#[derive(Debug)]
pub(super) struct Origins(BTreeMap<String, Origin>);

impl Origin {
    /// The origin of a measurement made now.
    pub(super) fn now() -> Self {
        let line = |command: &mut std::process::Command| output(command).map(|text| text.trim().to_owned());
        Self {
            date: line(command("date").args(["-u", "+%F"])),
            commit: line(command("git").args(["rev-parse", "--short", "HEAD"])),
        }
    }

    /// Stores it with the results.
    pub(super) fn keep(&self, raw: &mut Raw, source: &str) -> Result<(), Error> {
        let mut all = Origins::of(raw)?.0;
        all.insert(source.to_owned(), self.clone());
        let all = serde_json::to_value(all).map_err(|error| Error::Figures(error.to_string()))?;
        raw.insert(KEY.to_owned(), all);
        Ok(())
    }
}

impl Origins {
    /// The origins of all results. Reports contain their own date.
    pub(super) fn of(raw: &Raw) -> Result<Self, Error> {
        let kept = raw.get(KEY).cloned().map(serde_json::from_value).transpose();
        let mut all: BTreeMap<String, Origin> =
            kept.map_err(|error| Error::Figures(format!("{KEY}: {error}")))?.unwrap_or_default();
        for name in sources::names() {
            let Some(value) = raw.get(name) else { continue };
            let date = value["machine"]["date"].as_str();
            let day = date.and_then(|date| date.split('T').next()).map(str::to_owned);
            let origin = all.entry(name.to_owned()).or_default();
            origin.date = origin.date.take().or(day);
        }
        Ok(Self(all))
    }

    /// The range of days: `on 2026-11-21`, `from 2026-11-21 to 2026-11-23`.
    pub(super) fn days(&self) -> String {
        let days = || self.0.values().filter_map(|origin| origin.date.as_deref());
        match (days().min(), days().max()) {
            (Some(first), Some(last)) if first != last => format!("from {first} to {last}"),
            (Some(day), _) => format!("on {day}"),
            (None, _) => "on an unknown day".to_owned(),
        }
    }

    /// The commit of all sources, if it is known and the same for all.
    pub(super) fn commit(&self) -> Option<&str> {
        let first = self.0.values().next()?.commit.as_deref()?;
        self.0.values().all(|origin| origin.commit.as_deref() == Some(first)).then_some(first)
    }

    /// A note for readers if the sources are from different commits.
    pub(super) fn unlike(&self) -> Option<String> {
        let mut by_commit: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
        for (source, origin) in &self.0 {
            by_commit.entry(origin.commit.as_deref()).or_default().push(source);
        }
        let say = |(commit, sources): (&Option<&str>, &Vec<&str>)| {
            let commit = commit.map_or("an unknown one".to_owned(), |commit| format!("`{commit}`"));
            format!("{commit}: {}", sources.join(", "))
        };
        let commits: Vec<_> = by_commit.iter().map(say).collect();
        (commits.len() > 1).then(|| format!("Not all of one commit. Of {}.", commits.join("; of ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origin(date: &str, commit: Option<&str>) -> Origin {
        Origin { date: Some(date.to_owned()), commit: commit.map(str::to_owned) }
    }

    fn raw(kept: &[(&str, Origin)]) -> Raw {
        let report = json!({"machine": {"date": "2026-11-21T07:00:00Z"}});
        let mut raw: Raw = [("work".to_owned(), report), ("limit".to_owned(), json!("text"))].into();
        for (source, origin) in kept {
            origin.keep(&mut raw, source).expect("an origin");
        }
        raw
    }

    #[test]
    fn reports_tell_their_date_where_nothing_is_kept() {
        let origins = Origins::of(&raw(&[])).expect("origins");
        assert_eq!(origins.days(), "on 2026-11-21");
        assert_eq!((origins.commit(), origins.unlike()), (None, None));
    }

    #[test]
    fn sources_of_different_commits_are_named() {
        let one = origin("2026-11-20", Some("abc"));
        let same = Origins::of(&raw(&[("work", one.clone()), ("limit", one.clone())])).expect("origins");
        assert_eq!(
            (same.days().as_str(), same.commit(), same.unlike()),
            ("on 2026-11-20", Some("abc"), None)
        );
        let later = origin("2026-11-23", Some("def"));
        let both = Origins::of(&raw(&[("work", one.clone()), ("limit", later)])).expect("origins");
        assert_eq!(both.days(), "from 2026-11-20 to 2026-11-23");
        let expected = "Not all of one commit. Of `abc`: work; of `def`: limit.";
        assert_eq!((both.commit(), both.unlike().as_deref()), (None, Some(expected)));
        let half = Origins::of(&raw(&[("work", one)])).expect("origins");
        let expected = "Not all of one commit. Of an unknown one: limit; of `abc`: work.";
        assert_eq!(half.unlike().as_deref(), Some(expected));
    }

    #[test]
    fn what_is_measured_now_has_a_day() {
        assert!(Origin::now().date.is_some_and(|day| day.len() == "2026-11-21".len()));
    }
}
