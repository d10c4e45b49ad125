//! Types that can be passed as a command line.

/// A command and its arguments.
pub(crate) trait Args {
    /// Its words.
    fn words(self) -> Vec<String>;
}

/// Split at white space, as a command line without quoting: arguments with spaces need an array.
impl Args for &str {
    fn words(self) -> Vec<String> {
        self.split_whitespace().map(str::to_owned).collect()
    }
}

impl Args for String {
    fn words(self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<const N: usize> Args for [&str; N] {
    fn words(self) -> Vec<String> {
        self.into_iter().map(str::to_owned).collect()
    }
}

impl Args for Vec<String> {
    fn words(self) -> Vec<String> {
        self
    }
}
