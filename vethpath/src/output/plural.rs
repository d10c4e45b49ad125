//! Counts with nouns.

/// `1 bridge`, `2 bridges`. For nouns whose plural is regular.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| count(n, "pair")), ["0 pairs", "1 pair", "2 pairs"]);
    }
}
