//! The one id that follows a mail from the door to its ticket, through logs, traces and the store.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

/// Names one mail that we took up; unique in one data directory, sorts by time. Shown as 13 letters and digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailId(pub u64);

/// The alphabet of Crockford's base 32 in lower case: no letter that is mistaken for a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Microseconds leave this many bits for ids made within one of them.
const COUNTER_BITS: u32 = 12;

/// The id that was given last.
static LAST: AtomicU64 = AtomicU64::new(0);

impl MailId {
    /// Makes an id from the time and from what this process gave before, so that no two are alike.
    pub fn fresh(now: Timestamp) -> Self {
        let floor = (now.as_microsecond().max(0) as u64) << COUNTER_BITS;
        let before = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(floor.max(last + 1)));
        let last = before.unwrap_or_else(|last| last);
        Self(floor.max(last + 1))
    }

    /// Ids that were given before this process began: the next ones come behind, wherever the clock has been set to.
    pub fn skip_to(last: Self) {
        LAST.fetch_max(last.0, Ordering::Relaxed);
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 13 {
            return None;
        }
        text.bytes()
            .try_fold(0u64, |value, byte| {
                let digit = ALPHABET.iter().position(|letter| *letter == byte)? as u64;
                value.checked_mul(32)?.checked_add(digit)
            })
            .map(Self)
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 13];
        let mut rest = self.0;
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET[(rest % 32) as usize];
            rest /= 32;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::MailId;
    use jiff::Timestamp;

    #[test]
    fn ids_of_one_microsecond_differ_and_read_back() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let ids: Vec<MailId> = (0..1000).map(|_| MailId::fresh(now)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        for id in ids {
            assert_eq!(MailId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(MailId::parse("zzzzzzzzzzzzz"), None);
        assert_eq!(MailId::parse("short"), None);
    }
}
