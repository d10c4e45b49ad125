//! The keys of the view, for the bottom line and for the help.

/// A key, its word in the bottom line, and its description in the help. Those that come first fit into narrow terminals.
pub(super) struct Key {
    pub(super) keys: &'static str,
    pub(super) word: &'static str,
    pub(super) help: &'static str,
}

const fn key(keys: &'static str, word: &'static str, help: &'static str) -> Key {
    Key { keys, word, help }
}

/// All keys. Those without a word are in the help alone.
pub(super) const KEYS: &[Key] = &[
    key("q", "quit", "quit; Ctrl-C does the same"),
    key("?", "help", "show or hide this help"),
    key("s", "slow", "sort by slow packets per second: the worst pair first"),
    key("Enter", "detail", "show or hide the selected pair: reasons, addresses, events"),
    key("/", "filter", "show pairs with a text in name, port, bridge or state; Esc ends it"),
    key("t", "traffic", "sort by traffic, both directions"),
    key("u", "units", "bits, bytes or packets"),
    key("Space", "freeze", "stop what is shown; counting goes on"),
    key("l", "RTT", "show or hide round-trip times of TCP connections between hosts of the lab"),
    key("Tab", "panes", "pairs, trunks, matrix, events; or 1 to 4"),
    key("n", "name", "sort by name"),
    key("f", "file", "sort as in the file"),
    key("r", "reverse", "reverse the order"),
    key("Up, k", "", "select the row above; PgUp, Home"),
    key("Down, j", "", "select the row below; PgDn, End"),
    key("Esc", "", "close the detail or the help, end the filter"),
    key("Ctrl-Z", "", "suspend; `fg` comes back"),
];
