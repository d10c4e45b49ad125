//! Names and MAC addresses that are valid by construction.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a name or address cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Empty.
    #[error("{what} cannot be empty")]
    Empty {
        /// The kind of name, with its article.
        what: &'static str,
    },
    /// Longer than the kernel or vethpath accepts.
    #[error("`{text}` is {length} bytes long, and {what} has at most {most}")]
    TooLong {
        /// The kind of name, with its article.
        what: &'static str,
        /// The name.
        text: String,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        most: usize,
    },
    /// A character that breaks a path, a command line or another tool's parser.
    #[error("`{text}` has {character:?} in it, and {what} is made of letters, digits, `-`, `_`{dot}")]
    Character {
        /// The kind of name, with its article.
        what: &'static str,
        /// The name.
        text: String,
        /// The first invalid character.
        character: char,
        /// "and `.`" where a dot is allowed.
        dot: &'static str,
    },
    /// `.`, `..`, or a leading `-` or `.`.
    #[error("{what} cannot start with `{first}`: `{text}`")]
    Start {
        /// The kind of name, with its article.
        what: &'static str,
        /// The name.
        text: String,
        /// Its first character.
        first: char,
    },
    /// A reserved word.
    #[error("`{text}` has a meaning of its own and cannot be {what}")]
    Reserved {
        /// The kind of name, with its article.
        what: &'static str,
        /// The name.
        text: String,
    },
    /// Not six hexadecimal bytes.
    #[error("`{0}` is not a MAC address")]
    MacSyntax(String),
    /// Multicast or all zero.
    #[error("`{0}` cannot be the address of an interface: it is {1}")]
    MacUse(Mac, &'static str),
}

/// Checks the rules that all names share, and returns the name.
fn checked(what: &'static str, text: &str, most: usize, dots: bool) -> Result<String, NameError> {
    let owned = || text.to_owned();
    let Some(first) = text.chars().next() else { return Err(NameError::Empty { what }) };
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (dots && c == '.');
    if let Some(character) = text.chars().find(|&c| !fine(c)) {
        let dot = if dots { " and `.`" } else { "" };
        return Err(NameError::Character { what, text: owned(), character, dot });
    }
    if first == '-' || first == '.' {
        return Err(NameError::Start { what, text: owned(), first });
    }
    if text.len() > most {
        return Err(NameError::TooLong { what, text: owned(), length: text.len(), most });
    }
    Ok(owned())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $most:expr, $dots:expr, $reserved:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The maximum length in bytes.
            pub const MOST: usize = $most;

            /// The name as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let reserved: &[&str] = &$reserved;
                if reserved.contains(&text) {
                    return Err(NameError::Reserved { what: $what, text: text.to_owned() });
                }
                checked($what, text, Self::MOST, $dots).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a lab. It becomes a directory name in bpffs, where dots are not allowed.
    LabName, "a lab name", 32, false, []
);
name_type!(
    /// The name of a namespace, as `ip netns` shows it.
    NsName, "a namespace name", 48, true, ["host"]
);
name_type!(
    /// The name of a network interface: at most 15 bytes (IFNAMSIZ less the terminating NUL).
    IfName, "an interface name", 15, true, ["all", "default", "lo"]
);

/// A unicast Ethernet address that an interface can have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// Creates the address of an interface.
    ///
    /// # Errors
    /// A group address or all zeroes ([`NameError::MacUse`]).
    pub fn unicast(bytes: [u8; 6]) -> Result<Self, NameError> {
        let mac = Self(bytes);
        if bytes[0] & 1 != 0 {
            return Err(NameError::MacUse(mac, "a group address"));
        }
        if bytes == [0; 6] {
            return Err(NameError::MacUse(mac, "all zeroes"));
        }
        Ok(mac)
    }

    /// The six bytes in wire order.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let syntax = || NameError::MacSyntax(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(syntax)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(syntax());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| syntax())?;
        }
        if parts.next().is_some() {
            return Err(syntax());
        }
        Self::unicast(bytes)
    }
}

impl TryFrom<String> for Mac {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_keep_to_the_kernels_rules() {
        assert!("eth0.100".parse::<IfName>().is_ok());
        assert!("fifteen-letters".parse::<IfName>().is_ok());
        for bad in ["", "a-name-too-long0", "a/b", "a b", ".", "..", "-x", "eth0:1", "é", "lo", "all", "a%d"]
        {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn lab_names_fit_bpffs_and_paths() {
        assert!("three-hosts".parse::<LabName>().is_ok());
        for bad in ["a.b", "../x", "", "-a", &"x".repeat(33)] {
            assert!(bad.parse::<LabName>().is_err(), "{bad:?} was accepted");
        }
        assert!("host".parse::<NsName>().is_err());
    }

    #[test]
    fn macs_are_unicast() {
        assert_eq!("02:00:00:00:00:0A".parse::<Mac>().map(|m| m.to_string()), Ok("02:00:00:00:00:0a".into()));
        for bad in [
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "02:00:00:00:00",
            "02:00:00:00:00:0g",
            "02:00:00:00:00:+1",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?} was accepted");
        }
    }
}
