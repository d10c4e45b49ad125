//! Formatting of numbers and counts.

/// A whole number with thousands separators: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate with three digits: `0`, `7.25`, `873`, `12.3k`, `4.56M`.
pub fn short(number: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut number = number;
    let mut unit = 0;
    // A number that would be rounded up to 1000 is 1.00 of the next unit.
    while number >= 999.5 && unit + 1 < UNITS.len() {
        number /= 1000.0;
        unit += 1;
    }
    let places = match number {
        0.0 => 0,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.places$}{}", UNITS[unit])
}

/// A part of a whole in percent, rounded down so that 100 means all of it. `-` if the whole is 0.
pub fn percent(part: u64, whole: u64) -> String {
    match (u128::from(part) * 1000).checked_div(whole.into()) {
        None => "-".to_owned(),
        Some(tenths) => format!("{}.{}%", tenths / 10, tenths % 10),
    }
}

/// Milliseconds as seconds: `3 s`, `1.2 s`.
pub fn seconds(milliseconds: u64) -> String {
    match (milliseconds / 1000, milliseconds % 1000 / 100) {
        (whole, 0) => format!("{whole} s"),
        (whole, tenths) => format!("{whole}.{tenths} s"),
    }
}

/// `1 bridge`, `2 bridges`. For nouns whose plural is regular.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        let of = [0, 12, 999, 1000, 12_345, 123_456, 1_234_567].map(grouped);
        assert_eq!(of, ["0", "12", "999", "1,000", "12,345", "123,456", "1,234,567"]);
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn rates_have_three_digits() {
        let of = [0.0, 7.251, 12.34, 873.4, 999.6, 12_345.0, 999_600.0, 4.561e6, 1e16].map(short);
        assert_eq!(of, ["0", "7.25", "12.3", "873", "1.00k", "12.3k", "1.00M", "4.56M", "10000T"]);
    }

    #[test]
    fn a_hundred_percent_is_all() {
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(0, 7), "0.0%");
        assert_eq!(percent(9_999, 10_000), "99.9%");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0%");
    }

    #[test]
    fn leases_are_seconds() {
        assert_eq!([3_000, 1_290, 40].map(seconds), ["3 s", "1.2 s", "0 s"]);
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| count(n, "pair")), ["0 pairs", "1 pair", "2 pairs"]);
    }
}
