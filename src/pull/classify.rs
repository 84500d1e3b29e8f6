//! What to do with a mail that a listing shows. Pure.

use crate::pull::config::ReadElsewhere;
use crate::pull::imap::Listed;
use crate::store::rows::LedgerState;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fetch it.
    Import,
    /// Do not fetch it: it is larger than the limit.
    TooLarge,
    /// Somebody else has read it first.
    ReadElsewhere,
    /// It carries our label: another gateway has imported it, or this one did under another number.
    Known,
    /// It has its row; there is nothing to do.
    Done,
}

/// What a verdict depends on beside the listing.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub most_bytes: u64,
    pub read_elsewhere: ReadElsewhere,
}

/// Judges one mail above the cursor. `row` is its state in the ledger, if it has one. What was unread when it was
/// first seen, and had to wait, is imported even if somebody has read it meanwhile: we were late, not they early.
pub fn judge(mail: &Listed, row: Option<LedgerState>, rules: Rules) -> Verdict {
    match row {
        Some(LedgerState::Waiting) | None if mail.labelled => return Verdict::Known,
        Some(LedgerState::Waiting) => {}
        Some(_) => return Verdict::Done,
        None if mail.seen && rules.read_elsewhere == ReadElsewhere::Record => return Verdict::ReadElsewhere,
        None => {}
    }
    if mail.size.is_some_and(|size| size > rules.most_bytes) { Verdict::TooLarge } else { Verdict::Import }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_unread_mail_within_the_limit_is_fetched() {
        use LedgerState::{Imported, Known, Rejected, Waiting};
        let mail = |seen, size| Listed { uid: 1, size: Some(size), seen, labelled: false, arrived: None };
        let labelled = |seen| Listed { labelled: true, ..mail(seen, 10) };
        let unknown = Listed { size: None, ..mail(false, 0) };
        let (unread, read, large) = (mail(false, 10), mail(true, 10), mail(false, 101));
        let table = [
            (unread, None, ReadElsewhere::Record, Verdict::Import),
            (read, None, ReadElsewhere::Record, Verdict::ReadElsewhere),
            (read, None, ReadElsewhere::Import, Verdict::Import),
            (large, None, ReadElsewhere::Record, Verdict::TooLarge),
            (large, Some(Rejected), ReadElsewhere::Record, Verdict::Done),
            (read, Some(Waiting), ReadElsewhere::Record, Verdict::Import),
            (large, Some(Waiting), ReadElsewhere::Record, Verdict::TooLarge),
            (unread, Some(Imported), ReadElsewhere::Record, Verdict::Done),
            (unknown, None, ReadElsewhere::Record, Verdict::Import),
            (labelled(false), None, ReadElsewhere::Import, Verdict::Known),
            (labelled(true), None, ReadElsewhere::Import, Verdict::Known),
            (labelled(true), Some(Waiting), ReadElsewhere::Record, Verdict::Known),
            (labelled(true), Some(Imported), ReadElsewhere::Record, Verdict::Done),
            (unread, Some(LedgerState::ReadElsewhere), ReadElsewhere::Import, Verdict::Done),
            (unread, Some(Known), ReadElsewhere::Record, Verdict::Done),
        ];
        for (mail, row, read_elsewhere, want) in table {
            let rules = Rules { most_bytes: 100, read_elsewhere };
            assert_eq!(judge(&mail, row, rules), want, "{mail:?} {row:?}");
        }
    }
}
