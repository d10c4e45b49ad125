//! The offloads of inner ends that XDP needs switched, and the lines of the journal about them.

use std::{collections::BTreeMap, fmt};

use crate::topology::{IfName, NsName, Pair};

/// The keywords of lines of the journal, about features that were switched and about restored ones.
const FOUND: &str = "found";
const RESTORED: &str = "restored";

/// Features of the inner end of an XDP port with their original state, as a line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Its namespace.
    pub namespace: NsName,
    /// Its name.
    pub interface: IfName,
    /// Its ifindex. Another device of that name is another inner end.
    pub ifindex: u32,
    /// Feature names of `ethtool -k`, and whether each was on.
    pub features: Vec<(String, bool)>,
}

impl Offloads {
    /// The state of a pair's inner end.
    #[must_use]
    pub fn at(pair: &Pair, ifindex: u32, features: Vec<(String, bool)>) -> Self {
        let (namespace, interface) = (pair.namespace.clone(), pair.inner.name.clone());
        Self { namespace, interface, ifindex, features }
    }

    /// The features with their original state, for output.
    #[must_use]
    pub fn original(&self) -> String {
        self.format_features(|on| on)
    }

    /// The features with the state that XDP needs, which is the opposite one, for output.
    #[must_use]
    pub fn switched(&self) -> String {
        self.format_features(|on| !on)
    }

    fn format_features(&self, state: impl Fn(bool) -> bool) -> String {
        let format_feature = |(name, on): &(String, bool)| format!("{name} {}", word(state(*on)));
        self.features.iter().map(format_feature).collect::<Vec<_>>().join(", ")
    }

    /// The journal line for its restoration.
    #[must_use]
    pub fn restored(&self) -> String {
        format!("{RESTORED} {} {} {}", self.namespace, self.interface, self.ifindex)
    }

    /// Whether a line of the journal is about offloads.
    #[must_use]
    pub fn are_in(line: &str) -> bool {
        line.split(' ').next().is_some_and(|keyword| [FOUND, RESTORED].contains(&keyword))
    }

    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut found = Self {
            namespace: words.next()?.parse().ok()?,
            interface: words.next()?.parse().ok()?,
            ifindex: words.next()?.parse().ok()?,
            features: Vec::new(),
        };
        for word in words {
            let (name, value) = word.split_once('=')?;
            found.features.push((name.to_owned(), value == "on"));
        }
        Some(found)
    }
}

/// The journal line.
impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FOUND} {} {} {}", self.namespace, self.interface, self.ifindex)?;
        for (name, on) in &self.features {
            write!(f, " {name}={}", word(*on))?;
        }
        Ok(())
    }
}

/// The features that are switched now, by inner end. The first state found is kept: later runs may have found values
/// that the lab or the user set.
#[must_use]
pub fn offloads_in(journal: &str) -> BTreeMap<(NsName, IfName), Offloads> {
    let mut all: BTreeMap<(NsName, IfName), Offloads> = BTreeMap::new();
    for line in journal.lines() {
        let mut words = line.split(' ');
        let kind = words.next();
        if kind != Some(FOUND) && kind != Some(RESTORED) {
            continue;
        }
        let Some(new) = Offloads::parse(words) else { continue };
        let key = (new.namespace.clone(), new.interface.clone());
        if kind == Some(RESTORED) {
            all.remove(&key);
            continue;
        }
        let known = all.entry(key).or_insert_with(|| new.clone());
        if known.ifindex != new.ifindex {
            *known = new;
            continue;
        }
        for feature in new.features {
            if !known.features.iter().any(|(name, _)| *name == feature.0) {
                known.features.push(feature);
            }
        }
    }
    all
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_first_counts_until_it_is_put_back() {
        let on = |name: &str| (name.to_owned(), true);
        let off = |name: &str| (name.to_owned(), false);
        let found = |ifindex, features: &[_]| Offloads {
            namespace: "ns0".parse().expect("a name"),
            interface: "eth0".parse().expect("a name"),
            ifindex,
            features: features.to_vec(),
        };
        let first = found(2, &[off("rx-gro"), on("tx")]);
        let again = found(2, &[on("rx-gro"), on("other")]);
        let text = format!("{{}}\ncreate pair ns0:eth0\n{first}\n{again}\n");
        let all = |text: &str| offloads_in(text).into_values().collect::<Vec<_>>();
        assert_eq!(all(&text), [found(2, &[off("rx-gro"), on("tx"), on("other")])]);
        assert_eq!(all(&format!("{text}{}\n", first.restored())), []);
        let another = found(3, &[on("tx")]);
        assert_eq!(all(&format!("{text}{another}\nfound a b\nfound ns0 eth0 x\n")), [another]);
    }
}
