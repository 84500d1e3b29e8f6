//! What keeps mail from going in circles: the filter list, the rules for automatic mail, the brakes (R29, B14).
//!
//! Pure. Each answers with the reason in words, which stands in the trace of the mail. Must not know: rows, the time.

use jiff::{SignedDuration, Timestamp};

use super::channel::{Directory, Match};
use super::window::{Slots, Sums};
use crate::mail::Address;
use crate::mail::address::ascii_domain;
use crate::mail::message::Automatic;
use crate::units;

/// A pattern for addresses: `local@domain`, `*@domain` or `local@*`, in lower case and with its domain in A-labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    local: Option<String>,
    domain: Option<String>,
}

impl Pattern {
    /// Reads a pattern; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (local, domain) = text.rsplit_once('@').ok_or("it has no \"@\"")?;
        let part = |part: &str| (part != "*").then(|| part.to_lowercase());
        let (local, domain) = (part(local), part(domain));
        if local.is_none() && domain.is_none() {
            return Err("\"*@*\" would stop all mail".into());
        }
        let parts = || [&local, &domain].into_iter().flatten();
        if parts().any(|part| part.is_empty() || part.contains(['*', ' ', '@'])) {
            return Err("\"*\" stands for a whole side only".into());
        }
        let domain = domain.map(|domain| ascii_domain(&domain).unwrap_or(domain));
        Ok(Self { local, domain })
    }

    fn holds(&self, address: &Address) -> bool {
        let same = |part: &Option<String>, value: &str| part.as_ref().is_none_or(|part| *part == value);
        let local = address.local().to_lowercase();
        let plain = address.split_detail().0.to_lowercase();
        (same(&self.local, &local) || same(&self.local, &plain)) && same(&self.domain, &address.ascii_domain())
    }
}

/// Why nothing is ever sent to an address, if nothing is: our own addresses, and the operator's patterns.
pub fn filtered(address: &Address, directory: &Directory, patterns: &[Pattern]) -> Option<String> {
    match directory.find(address) {
        Some(Match::Channel(channel)) => return Some(format!("{address} is the support address {}", channel.address)),
        Some(Match::Intake) => return Some(format!("{address} is an intake address")),
        None => {}
    }
    let found = patterns.iter().any(|pattern| pattern.holds(address));
    found.then(|| format!("{address} is on the filter list of the configuration"))
}

/// A mail that automatic mail might answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub automatic: Automatic,
    /// Its return path; `None` is the null sender.
    pub return_path: Option<&'a Address>,
    /// Who would be answered; `None` where no address can be read.
    pub from: Option<&'a Address>,
    /// It is from before its mailbox was connected (R10).
    pub backfill: bool,
}

/// Why automatic mail must not answer a mail, if it must not (RFC 3834 section 2).
pub fn no_answer(asked: &Asked<'_>, directory: &Directory, patterns: &[Pattern]) -> Option<String> {
    if asked.backfill {
        return Some("it is from before its mailbox was connected".into());
    }
    if asked.automatic != Automatic::No {
        return Some(format!("a machine wrote it ({})", asked.automatic.as_str()));
    }
    if asked.return_path.is_none() {
        return Some("it has the null sender".into());
    }
    match asked.from {
        None => Some("it has no address to answer to".into()),
        Some(from) => filtered(from, directory, patterns),
    }
}

/// What a brake is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Mail of one ticket to one recipient.
    TicketRecipient,
    /// All mail to one recipient.
    Recipient,
    /// All automatic mail.
    Overall,
}

impl Scope {
    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TicketRecipient => "ticket_recipient",
            Self::Recipient => "recipient",
            Self::Overall => "overall",
        }
    }
}

/// So many mails within so many minutes, at most.
pub type Limit = (u32, u64);

/// A limit that something is over, for people.
pub fn over((minutes, mails): Limit) -> String {
    format!("over {} in {}", units::count(mails, "mail", "mails"), units::count(minutes, "minute", "minutes"))
}

/// The limits of the brakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brakes {
    pub ticket_recipient: Vec<Limit>,
    pub recipient: Vec<Limit>,
    pub overall: Vec<Limit>,
}

impl Default for Brakes {
    fn default() -> Self {
        Self {
            ticket_recipient: vec![(10, 10), (30, 15), (60, 25), (180, 50), (600, 100)],
            recipient: vec![(10, 30), (30, 60), (60, 120), (180, 240), (600, 360)],
            overall: vec![(10, 2_000), (30, 4_000), (60, 6_000), (180, 12_000), (600, 24_000)],
        }
    }
}

/// The longest window that a brake can have, in minutes.
pub const LONGEST: u32 = 600;

/// An empty count of mails for a brake.
pub fn count() -> Slots {
    Slots::new(SignedDuration::from_mins(2), SignedDuration::from_mins(i64::from(LONGEST)))
}

impl Brakes {
    /// The limits of a scope.
    pub fn limits(&self, scope: Scope) -> &[Limit] {
        match scope {
            Scope::TicketRecipient => &self.ticket_recipient,
            Scope::Recipient => &self.recipient,
            Scope::Overall => &self.overall,
        }
    }

    /// The limit that one more mail would break, if it would.
    pub fn tripped(&self, scope: Scope, counted: &Slots, now: Timestamp) -> Option<Limit> {
        let over = |(minutes, most): &&Limit| {
            let Sums { count, .. } = counted.sums(now, SignedDuration::from_mins(i64::from(*minutes)));
            count >= *most
        };
        self.limits(scope).iter().find(over).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::channel::tests::channel;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn directory() -> Directory {
        let mut support = channel("support@example.com");
        support.aliases.push(address("help@example.com"));
        Directory::new(vec![support], vec![], vec![address("intake@gw.example.com")], None)
    }

    #[test]
    fn nothing_is_sent_to_ourselves_or_to_what_the_operator_lists() {
        let patterns: Vec<Pattern> = ["*@lists.example", "noreply@*", "Bot@Example.NET", "*@müller.example"]
            .iter()
            .map(|p| Pattern::parse(p).unwrap())
            .collect();
        let table = [
            ("support@example.com", true),
            ("SUPPORT+t9@example.com", true),
            ("help@example.com", true),
            ("\"help\"@example.com", true),
            ("intake+a@gw.example.com", true),
            ("any@lists.example", true),
            ("any@sub.lists.example", false),
            ("NoReply@shop.example", true),
            ("noreply+x@shop.example", true),
            ("bot@example.net", true),
            ("jan@xn--mller-kva.example", true),
            ("ann@example.net", false),
        ];
        for (text, want) in table {
            assert_eq!(filtered(&address(text), &directory(), &patterns).is_some(), want, "{text}");
        }
        for wrong in ["*@*", "plain", "a*@b", "@b", "a@"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn automatic_mail_answers_people_only() {
        let (ann, support) = (address("ann@example.net"), address("support@example.com"));
        let good = Asked { automatic: Automatic::No, return_path: Some(&ann), from: Some(&ann), backfill: false };
        let table = [
            (good, true),
            (Asked { backfill: true, ..good }, false),
            (Asked { return_path: None, ..good }, false),
            (Asked { from: None, ..good }, false),
            (Asked { from: Some(&support), ..good }, false),
            (Asked { automatic: Automatic::List, ..good }, false),
            (Asked { automatic: Automatic::AutoReplied, ..good }, false),
            (Asked { automatic: Automatic::Bounce, ..good }, false),
        ];
        for (asked, answered) in table {
            assert_eq!(no_answer(&asked, &directory(), &[]).is_none(), answered, "{asked:?}");
        }
    }

    #[test]
    fn brakes_trip_after_their_number_of_mails() {
        let at = |seconds: i64| Timestamp::from_second(1_795_000_000 + seconds).unwrap();
        let brakes = Brakes::default();
        // Scope, seconds between mails, how many go before it trips, and on which limit.
        let table = [
            (Scope::TicketRecipient, 1, 10, (10, 10)),
            (Scope::TicketRecipient, 115, 15, (30, 15)),
            (Scope::TicketRecipient, 350, 100, (600, 100)),
            (Scope::Recipient, 1, 30, (10, 30)),
            (Scope::Recipient, 29, 60, (30, 60)),
            (Scope::Overall, 0, 2_000, (10, 2_000)),
        ];
        for (scope, gap, want, limit) in table {
            let (mut counted, mut sent) = (count(), 0);
            let tripped = loop {
                let now = at(sent * gap);
                if let Some(limit) = brakes.tripped(scope, &counted, now) {
                    break limit;
                }
                counted.add(now, 1, 0);
                sent += 1;
                assert!(sent < 5_000);
            };
            assert_eq!((sent, tripped), (want, limit), "{scope:?} every {gap} s");
            assert!(counted.encode().len() <= 4_000);
        }
        let none = Brakes { overall: vec![], ..brakes };
        assert_eq!(none.tripped(Scope::Overall, &count(), at(0)), None);
    }
}
