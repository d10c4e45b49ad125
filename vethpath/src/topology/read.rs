//! Typed access to TOML tables. Each getter takes the name of a declared key, records faults and returns valid values.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    fault::{Sink, listed},
    keys::{self, Key, Kind},
};

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
    pub(super) is_complete: bool,
}

/// What is not written is complete.
impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), is_complete: true }
    }
}

/// A key of a table and its value, as written.
pub(super) type Entry<'t> = (At<&'t str>, &'t Spanned<DeValue<'t>>);

/// One table of the file.
pub(super) struct Table<'t> {
    declared: &'static keys::Table,
    table: &'t DeTable<'t>,
}

impl<'t> Table<'t> {
    pub(super) const fn new(declared: &'static keys::Table, table: &'t DeTable<'t>) -> Self {
        Self { declared, table }
    }

    /// The declaration of a key. A reader asks only for keys that are declared.
    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = self.declared.key(name);
        debug_assert!(key.is_some(), "`{name}` is not declared for {}", self.declared.what);
        key
    }

    /// The declaration of a key, and its value if it is written.
    fn find(&self, name: &str) -> Option<(&'static Key, &'t Spanned<DeValue<'t>>)> {
        let key = self.key(name)?;
        self.table.get(name).map(|value| (key, value))
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.find(name).map(|(_, value)| value)
    }

    /// An example of a key, for hints.
    pub(super) fn example(&self, name: &str) -> &'static str {
        self.key(name).map_or("", |key| key.example)
    }

    /// The keys that are declared, in the order in which they are written.
    pub(super) fn declared_keys(&self) -> Vec<At<&'t str>> {
        let is_known = |key: &At<&str>| self.declared.key(key.value).is_some();
        entries(self.table).into_iter().map(|(key, _)| key).filter(is_known).collect()
    }

    /// The keys that are not declared.
    pub(super) fn unknown(&self) -> Vec<At<&'t str>> {
        let is_unknown = |key: &At<&str>| self.declared.key(key.value).is_none();
        entries(self.table).into_iter().map(|(key, _)| key).filter(is_unknown).collect()
    }

    /// Records a fault for every key that is not declared.
    pub(super) fn only_declared(&self, sink: &mut Sink) {
        let what = self.declared.what;
        let known = || self.declared.keys.iter().map(|key| key.name);
        for key in self.unknown() {
            let meant = sink
                .closest(key.value, known())
                .map_or(String::new(), |closest| format!("did you mean `{closest}`? "));
            let message = format!("`{}` is not a key of {what}", key.value);
            sink.add(&key.span, message, format!("{meant}the keys of {what} are {}", listed(known())))
                .label("unknown key");
        }
    }

    pub(super) fn string(&self, name: &str, sink: &mut Sink) -> Option<At<&'t str>> {
        let (key, value) = self.find(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At::new(text.as_ref(), value.span())),
            _ => mismatch(key, "a string", value, sink),
        }
    }

    pub(super) fn boolean(&self, name: &str, sink: &mut Sink) -> Option<At<bool>> {
        let (key, value) = self.find(name)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(At::new(*boolean, value.span())),
            _ => mismatch(key, "true or false", value, sink),
        }
    }

    /// An integer in the key's range.
    pub(super) fn integer(&self, name: &str, sink: &mut Sink) -> Option<At<u32>> {
        let (key, value) = self.find(name)?;
        let DeValue::Integer(written) = value.get_ref() else {
            return mismatch(key, "an integer", value, sink);
        };
        let Kind::Integer { range, unit } = &key.kind else { return None };
        match u32::from_str_radix(written.as_str(), written.radix()) {
            Ok(number) if range.contains(&number) => Some(At::new(number, value.span())),
            _ => {
                let message = format!("`{name}` cannot be {written}{unit}");
                let hint = format!("write an integer from {} to {}{unit}", range.start(), range.end());
                sink.add(&value.span(), message, hint).label("out of range");
                None
            }
        }
    }

    /// An array of strings. Empty if the key is absent.
    pub(super) fn strings(&self, name: &str, sink: &mut Sink) -> List<&'t str> {
        let mut list = List { items: Vec::new(), is_complete: true };
        let Some((key, value)) = self.find(name) else { return list };
        let elements = match value.get_ref() {
            DeValue::Array(elements) => elements,
            other => {
                let hint = match other {
                    DeValue::String(text) => format!("write {name} = [\"{text}\"]"),
                    _ => format!("write {}", key.example),
                };
                sink.add(&value.span(), expected(name, "an array of strings", value), hint);
                return List { is_complete: false, ..list };
            }
        };
        for element in elements.iter() {
            match element.get_ref() {
                DeValue::String(text) => list.items.push(At::new(text.as_ref(), element.span())),
                _ => {
                    list.is_complete = false;
                    let _: Option<()> = mismatch(key, "an array of strings", element, sink);
                }
            }
        }
        let what = self.declared.what;
        bounded(&mut list.items, name, what, key.kind.most(), |item| item.span.clone(), sink);
        list
    }

    /// The strings of a key that takes one string, or an array with one for each address family.
    pub(super) fn one_or_two(&self, name: &str, sink: &mut Sink) -> Vec<At<&'t str>> {
        let Some((key, value)) = self.find(name) else { return Vec::new() };
        match value.get_ref() {
            DeValue::String(text) => vec![At::new(text.as_ref(), value.span())],
            DeValue::Array(_) => self.strings(name, sink).items,
            _ => {
                let hint = match &key.kind {
                    Kind::OneOrTwo { example: Some(two), .. } => format!("write {}, or {two}", key.example),
                    _ => format!("write {}", key.example),
                };
                sink.add(&value.span(), expected(name, "a string or an array of two", value), hint);
                Vec::new()
            }
        }
    }

    /// The table under a key.
    fn inner(&self, name: &str, sink: &mut Sink) -> Option<(&'static Key, &'t DeTable<'t>)> {
        let (key, value) = self.find(name)?;
        match value.get_ref() {
            DeValue::Table(table) => Some((key, table)),
            _ => mismatch(key, "a table", value, sink),
        }
    }

    /// The table under a key, whose own keys are declared.
    pub(super) fn table(&self, name: &str, sink: &mut Sink) -> Option<Self> {
        let (key, table) = self.inner(name, sink)?;
        let Kind::Table(declared) = key.kind else { return None };
        Some(Self::new(declared, table))
    }

    /// The entries of the table under a key, whose own keys are the user's.
    pub(super) fn entries(&self, name: &str, sink: &mut Sink) -> Vec<Entry<'t>> {
        self.inner(name, sink).map(|(_, table)| entries(table)).unwrap_or_default()
    }

    /// The tables of the array under a key.
    pub(super) fn array(&self, name: &str, sink: &mut Sink) -> Vec<At<Self>> {
        let Some((key, value)) = self.find(name) else { return Vec::new() };
        let Kind::Array { each, .. } = key.kind else { return Vec::new() };
        let wanted = "an array of tables";
        let DeValue::Array(elements) = value.get_ref() else {
            return mismatch(key, wanted, value, sink).unwrap_or_default();
        };
        let mut tables = Vec::new();
        for element in elements.iter() {
            match element.get_ref() {
                DeValue::Table(table) => tables.push(At::new(Self::new(each, table), element.span())),
                _ => {
                    let _: Option<()> = mismatch(key, wanted, element, sink);
                }
            }
        }
        tables
    }

    /// The named tables under a key, in the file's order: `[key.NAME]`.
    pub(super) fn tables(&self, name: &str, sink: &mut Sink) -> Vec<(At<&'t str>, Self)> {
        let mut tables = Vec::new();
        let Some((key, outer)) = self.inner(name, sink) else { return tables };
        let Kind::Tables { each, special, .. } = key.kind else { return tables };
        for (title, value) in entries(outer) {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let declared =
                        special.filter(|(name, _)| title.value == *name).map_or(each, |(_, table)| table);
                    tables.push((title, Self::new(declared, table)));
                }
                _ => {
                    let message = expected(&format!("{name}.{}", title.value), "a table", value);
                    let hint = format!("{} has a name of its own: {}", each.what, key.example);
                    sink.add(&title.span, message, hint);
                }
            }
        }
        let what = self.declared.what;
        bounded(&mut tables, name, what, key.kind.most(), |(title, _)| title.span.clone(), sink);
        tables
    }
}

/// The entries of a table in the file's order (the parser sorts them by name).
fn entries<'t>(table: &'t DeTable<'t>) -> Vec<Entry<'t>> {
    let mut entries: Vec<Entry<'t>> =
        table.iter().map(|(key, value)| (At::new(key.get_ref().as_ref(), key.span()), value)).collect();
    entries.sort_by_key(|(key, _)| key.span.start);
    entries
}

/// Records that `value` has the wrong type for a key.
fn mismatch<T>(key: &Key, wanted: &str, value: &Spanned<DeValue<'_>>, sink: &mut Sink) -> Option<T> {
    sink.add(&value.span(), expected(key.name, wanted, value), format!("write {}", key.example));
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
