//! Finds the key at a position of a file.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The dotted path of the key at a byte offset, such as `namespace.ns0.interface.eth0.link`. `None` if there is no
/// key, as in a line that is not TOML.
#[must_use]
pub fn key_path(text: &str, at: usize) -> Option<String> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut path = in_table(document.get_ref(), at)?;
    path.reverse();
    let mut dotted = String::new();
    for part in path {
        match part {
            Part::Key(key) if dotted.is_empty() => dotted = quoted(&key),
            Part::Key(key) => dotted = format!("{dotted}.{}", quoted(&key)),
            Part::Index(n) => dotted = format!("{dotted}[{n}]"),
        }
    }
    Some(dotted)
}

enum Part {
    Key(String),
    Index(usize),
}

fn quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        serde_json::Value::from(key).to_string()
    }
}

/// The path below a table, last part first.
fn in_table(table: &DeTable<'_>, at: usize) -> Option<Vec<Part>> {
    let here = |key: &Spanned<_>| key.span().contains(&at);
    for (key, value) in table {
        let part = || Part::Key(key.get_ref().to_string());
        // A table may be spread over the file, so its span does not show which keys it contains.
        if let Some(mut path) = in_value(value, at) {
            path.push(part());
            return Some(path);
        }
        if here(key) {
            return Some(vec![part()]);
        }
    }
    None
}

fn in_value(value: &Spanned<DeValue<'_>>, at: usize) -> Option<Vec<Part>> {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, at),
        DeValue::Array(elements) => {
            let found = elements.iter().enumerate().find_map(|(n, element)| {
                let mut path = in_value(element, at)?;
                path.push(Part::Index(n));
                Some(path)
            });
            found.or_else(|| value.span().contains(&at).then(Vec::new))
        }
        _ => value.span().contains(&at).then(Vec::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_by_its_key() {
        let text = "name = 'x'\n[namespace.a.interface.\"e.1\"]\naddresses = ['1', '2']\n\
                    [namespace.b]\nroutes = [{ to = 'q' }]\n[namespace.a.interface.f]\nup = 1\n";
        let path = |word: &str| key_path(text, text.find(word).expect("a word"));
        assert_eq!(path("'x'").as_deref(), Some("name"));
        assert_eq!(path("'2'").as_deref(), Some("namespace.a.interface.\"e.1\".addresses[1]"));
        assert_eq!(path("\"e.1\"").as_deref(), Some("namespace.a.interface.\"e.1\""));
        assert_eq!(path("'q'").as_deref(), Some("namespace.b.routes[0].to"));
        assert_eq!(path("up").as_deref(), Some("namespace.a.interface.f.up"));
        assert_eq!(key_path("a = \n", 900), None);
    }
}
