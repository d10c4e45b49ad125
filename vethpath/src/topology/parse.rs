//! Parses strings of the file into names and addresses, with a hint for each kind of mistake.

use std::{net::IpAddr, ops::Range, str::FromStr};

use super::{IfName, LabName, Mac, NameError, NsName, Place, fault::Sink, keys, read::At};

/// The hint for an invalid name or MAC.
pub(super) fn name_hint(error: &NameError) -> String {
    match error {
        NameError::Empty { .. } => String::from("give it a name of letters and digits"),
        NameError::TooLong { most, .. } => format!("shorten it to {most} bytes"),
        NameError::Character { text, dot, .. } => {
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || (!dot.is_empty() && c == '.');
            let text: String = text.chars().take(32).map(|c| if fine(c) { c } else { '-' }).collect();
            match text.trim_start_matches(['-', '.']) {
                "" => String::from("choose letters and digits"),
                better => format!("`{better}` would do"),
            }
        }
        NameError::Start { .. } => String::from("start it with a letter or digit"),
        NameError::Reserved { .. } => String::from("choose another name"),
        NameError::MacSyntax(_) => {
            String::from("write six pairs of hexadecimal digits, such as \"02:00:00:00:00:01\"")
        }
        NameError::MacUse(..) => {
            String::from("use a unicast address; one that starts with 02 cannot be a vendor's")
        }
    }
}

/// Parses a name or MAC. Records a fault if it is invalid.
pub(super) fn named<T: FromStr<Err = NameError>>(
    text: &str,
    span: &Range<usize>,
    sink: &mut Sink,
) -> Option<T> {
    match text.parse::<T>() {
        Ok(named) => Some(named),
        Err(error) => {
            sink.add(span, error.to_string(), name_hint(&error));
            None
        }
    }
}

/// Parses a namespace of the lab, or `host`.
pub(super) fn place(text: &str, span: &Range<usize>, sink: &mut Sink) -> Option<Place> {
    if text == "host" {
        return Some(Place::Host);
    }
    named::<NsName>(text, span, sink).map(Place::Namespace)
}

/// The lab's name: `name` of the file, or the file's stem.
pub(super) fn lab_name(written: Option<At<&str>>, stem: Option<&str>, sink: &mut Sink) -> Option<LabName> {
    if let Some(name) = written {
        return named(name.value, &name.span, sink);
    }
    let example = keys::example("name");
    let Some(stem) = stem else {
        sink.add(&(0..0), "the lab has no name", format!("write `{example}` at the top of the file"));
        return None;
    };
    match stem.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let message = format!("the lab has no `name`, and the file's cannot stand in: {error}");
            sink.add(&(0..0), message, format!("write `{example}` at the top of the file"));
            None
        }
    }
}

/// The MAC under the key `mac`.
pub(super) fn mac(written: Option<At<&str>>, sink: &mut Sink) -> Option<At<Mac>> {
    let written = written?;
    named(written.value, &written.span, sink).map(|mac| written.with(mac))
}

/// The target of a `link`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// A bridge, not yet known to exist.
    Bridge(String),
    /// The other end of a cable.
    Interface(Place, IfName),
}

/// Reads the text of a `link`.
pub(super) fn link(written: &At<&str>, sink: &mut Sink) -> Option<At<Link>> {
    let Some((place_text, interface)) = written.value.split_once(':') else {
        return Some(written.with(Link::Bridge(written.value.to_owned())));
    };
    let place = place(place_text, &written.span, sink);
    let interface = named(interface, &written.span, sink);
    Some(written.with(Link::Interface(place?, interface?)))
}

/// Parses a gateway's address.
pub(super) fn gateway(written: &At<&str>, key: &str, sink: &mut Sink) -> Option<At<IpAddr>> {
    let text = written.value;
    let Ok(address) = text.parse::<IpAddr>() else {
        let hint = match text.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                format!("leave the prefix length out: \"{address}\"")
            }
            _ => format!("write an IPv4 or IPv6 address: {}", keys::example(key)),
        };
        sink.add(&written.span, format!("`{text}` is not an IP address"), hint);
        return None;
    };
    if let Err((what, hint)) = super::addresses::assignable(address) {
        sink.add(&written.span, format!("`{address}` cannot be a gateway: it is {what}"), hint);
        return None;
    }
    // The kernel requires a device for such a route, and a route of the file has none.
    if let IpAddr::V6(v6) = address
        && v6.is_unicast_link_local()
    {
        let message = format!("`{address}` cannot be a gateway: it is link-local, the same on every link");
        sink.add(&written.span, message, "use the gateway's global or unique local address, such as fd00::1");
        return None;
    }
    Some(written.with(address))
}
