//! Typed access to TOML tables. Each getter records faults and returns valid values.

use std::ops::{Range, RangeInclusive};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{fault::Sink, keys};

/// A value and its position in the file.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<T> At<T> {
    pub(super) const fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }

    pub(super) fn with<U>(&self, value: U) -> At<U> {
        At { value, span: self.span.clone() }
    }
}

/// An array, and whether all of it could be read.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<At<T>>,
    pub(super) whole: bool,
}

/// One table of the file.
#[derive(Clone, Debug)]
pub(super) struct Table<'t> {
    /// What it describes, for messages: "an interface".
    what: &'static str,
    table: &'t DeTable<'t>,
}

impl<'t> Table<'t> {
    pub(super) const fn new(what: &'static str, table: &'t DeTable<'t>) -> Self {
        Self { what, table }
    }

    /// Records a fault for every key that is not in `known`.
    pub(super) fn only(&self, known: &[&'static str], sink: &mut Sink) {
        for (key, _) in self.entries() {
            if known.contains(&key.value) {
                continue;
            }
            let all = keys::listed(known.iter().copied());
            let meant = sink
                .closest(key.value, known.iter().copied())
                .map_or(String::new(), |closest| format!("did you mean `{closest}`? "));
            let plural = if known.len() == 1 { "the key of" } else { "the keys of" };
            let verb = if known.len() == 1 { "is" } else { "are" };
            let message = format!("`{}` is not a key of {}", key.value, self.what);
            sink.add(&key.span, message, format!("{meant}{plural} {} {verb} {all}", self.what))
                .label("unknown key");
        }
    }

    /// Its entries in the file's order (the parser sorts them by name).
    pub(super) fn entries(&self) -> Vec<(At<&'t str>, &'t Spanned<DeValue<'t>>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| (At::new(key.get_ref().as_ref(), key.span()), value))
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    pub(super) fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    pub(super) fn text(&self, key: &str, sink: &mut Sink) -> Option<At<&'t str>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At::new(text.as_ref(), value.span())),
            _ => mismatch(key, "a string", value, keys::example_in(self.what, key), sink),
        }
    }

    pub(super) fn boolean(&self, key: &str, sink: &mut Sink) -> Option<At<bool>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(At::new(*boolean, value.span())),
            _ => mismatch(key, "true or false", value, keys::example_in(self.what, key), sink),
        }
    }

    /// An integer in a range. `unit` is empty or starts with a space.
    pub(super) fn number(
        &self,
        key: &str,
        range: RangeInclusive<u32>,
        unit: &str,
        sink: &mut Sink,
    ) -> Option<At<u32>> {
        let value = self.get(key)?;
        let DeValue::Integer(written) = value.get_ref() else {
            return mismatch(key, "an integer", value, keys::example_in(self.what, key), sink);
        };
        match u32::from_str_radix(written.as_str(), written.radix()) {
            Ok(number) if range.contains(&number) => Some(At::new(number, value.span())),
            _ => {
                let message = format!("`{key}` cannot be {written}{unit}");
                let hint = format!("write an integer from {} to {}{unit}", range.start(), range.end());
                sink.add(&value.span(), message, hint).label("out of range");
                None
            }
        }
    }

    /// An array of strings. Empty if the key is absent.
    pub(super) fn texts(&self, key: &str, most: usize, sink: &mut Sink) -> List<&'t str> {
        let mut list = List { items: Vec::new(), whole: true };
        let Some(value) = self.get(key) else { return list };
        let elements = match value.get_ref() {
            DeValue::Array(elements) => elements,
            other => {
                let hint = match other {
                    DeValue::String(text) => format!("write {key} = [\"{text}\"]"),
                    _ => format!("write {}", keys::example_in(self.what, key)),
                };
                sink.add(&value.span(), expected(key, "an array of strings", value), hint);
                return List { whole: false, ..list };
            }
        };
        for element in elements.iter() {
            match element.get_ref() {
                DeValue::String(text) => list.items.push(At::new(text.as_ref(), element.span())),
                _ => {
                    list.whole = false;
                    let example = format!("write {}", keys::example_in(self.what, key));
                    sink.add(&element.span(), expected(key, "an array of strings", element), example);
                }
            }
        }
        bounded(&mut list.items, key, self.what, most, |item| item.span.clone(), sink);
        list
    }

    /// The table under a key.
    pub(super) fn table(&self, key: &str, what: &'static str, sink: &mut Sink) -> Option<Self> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(what, table)),
            _ => mismatch(key, "a table", value, keys::example(key), sink),
        }
    }

    /// The named tables under a key, in the file's order: `[key.NAME]`.
    pub(super) fn tables(
        &self,
        key: &str,
        what: &'static str,
        most: usize,
        sink: &mut Sink,
    ) -> Vec<(At<&'t str>, Self)> {
        let mut tables = Vec::new();
        let Some(outer) = self.table(key, what, sink) else { return tables };
        for (name, value) in outer.entries() {
            match value.get_ref() {
                DeValue::Table(table) => tables.push((name, Self::new(what, table))),
                _ => {
                    let message = expected(&format!("{key}.{}", name.value), "a table", value);
                    let hint = format!("{what} has a name of its own: {}", keys::example(key));
                    sink.add(&name.span, message, hint);
                }
            }
        }
        bounded(&mut tables, key, self.what, most, |(name, _)| name.span.clone(), sink);
        tables
    }
}

/// Records that `value` has the wrong type for `key`.
pub(super) fn mismatch<T>(
    key: &str,
    wanted: &str,
    value: &Spanned<DeValue<'_>>,
    example: &str,
    sink: &mut Sink,
) -> Option<T> {
    sink.add(&value.span(), expected(key, wanted, value), format!("write {example}"));
    None
}

/// "`mtu`: expected an integer, found string".
pub(super) fn expected(key: &str, wanted: &str, value: &Spanned<DeValue<'_>>) -> String {
    let found = match value.get_ref() {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "float",
        DeValue::Boolean(_) => "boolean",
        DeValue::Datetime(_) => "date",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "table",
    };
    format!("`{key}`: expected {wanted}, found {found}")
}

/// Truncates a list at its limit. The first item beyond the limit is the fault.
pub(super) fn bounded<T>(
    items: &mut Vec<T>,
    key: &str,
    what: &str,
    most: usize,
    span: impl Fn(&T) -> Range<usize>,
    sink: &mut Sink,
) {
    if let Some(first) = items.get(most) {
        let message = format!("`{key}` of {what} has {} entries, and {most} is the most", items.len());
        sink.add(&span(first), message, "split the lab in two, or take some out").label("one too many");
        items.truncate(most);
        sink.cut();
    }
}
