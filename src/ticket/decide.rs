//! The decision about one mail in one channel: what it becomes, and why.
//!
//! Pure: the mail comes in as a `Candidate`, what the store knows as `Facts`. The rows of the table in the tests are
//! the specification.

use super::duplicate::{self, KnownMail, Seen, Verdict};
use crate::mail::{Fingerprint, Reason};

/// What the decision reads from a mail.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The address in the From field, in lower case; empty when there is none.
    pub from: &'a str,
    /// The ticket whose signed token stands in the mail's own Message-ID: then the mail is one that we sent.
    pub own_mail: Option<u64>,
    /// The word of the door that it came by.
    pub door: &'a str,
    pub has_message_id: bool,
    /// Whether the mail is a delivery report or a complaint.
    pub is_report: bool,
    /// Whether the channel's policy asks for a look, because sender authentication failed.
    pub auth_review: bool,
}

/// What the store knows about one ticket that a mail may belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketFacts {
    pub number: u64,
    /// Whether it was closed, so that a new entry opens it again.
    pub closed: bool,
    /// The support address of the channel that it belongs to.
    pub channel: String,
    /// Lower-case addresses of everybody who takes part.
    pub participants: Vec<String>,
}

/// What the store knows that the decision needs. Merged tickets are already followed to the one they went into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The mails of this channel that it may repeat.
    pub known: Vec<KnownMail>,
    /// Its own fingerprint, to be compared with theirs.
    pub print: Option<Fingerprint>,
    /// The ticket that a valid signed token names.
    pub token: Option<TicketFacts>,
    /// The tickets whose mail the In-Reply-To and References fields name, the nearest first.
    pub references: Vec<TicketFacts>,
    /// The ticket that a tag in the subject names.
    pub subject_tag: Option<TicketFacts>,
}

/// How a mail was tied to a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchedBy {
    Token,
    Reference,
    SubjectTag,
}

impl MatchedBy {
    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Reference => "reference",
            Self::SubjectTag => "subject_tag",
        }
    }
}

/// What becomes of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filing {
    /// It opens a ticket. `related` is a ticket that it may belong to, for a person to judge.
    Open { related: Option<(u64, MatchedBy)>, needs_review: bool },
    /// It is added to a ticket, which opens again if it was closed.
    Append { ticket: u64, matched_by: MatchedBy, reopen: bool, needs_review: bool },
    /// It is a delivery report about mail of a ticket, and is shown there without opening it again.
    Report { ticket: u64, matched_by: MatchedBy },
    /// It is the mail of an earlier entry once more.
    Duplicate { of: u64, reason: Reason },
    /// It is kept, but becomes no ticket.
    Drop { reason: Reason },
    /// It was refused at the door, or cannot become an entry.
    Reject { reason: Reason },
    /// It could not be read within the limits; a person can look at it and retry.
    Quarantine { reason: Reason },
}

impl Filing {
    /// The word that programs see.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open { .. } => "opened",
            Self::Append { .. } => "appended",
            Self::Report { .. } => "reported",
            Self::Duplicate { .. } => "duplicate",
            Self::Drop { .. } => "dropped",
            Self::Reject { .. } => "rejected",
            Self::Quarantine { .. } => "quarantined",
        }
    }

    /// The reason, where there is one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Duplicate { reason, .. }
            | Self::Drop { reason }
            | Self::Reject { reason }
            | Self::Quarantine { reason } => Some(*reason),
            _ => None,
        }
    }
}

/// One step of the way to a decision: which question was asked, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    pub step: &'static str,
    pub said: String,
}

/// A filing with the steps that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub filing: Filing,
    pub trace: Vec<TraceStep>,
}

impl Decision {
    /// A decision that needed no facts, such as a quarantine.
    pub fn outright(filing: Filing, step: &'static str, said: impl Into<String>) -> Self {
        Self { filing, trace: vec![TraceStep { step, said: said.into() }] }
    }
}

/// Decides what becomes of a mail. The order of the questions is the order of their certainty: our own mail, a mail
/// that we have, a signed token, a reference from somebody who takes part, a tag in the subject. Whatever only
/// *claims* to belong to a ticket opens one of its own, marked for review and pointing to the one it claims.
pub fn decide(candidate: &Candidate<'_>, facts: &Facts) -> Decision {
    let mut trace = Vec::new();
    let mut note = |step: &'static str, said: String| trace.push(TraceStep { step, said });
    let filing = choose(candidate, facts, &mut note);
    Decision { filing, trace }
}

fn choose(candidate: &Candidate<'_>, facts: &Facts, note: &mut dyn FnMut(&'static str, String)) -> Filing {
    if let Some(ticket) = candidate.own_mail {
        note(
            "loop",
            format!("its own Message-ID carries our signed token of ticket {ticket}: it is mail that we sent"),
        );
        return Filing::Drop { reason: Reason::LoopOwnMail };
    }
    let mut reused = None;
    let Candidate { door, has_message_id, .. } = *candidate;
    let seen = Seen { door, has_message_id, print: facts.print.as_ref() };
    match duplicate::judge(seen, &facts.known) {
        Verdict::New => {}
        Verdict::Same { of, reason, said } => {
            note("duplicate", said);
            return Filing::Duplicate { of, reason };
        }
        Verdict::Reused { ticket, said } => {
            note("duplicate", said);
            reused = Some(ticket.map(|ticket| (ticket, MatchedBy::Reference)));
        }
    }
    if candidate.auth_review {
        note("auth", "sender authentication failed, and the channel asks for review".to_owned());
    }
    let found = find_ticket(candidate, facts, note);
    let needs_review = candidate.auth_review || reused.is_some();
    match found {
        Found::Belongs(ticket, matched_by) if candidate.is_report => {
            note("report", format!("it is a delivery report about ticket {}", ticket.number));
            Filing::Report { ticket: ticket.number, matched_by }
        }
        Found::Belongs(ticket, matched_by) => Filing::Append {
            ticket: ticket.number,
            matched_by,
            reopen: ticket.closed,
            // A tag can be typed by anybody who has ever seen one, so a person looks at it even from a participant.
            needs_review: needs_review || matched_by == MatchedBy::SubjectTag,
        },
        Found::Claims(ticket, matched_by) => {
            Filing::Open { related: Some((ticket.number, matched_by)), needs_review: true }
        }
        Found::Nothing => Filing::Open { related: reused.flatten(), needs_review },
    }
}

/// How strongly a mail is tied to a ticket.
enum Found<'a> {
    Belongs(&'a TicketFacts, MatchedBy),
    Claims(&'a TicketFacts, MatchedBy),
    Nothing,
}

fn find_ticket<'a>(
    candidate: &Candidate<'_>,
    facts: &'a Facts,
    note: &mut dyn FnMut(&'static str, String),
) -> Found<'a> {
    if let Some(ticket) = &facts.token {
        note("thread", format!("a signed token names ticket {}", ticket.number));
        return Found::Belongs(ticket, MatchedBy::Token);
    }
    let takes_part = |ticket: &TicketFacts| ticket.participants.iter().any(|who| who == candidate.from);
    if let Some(ticket) = facts.references.iter().find(|ticket| takes_part(ticket)) {
        note("thread", format!("it refers to mail of ticket {}, and its sender takes part there", ticket.number));
        return Found::Belongs(ticket, MatchedBy::Reference);
    }
    // A delivery report comes from a mail server that takes part in nothing; what it refers to is what it is about.
    if let Some(ticket) = facts.references.first() {
        if candidate.is_report {
            note("thread", format!("the report refers to mail of ticket {}", ticket.number));
            return Found::Belongs(ticket, MatchedBy::Reference);
        }
        note("thread", format!("it refers to mail of ticket {}, but its sender takes no part there", ticket.number));
        return Found::Claims(ticket, MatchedBy::Reference);
    }
    match &facts.subject_tag {
        Some(ticket) if takes_part(ticket) => {
            note("thread", format!("its subject names ticket {}, and its sender takes part there", ticket.number));
            Found::Belongs(ticket, MatchedBy::SubjectTag)
        }
        Some(ticket) => {
            note("thread", format!("its subject names ticket {}, but its sender takes no part there", ticket.number));
            Found::Claims(ticket, MatchedBy::SubjectTag)
        }
        None => {
            note("thread", "nothing ties it to a ticket".to_owned());
            Found::Nothing
        }
    }
}

/// The ticket number that a tag such as `[#12]` or `[Ticket #12]` in a subject names.
pub fn subject_tag(subject: &str) -> Option<u64> {
    subject.split('[').skip(1).find_map(|rest| {
        let inside = rest.split_once(']')?.0.trim();
        let word = inside.get(..6).filter(|word| word.eq_ignore_ascii_case("ticket")).map_or(0, str::len);
        let digits = inside.get(word..)?.trim_start().strip_prefix('#')?;
        let plain = !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
