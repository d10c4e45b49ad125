//! `adopt`: namespaces that another program made, by a file or by the name of a container.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ContainerName;

/// How an adopted namespace is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Adopt {
    /// By its file, such as `/proc/4242/ns/net`.
    Path(String),
    /// It is that of a container.
    Container(Container),
}

impl Adopt {
    /// The container, if it is that of one.
    #[must_use]
    pub fn container(&self) -> Option<&Container> {
        match self {
            Self::Path(_) => None,
            Self::Container(container) => Some(container),
        }
    }
}

impl fmt::Display for Adopt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Container(container) => container.fmt(f),
        }
    }
}

/// A container of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Container {
    /// Its name, its identifier, or the beginning of that.
    #[serde(rename = "container")]
    pub name: ContainerName,
    /// The engine that runs it.
    pub runtime: Runtime,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container `{}` of {}", self.name, self.runtime)
    }
}

/// A container engine with Docker's API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Docker.
    #[default]
    Docker,
    /// podman.
    Podman,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// Its name in a file, which is that of its command.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_path_or_a_container() {
        let container = Container { name: "web".parse().unwrap(), runtime: Runtime::Podman };
        for (adopt, json, text) in [
            (Adopt::Path("/proc/1/ns/net".into()), r#""/proc/1/ns/net""#, "/proc/1/ns/net"),
            (
                Adopt::Container(container),
                r#"{"container":"web","runtime":"podman"}"#,
                "container `web` of podman",
            ),
        ] {
            assert_eq!((serde_json::to_string(&adopt).unwrap().as_str(), &*adopt.to_string()), (json, text));
            assert_eq!(serde_json::from_str::<Adopt>(json).unwrap(), adopt);
        }
        let hostile = r#"{"container":"../../info?x","runtime":"docker"}"#;
        assert!(serde_json::from_str::<Adopt>(hostile).is_err());
    }
}
