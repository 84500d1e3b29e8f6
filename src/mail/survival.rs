//! What becomes of header fields on a way through other servers (B7): kept, folded anew, changed, dropped.

use super::fields;
use super::headers::HeaderSection;

/// Fields that every server may write anew, or that say nothing about its care: they are not compared.
const PASSED_OVER: &[&str] =
    &["content-transfer-encoding", "content-type", "date", "mime-version", "received", "return-path", "subject", "to"];

/// The signature of RFC 6376, which a relay of ours puts in front of the mail.
pub const SIGNATURE: &str = "DKIM-Signature";

/// The most characters that are told of a value that came instead.
const TOLD: usize = 120;

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// It is there, byte for byte.
    Kept,
    /// Its lines are folded in other places, which changes no meaning (RFC 5322 section 2.2.3).
    Folded,
    /// It is there with another value.
    Changed,
    Dropped,
}

impl Survival {
    const ALL: [Self; 4] = [Self::Kept, Self::Folded, Self::Changed, Self::Dropped];

    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Folded => "folded",
            Self::Changed => "changed",
            Self::Dropped => "dropped",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|survival| survival.as_str() == word)
    }

    /// Whether its readers find what was written.
    pub fn survives(self) -> bool {
        matches!(self, Self::Kept | Self::Folded)
    }
}

/// One field of a mail that went out and came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    pub name: String,
    pub survival: Survival,
    /// What stands there now, where that is something else.
    pub got: Option<String>,
}

/// Compares the fields of a mail as it was written with those that arrived, in the order in which they were written.
pub fn compare(sent: &HeaderSection<'_>, got: &HeaderSection<'_>) -> Vec<Fate> {
    let mut fates: Vec<Fate> = Vec::new();
    for field in sent.fields() {
        let known = fates.iter().any(|fate| fate.name.eq_ignore_ascii_case(field.name));
        if !known && !PASSED_OVER.iter().any(|name| name.eq_ignore_ascii_case(field.name)) {
            fates.push(fate(field.name, sent, got));
        }
    }
    fates
}

fn fate(name: &str, sent: &HeaderSection<'_>, got: &HeaderSection<'_>) -> Fate {
    let found: Vec<&[u8]> = got.raw(name).collect();
    let all = |same: fn(&[u8], &[u8]) -> bool| sent.raw(name).all(|value| found.iter().any(|it| same(value, it)));
    let survival = match found.last() {
        None => Survival::Dropped,
        Some(_) if all(|value, it| value.trim_ascii_end() == it.trim_ascii_end()) => Survival::Kept,
        Some(_) if all(|value, it| fields::unfolded(value) == fields::unfolded(it)) => Survival::Folded,
        Some(_) => Survival::Changed,
    };
    let told = |value: &&[u8]| fields::unfolded(value).chars().take(TOLD).collect();
    let instead = if survival == Survival::Changed { found.last().map(told) } else { None };
    Fate { name: name.to_owned(), survival, got: instead }
}

/// The names among `wanted` of which a mail has a field; `head` is the mail or its beginning.
pub fn carried(head: &[u8], wanted: &[String]) -> Vec<String> {
    let Ok(section) = HeaderSection::read(head, head.len()) else { return Vec::new() };
    wanted.iter().filter(|name| section.has(name)).cloned().collect()
}

/// The domains that the signatures of a mail speak for (RFC 6376 section 3.5, tag `d=`), in lower case.
pub fn signers(section: &HeaderSection<'_>) -> Vec<String> {
    let domain = |value: std::borrow::Cow<'_, str>| {
        value.split(';').find_map(|tag| tag.trim().strip_prefix("d=").map(|domain| domain.trim().to_lowercase()))
    };
    section.values(SIGNATURE).filter_map(domain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> HeaderSection<'_> {
        HeaderSection::read(text.as_bytes(), 10_000).unwrap()
    }

    #[test]
    fn every_field_has_its_fate() {
        use Survival::{Changed, Dropped, Folded, Kept};
        let sent = "Subject: x\r\nX-Mailer: Ticketgate Mailer\r\nReferences: <a@x>\r\n <b@x>\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n";
        // What arrived, and the fates of X-Mailer, References and X-Twice.
        let table = [
            (
                "Received: y\r\nX-Mailer: Ticketgate Mailer\r\nReferences: <a@x>\r\n <b@x>\r\nX-Twice: 2\r\nx-twice: 1",
                [Kept; 3],
            ),
            ("X-Mailer: Ticketgate Mailer\r\nReferences: <a@x> <b@x>\r\nX-Twice: 1", [Kept, Folded, Changed]),
            ("X-MAILER:  Ticketgate Mailer\nReferences: <a@x>\n <b@x>\nX-Twice: 1\nX-Twice: 2", [Folded, Folded, Kept]),
            ("X-Mailer: Ticketgate  Mailer\r\nReferences: <b@x>", [Changed, Changed, Dropped]),
            ("Subject: other", [Dropped; 3]),
        ];
        for (arrived, want) in table {
            let arrived = format!("{arrived}\r\n\r\n");
            let fates = compare(&section(sent), &section(&arrived));
            let names: Vec<&str> = fates.iter().map(|fate| fate.name.as_str()).collect();
            assert_eq!(names, ["X-Mailer", "References", "X-Twice"], "{arrived}");
            let got: Vec<Survival> = fates.iter().map(|fate| fate.survival).collect();
            assert_eq!(got, want, "{arrived}");
            assert!(fates.iter().all(|fate| fate.got.is_some() == (fate.survival == Changed)), "{fates:?}");
        }
        for survival in Survival::ALL {
            assert_eq!(Survival::from_word(survival.as_str()), Some(survival));
            assert_eq!(survival.survives(), matches!(survival, Kept | Folded));
        }
        assert_eq!(Survival::from_word("lost"), None);
    }

    #[test]
    fn names_that_a_mail_carries_and_domains_that_signed_it() {
        let wanted: Vec<String> = ["X-A", "Auto-Submitted"].map(str::to_owned).into();
        assert_eq!(carried(b"auto-submitted: no\r\nX-B: 1\r\n\r\nX-A: 2\r\n", &wanted), ["Auto-Submitted"]);
        assert!(carried(b"", &wanted).is_empty());
        let signed =
            "DKIM-Signature: v=1; a=rsa-sha256; d=Example.COM;\r\n\ts=x; b=d=\r\nDKIM-Signature: nonsense\r\n\r\n";
        assert_eq!(signers(&section(signed)), ["example.com"]);
    }
}
