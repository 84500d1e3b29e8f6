//! Sizes and durations as people write them in configuration: `50MiB`, `64kB`, `30s`, `1h30m`; counts and octets in messages.
//!
//! Rooms use `#[serde(with = "crate::units::bytes")]` on `u64` and `#[serde(with = "crate::units::duration")]` on
//! `Duration` fields. Must not know: which fields there are.

use std::fmt::{Display, Write};
use std::time::Duration;

use serde::de::{Error, Visitor};

/// Units of size, the longest names first, so that a suffix is found whole.
const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Units of time in milliseconds.
const TIMES: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Reads a size: a whole number with `B`, `kB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` (1,024s).
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = trimmed.split_at(digits);
    let factor = SIZES.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, factor)| *factor);
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| {
        format!("\"{text}\" is not a size; write a whole number and a unit, such as \"64kB\" or \"50MiB\"")
    })
}

/// Reads a duration: whole numbers, each with `ms`, `s`, `m`, `h`, `d` or `w`, such as `90s` or `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("\"{text}\" is not a duration; write a whole number and a unit, such as \"30s\", \"5m\" or \"1h30m\"")
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = behind.split_at(letters);
        let factor = TIMES.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let part = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// Writes a size with the largest unit that divides it, for messages.
pub fn show_bytes(bytes: u64) -> String {
    let units = SIZES.iter().filter(|(name, _)| *name != "KB");
    let fitting = units.filter(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    let best = fitting.max_by_key(|(_, factor)| *factor);
    best.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// Writes a measured size for people, with three or four digits.
pub fn rough_bytes(bytes: u64) -> String {
    let mut number = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if number < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{number:.1} {unit}") };
        }
        number /= 1024.0;
    }
    format!("{number:.1} TiB")
}

/// Writes a duration as `parse_duration` reads it, for messages.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, factor) in TIMES.iter().rev() {
        if rest >= *factor {
            text.push_str(&format!("{}{name}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Writes a number with what it counts, for messages: `count(1, "mail waits", "mails wait")` is "1 mail waits".
pub fn count<N: Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let what = if number == N::from(1) { one } else { many };
    format!("{number} {what}")
}

/// A time as programs are told it, without parts of a second, for messages: `2026-11-22T10:00:00Z`.
pub fn whole_seconds(stamp: &str) -> String {
    stamp.split_once('.').map_or_else(|| stamp.to_owned(), |(whole, _)| format!("{whole}Z"))
}

/// Writes octets in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// For `#[serde(with = "crate::units::bytes")]`: text with a unit, or a plain number of bytes.
pub mod bytes {
    use serde::Deserializer;

    /// Reads a size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(super::Bytes)
    }
}

/// For `#[serde(with = "crate::units::duration")]`: text with a unit.
pub mod duration {
    use std::time::Duration;

    use serde::Deserializer;

    /// Reads a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(super::Span)
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = u64;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size such as \"64kB\" or \"50MiB\"")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        parse_bytes(text).map_err(E::custom)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::custom(format!("{number} is not a size; a size is not negative")))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }
}

struct Span;

impl Visitor<'_> for Span {
    type Value = Duration;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a duration such as \"30s\", \"5m\" or \"1h30m\"")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).map_err(E::custom)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        Err(E::custom(format!("{number} has no unit; write \"{number}s\" for seconds")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        let table = [
            ("0B", Some(0)),
            ("64kB", Some(64_000)),
            ("64 kB", Some(64_000)),
            ("50MiB", Some(50 << 20)),
            ("2GB", Some(2_000_000_000)),
            ("50", None),
            ("MB", None),
            ("1.5MB", None),
            ("-1MB", None),
            ("50mb", None),
            ("99999999999TiB", None),
        ];
        for (text, want) in table {
            assert_eq!(parse_bytes(text).ok(), want, "{text}");
        }
        for (bytes, want) in [(0, "0B"), (50 << 20, "50MiB"), (64_000, "64kB"), (1025, "1025B"), (2_000_000_000, "2GB")]
        {
            assert_eq!(show_bytes(bytes), want);
        }
    }

    #[test]
    fn octets_are_written_in_hex() {
        assert_eq!(hex(&[0, 0x0a, 0xff]), "000aff");
        assert_eq!(hex(&[]), "");
    }

    #[test]
    fn what_is_counted_stands_in_the_right_number() {
        for (number, want) in [(0u64, "0 entries"), (1, "1 entry"), (2, "2 entries"), (11, "11 entries")] {
            assert_eq!(count(number, "entry", "entries"), want);
        }
        assert_eq!(count(1usize, "mail waits", "mails wait"), "1 mail waits");
    }

    #[test]
    fn durations_are_read_and_written() {
        let table = [
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("2w", Some(1_209_600_000)),
            ("", None),
            ("30", None),
            ("1.5s", None),
            ("s", None),
            ("5 parsecs", None),
        ];
        for (text, want) in table {
            assert_eq!(parse_duration(text).ok(), want.map(Duration::from_millis), "{text:?}");
        }
        assert_eq!(show_duration(Duration::from_millis(5_400_500)), "1h30m500ms");
        assert_eq!(show_duration(Duration::ZERO), "0s");
    }
}
