//! Dates of mails that we write.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A date as RFC 5322 section 3.3 writes it, in UTC.
pub fn written(at: Timestamp) -> String {
    // Years before 1 cannot be written, and are no time that a clock of ours shows.
    jiff::fmt::rfc2822::to_string(&at.to_zoned(TimeZone::UTC))
        .unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_mails_have_it() {
        let at = Timestamp::from_second(1_795_000_000).unwrap();
        assert_eq!(written(at), "Wed, 18 Nov 2026 11:06:40 +0000");
    }
}
