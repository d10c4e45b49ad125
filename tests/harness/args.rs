//! What can stand where a command line is wanted.

/// A command and its arguments.
pub(crate) trait Args {
    /// The words of it.
    fn words(self) -> Vec<String>;
}

/// Split at white space, for command lines as one would type them. There is no quoting: arguments
/// with spaces want an array.
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
