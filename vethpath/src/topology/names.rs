//! Names and MAC addresses that are valid by construction.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a name or address cannot be used, and what to do about it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct NameError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl NameError {
    fn new(message: String, hint: impl Into<String>) -> Self {
        Self { message, hint: hint.into() }
    }
}

/// Checks the rules that all names share, and returns the name. `what` is the kind of name, with its article.
fn checked(what: &'static str, text: &str, most: usize, dots: bool) -> Result<String, NameError> {
    let Some(first) = text.chars().next() else {
        return Err(NameError::new(
            format!("{what} cannot be empty"),
            "give it a name of letters and digits",
        ));
    };
    // Any other character breaks a path, a command line or another tool's parser.
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (dots && c == '.');
    if let Some(character) = text.chars().find(|&c| !fine(c)) {
        let dot = if dots { " and `.`" } else { "" };
        let message =
            format!("`{text}` has {character:?} in it, and {what} is made of letters, digits, `-`, `_`{dot}");
        let better: String = text.chars().take(32).map(|c| if fine(c) { c } else { '-' }).collect();
        let hint = match better.trim_start_matches(['-', '.']) {
            "" => String::from("choose letters and digits"),
            better => format!("`{better}` would do"),
        };
        return Err(NameError::new(message, hint));
    }
    if first == '-' || first == '.' {
        let message = format!("{what} cannot start with `{first}`: `{text}`");
        return Err(NameError::new(message, "start it with a letter or digit"));
    }
    if text.len() > most {
        let message = format!("`{text}` is {} bytes long, and {what} has at most {most}", text.len());
        return Err(NameError::new(message, format!("shorten it to {most} bytes")));
    }
    Ok(text.to_owned())
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
                    let message = format!("`{text}` has a meaning of its own and cannot be {}", $what);
                    return Err(NameError::new(message, "choose another name"));
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

name_type!(
    /// The name or identifier of a container, of the characters that engines take
    /// (`RestrictedNameChars` in daemon/names/names.go of moby). It is a part of the path of a request as it is.
    ContainerName, "a container name", 128, true, []
);

/// A unicast Ethernet address that an interface can have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// Creates the address of an interface.
    ///
    /// # Errors
    /// A group address or all zeroes.
    pub fn unicast(bytes: [u8; 6]) -> Result<Self, NameError> {
        let mac = Self(bytes);
        let what = match bytes {
            [0, 0, 0, 0, 0, 0] => "all zeroes",
            [first, ..] if first & 1 != 0 => "a group address",
            _ => return Ok(mac),
        };
        let message = format!("`{mac}` cannot be the address of an interface: it is {what}");
        Err(NameError::new(message, "use a unicast address; one that starts with 02 cannot be a vendor's"))
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
        let syntax = || {
            let hint = "write six pairs of hexadecimal digits, such as \"02:00:00:00:00:01\"";
            NameError::new(format!("`{text}` is not a MAC address"), hint)
        };
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
