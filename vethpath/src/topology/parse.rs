//! Parses strings of the file into names, addresses and words, with a hint for each kind of mistake.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    str::FromStr,
};

use super::{
    Datapath, IfName, LabName, Mac, NameError, NsName, Place, Runtime,
    fault::Sink,
    keys,
    read::{At, Table},
    route::is_link_local,
};

/// Parses a name or MAC. Records a fault if it is invalid.
pub(super) fn named<T: FromStr<Err = NameError>>(
    text: &str,
    span: &Range<usize>,
    sink: &mut Sink,
) -> Option<T> {
    match text.parse::<T>() {
        Ok(named) => Some(named),
        Err(NameError { message, hint }) => {
            sink.add(span, message, hint);
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
pub(super) fn lab_name(file: &Table<'_>, stem: Option<&str>, sink: &mut Sink) -> Option<LabName> {
    if file.get("name").is_some() {
        let name = file.string("name", sink)?;
        return named(name.value, &name.span, sink);
    }
    let hint = format!("write `{}` at the top of the file", file.example("name"));
    let Some(stem) = stem else {
        sink.add(&(0..0), "the lab has no name", hint);
        return None;
    };
    match stem.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let message = format!("the lab has no `name`, and the file's cannot stand in: {error}");
            sink.add(&(0..0), message, hint);
            None
        }
    }
}

/// The MAC under the key `mac`.
pub(super) fn mac(written: Option<At<&str>>, sink: &mut Sink) -> Option<At<Mac>> {
    let written = written?;
    named(written.value, &written.span, sink).map(|mac| written.with(mac))
}

/// The datapath of a bridge, for its ports, or of an interface, for its own port. An unknown one is a fault and counts
/// as `"tc"`.
pub(super) fn datapath(written: Option<At<&str>>, sink: &mut Sink) -> Option<At<Datapath>> {
    let written = written?;
    let known = Datapath::ALL.into_iter().find(|datapath| datapath.name() == written.value);
    let datapath = known.unwrap_or_else(|| {
        let meant = sink
            .closest(written.value, Datapath::ALL.map(Datapath::name))
            .map_or(String::new(), |closest| format!("did you mean \"{closest}\"? "));
        let hint = format!(
            "{meant}write \"tc\" for the fast path, \"xdp\" for one that is made for frames without \
             sockets, or \"bridge\" for a plain bridge"
        );
        sink.add(&written.span, format!("there is no datapath `{}`", written.value), hint);
        Datapath::Tc
    });
    Some(written.with(datapath))
}

/// The engine of a container.
pub(super) fn runtime(written: &At<&str>, sink: &mut Sink) -> Option<Runtime> {
    let known = Runtime::ALL.into_iter().find(|runtime| runtime.name() == written.value);
    if known.is_none() {
        let message = format!("there is no runtime `{}`", written.value);
        let hint = "write \"docker\" or \"podman\", or adopt by `pid` or `path` what another engine runs";
        sink.add(&written.span, message, hint);
    }
    known
}

/// The address at which the lab's metrics are served: of a loopback, and with a port.
pub(super) fn metrics(written: Option<At<&str>>, sink: &mut Sink) -> Option<SocketAddr> {
    let At { value: text, span } = written?;
    let write = format!("write {}", keys::AN_ENDPOINT);
    let (message, hint) = match text.parse::<SocketAddr>() {
        Err(_) => {
            let message = format!("`{text}` is not an IP address with a port");
            (message, format!("{write}, or metrics = \"[::1]:9466\""))
        }
        Ok(address) if !address.ip().is_loopback() => {
            let message = format!("`{text}` is not a loopback address");
            (message, format!("{write}; `vethpath metrics --listen {text}` serves all labs at any address"))
        }
        Ok(address) if address.port() == 0 => {
            (format!("`{text}` has no port"), format!("{write}, with a port from 1 to 65535"))
        }
        // Without the scope that an IPv6 address may have.
        Ok(address) => return Some(SocketAddr::new(address.ip(), address.port())),
    };
    sink.add(&span, message, hint);
    None
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

/// Parses the address of a gateway without an interface. The example is of its key.
pub(super) fn gateway(written: &At<&str>, example: &str, sink: &mut Sink) -> Option<At<IpAddr>> {
    let via = next_hop(written, example, sink)?;
    // The kernel requires a device for such a route.
    if is_link_local(via.value) {
        let message =
            format!("`{}` cannot be a gateway: it is link-local, the same on every link", via.value);
        let hint =
            "use the gateway's global or unique local address, such as fd00::1, or write a route with `dev`";
        sink.add(&written.span, message, hint);
        return None;
    }
    Some(via)
}

/// Parses the address of a gateway, which may be link-local. The example is of its key.
pub(super) fn next_hop(written: &At<&str>, example: &str, sink: &mut Sink) -> Option<At<IpAddr>> {
    let text = written.value;
    let Ok(address) = text.parse::<IpAddr>() else {
        let hint = match text.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                format!("leave the prefix length out: \"{address}\"")
            }
            _ => format!("write an IPv4 or IPv6 address: {example}"),
        };
        sink.add(&written.span, format!("`{text}` is not an IP address"), hint);
        return None;
    };
    if let Err((what, hint)) = super::addresses::assignable(address) {
        sink.add(&written.span, format!("`{address}` cannot be a gateway: it is {what}"), hint);
        return None;
    }
    Some(written.with(address))
}
