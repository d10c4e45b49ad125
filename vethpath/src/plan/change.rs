//! What a step changes, as told to people and programs.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Plan;

/// What becomes of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Create,
    /// It is there, and something of it becomes another.
    Change,
    /// It is removed.
    Delete,
}

impl Action {
    /// Its sign in a diff.
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

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What becomes of it.
    pub action: Action,
    /// What kind of thing.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// What of it, where it has several properties that could change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// What that is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is to become.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Change {
    /// Something is made.
    pub fn create(kind: &'static str, name: impl fmt::Display) -> Self {
        Self { action: Action::Create, kind, name: name.to_string(), property: None, from: None, to: None }
    }

    /// Something is removed.
    pub fn delete(kind: &'static str, name: impl fmt::Display) -> Self {
        Self { action: Action::Delete, ..Self::create(kind, name) }
    }

    /// Something of a thing becomes another.
    pub fn of(kind: &'static str, name: impl fmt::Display) -> Self {
        Self { action: Action::Change, ..Self::create(kind, name) }
    }

    /// The same with what of it changes.
    #[must_use]
    pub fn property(self, property: impl fmt::Display) -> Self {
        Self { property: Some(property.to_string()), ..self }
    }

    /// The same with what it is now, if that is known, and what it will be.
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

/// All changes of a run, in order. A list of them would be many times as large as the plan that they follow from.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    plan: Plan,
    more: Vec<Change>,
}

impl Changes {
    /// Those of a plan.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        Self { plan, more: Vec::new() }
    }

    /// Adds one behind all others.
    pub fn push(&mut self, change: Change) {
        self.more.push(change);
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = Change> {
        self.plan.changes().chain(self.more.iter().cloned())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Extend<Change> for Changes {
    fn extend<T: IntoIterator<Item = Change>>(&mut self, changes: T) {
        self.more.extend(changes);
    }
}

/// One at a time.
impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_like_a_sentence() {
        let told = |change: Change| format!("{} {change}", change.action.sign());
        assert_eq!(told(Change::create("pair", "ns0:eth0")), "+ create pair ns0:eth0");
        assert_eq!(told(Change::delete("namespace", "ns3")), "- delete namespace ns3");
        let ageing = Change::of("bridge", "br0").property("ageing_time").values(Some("300 s"), "60 s");
        assert_eq!(told(ageing), "~ change bridge br0: ageing_time 300 s -> 60 s");
        let mtu = Change::of("mtu", "ns0:eth0").values(Some(1400), 1500);
        assert_eq!(told(mtu), "~ change mtu ns0:eth0: 1400 -> 1500");
        let sysctl = Change::of("sysctl", "ns0").property("net.a").values(None::<u8>, 1);
        assert_eq!(told(sysctl), "~ change sysctl ns0: net.a -> 1");
    }

    #[test]
    fn programs_get_what_there_is() {
        let json = serde_json::to_string(&Change::create("pair", "a:b")).unwrap();
        assert_eq!(json, r#"{"action":"create","kind":"pair","name":"a:b"}"#);
    }
}
