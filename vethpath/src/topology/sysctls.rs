//! Settings under `/proc/sys/net`: keys as sysctl(8) reads them, values of one line.

use std::collections::HashMap;

use toml::de::DeValue;

use super::{
    Sysctl,
    fault::Sink,
    keys, limits,
    read::{At, Table, bounded, expected},
};

/// The table under the key `sysctls`.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> Vec<At<Sysctl>> {
    let Some(settings) = table.table("sysctls", "`sysctls`", sink) else { return Vec::new() };
    let mut sysctls: Vec<At<Sysctl>> = Vec::new();
    let mut seen = HashMap::new();
    for (key, value) in settings.entries() {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            // `Display` keeps a radix, which the kernel does not read.
            DeValue::Integer(written) => match i64::from_str_radix(written.as_str(), written.radix()) {
                Ok(number) => number.to_string(),
                Err(_) => {
                    let message = format!("`{written}` is more than a setting can be");
                    sink.add(&value.span(), message, "write a smaller integer, or a string");
                    continue;
                }
            },
            DeValue::Boolean(on) => String::from(if *on { "1" } else { "0" }),
            other => {
                let hint = match other {
                    DeValue::Table(_) => format!("put the key in quotes: {}", keys::example("sysctls")),
                    _ => format!("write {}", keys::example("sysctls")),
                };
                sink.add(&key.span, expected(key.value, "a string, an integer or a boolean", value), hint);
                continue;
            }
        };
        if let Err((message, hint)) = checked_value(&text) {
            sink.add(&value.span(), message, hint);
            continue;
        }
        match path(key.value) {
            Err((message, hint)) => {
                sink.add(&key.span, message, hint);
            }
            Ok(path) => {
                if let Some(first) = seen.insert(path.clone(), key.span.clone()) {
                    let message = format!("`{}` is set twice", key.value);
                    sink.add(&key.span, message, "keep one of them").also(&first, "first set here");
                }
                sysctls.push(key.with(Sysctl { path, value: text }));
            }
        }
    }
    bounded(&mut sysctls, "sysctls", "one table", limits::SYSCTLS, |at| at.span.clone(), sink);
    sysctls
}

fn checked_value(text: &str) -> Result<(), (String, &'static str)> {
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err((String::from("the value of a setting is one line of text"), "take the line break out"));
    }
    if text.len() > limits::SYSCTL_VALUE {
        let message =
            format!("the value is {} bytes long, and {} is the most", text.len(), limits::SYSCTL_VALUE);
        return Err((message, "shorten it"));
    }
    Ok(())
}

/// As sysctl(8) does it: whichever of `.` and `/` comes first separates, and the other one stands
/// for a dot inside a component: `net.ipv4.conf.eth0/100.rp_filter`.
fn path(key: &str) -> Result<Vec<String>, (String, String)> {
    let slashes = key.chars().find(|c| matches!(c, '.' | '/')) == Some('/');
    let path: Vec<String> = if slashes {
        key.split('/').map(str::to_owned).collect()
    } else {
        key.split('.').map(|component| component.replace('/', ".")).collect()
    };
    let example = "write it as sysctl(8) does, such as \"net.ipv4.ip_forward\"";
    let refused = |why: &str| Err((format!("`{key}` {why}"), example.to_owned()));
    if path.iter().any(|part| part.is_empty() || part == "." || part == "..") {
        return refused("has an empty, `.` or `..` component");
    }
    if path.iter().any(|part| part.len() > limits::SYSCTL_COMPONENT || part.contains(char::is_control)) {
        return refused("is not a name that a setting can have");
    }
    match path.first() {
        Some(first) if first == "net" && path.len() > 1 => Ok(path),
        _ => refused("is not a setting of a network namespace: those begin with `net.`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_sysctl_does() {
        let parts = |key| path(key).map(|parts| parts.join("|")).unwrap_or_else(|(message, _)| message);
        assert_eq!(parts("net.ipv4.ip_forward"), "net|ipv4|ip_forward");
        assert_eq!(parts("net/ipv4/conf/eth0.100/rp_filter"), "net|ipv4|conf|eth0.100|rp_filter");
        assert_eq!(parts("net.ipv4.conf.eth0/100.rp_filter"), "net|ipv4|conf|eth0.100|rp_filter");
        for bad in [
            "kernel.hostname",
            "net",
            "",
            "net..x",
            "net/../kernel",
            "/net/x",
            "net.x.",
            "net.//.x",
            "net.a\0b",
        ] {
            assert!(path(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
