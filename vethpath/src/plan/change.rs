//! The changes that a step makes, for output as text and JSON.

use std::{fmt, net::SocketAddr};

use serde::Serialize;

use crate::topology::LabName;

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is created.
    Create,
    /// It exists, and a property of it changes.
    Change,
    /// It is deleted.
    Delete,
}

impl Action {
    /// Its sign in a diff: `+`, `~` or `-`.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Change => '~',
            Self::Delete => '-',
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Delete => "delete",
        })
    }
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whether it is created, changed or deleted.
    pub action: Action,
    /// The kind of object, such as `bridge`.
    pub kind: &'static str,
    /// The object's name.
    pub name: String,
    /// The property that changes, where the kind has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// The present value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The new value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Change {
    /// The creation of an object.
    pub fn create(kind: &'static str, name: impl fmt::Display) -> Self {
        Self { action: Action::Create, kind, name: name.to_string(), property: None, from: None, to: None }
    }

    /// The deletion of an object.
    pub fn delete(kind: &'static str, name: impl fmt::Display) -> Self {
        Self { action: Action::Delete, ..Self::create(kind, name) }
    }

    /// A change of an existing object.
    pub fn of(kind: &'static str, name: impl fmt::Display) -> Self {
        Self { action: Action::Change, ..Self::create(kind, name) }
    }

    /// The change of where the metrics of a lab are served; `None` if that stays.
    #[must_use]
    pub fn of_metrics(lab: &LabName, from: Option<SocketAddr>, to: Option<SocketAddr>) -> Option<Self> {
        match (from, to) {
            (from, to) if from == to => None,
            (None, Some(to)) => Some(Self::create("metrics", format_args!("{to} of {lab}"))),
            (Some(from), None) => Some(Self::delete("metrics", format_args!("{from} of {lab}"))),
            (Some(from), Some(to)) => Some(Self::of("metrics", lab).values(Some(from), to)),
            (None, None) => None,
        }
    }

    /// Sets the property that changes.
    #[must_use]
    pub fn property(self, property: impl fmt::Display) -> Self {
        Self { property: Some(property.to_string()), ..self }
    }

    /// Sets the present value, if it is known, and the new one.
    #[must_use]
    pub fn values(self, from: Option<impl fmt::Display>, to: impl fmt::Display) -> Self {
        Self { from: from.map(|from| from.to_string()), to: Some(to.to_string()), ..self }
    }
}

impl fmt::Display for Change {
    /// `change bridge br0: ageing_time 300 s -> 60 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.action, self.kind, self.name)?;
        let values = match (&self.from, &self.to) {
            (Some(from), Some(to)) => Some(format!("{from} -> {to}")),
            (None, Some(to)) => Some(format!("-> {to}")),
            _ => None,
        };
        match (self.property.as_deref(), values.as_deref()) {
            (Some(property), Some(values)) => write!(f, ": {property} {values}"),
            (Some(text), None) | (None, Some(text)) => write!(f, ": {text}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_like_a_sentence() {
        let line = |change: Change| format!("{} {change}", change.action.sign());
        assert_eq!(line(Change::create("pair", "ns0:eth0")), "+ create pair ns0:eth0");
        assert_eq!(line(Change::delete("namespace", "ns3")), "- delete namespace ns3");
        let ageing = Change::of("bridge", "br0").property("ageing_time").values(Some("300 s"), "60 s");
        assert_eq!(line(ageing), "~ change bridge br0: ageing_time 300 s -> 60 s");
        let mtu = Change::of("mtu", "ns0:eth0").values(Some(1400), 1500);
        assert_eq!(line(mtu), "~ change mtu ns0:eth0: 1400 -> 1500");
        let sysctl = Change::of("sysctl", "ns0").property("net.a").values(None::<u8>, 1);
        assert_eq!(line(sysctl), "~ change sysctl ns0: net.a -> 1");
    }

    #[test]
    fn metrics_come_go_and_move() {
        let lab = "lab".parse().unwrap();
        let (one, other) = ("127.0.0.1:9466".parse().unwrap(), "[::1]:9466".parse().unwrap());
        let line = |from, to| Change::of_metrics(&lab, from, to).map(|change| change.to_string());
        assert_eq!(line(None, Some(one)).as_deref(), Some("create metrics 127.0.0.1:9466 of lab"));
        assert_eq!(line(Some(one), None).as_deref(), Some("delete metrics 127.0.0.1:9466 of lab"));
        assert_eq!(
            line(Some(one), Some(other)).as_deref(),
            Some("change metrics lab: 127.0.0.1:9466 -> [::1]:9466")
        );
        assert_eq!((line(None, None), line(Some(one), Some(one))), (None, None));
    }

    #[test]
    fn programs_get_what_there_is() {
        let json = serde_json::to_string(&Change::create("pair", "a:b")).unwrap();
        assert_eq!(json, r#"{"action":"create","kind":"pair","name":"a:b"}"#);
    }
}
