//! The decision as a table: what is known about a mail, and what becomes of it.

use super::*;
use crate::ticket::duplicate::Tie;

fn ticket(number: u64) -> TicketFacts {
    TicketFacts {
        number,
        closed: number >= 100,
        channel: "support@example.com".into(),
        participants: vec!["ann@example.org".into()],
    }
}

fn facts(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = Facts::default();
    change(&mut facts);
    facts
}

fn known(tie: Tie) -> KnownMail {
    KnownMail { seq: 7, ticket: Some(3), tie, has_message_id: true, doors: vec!["smtp".into()], print: None }
}

const ANN: Candidate<'static> = Candidate {
    from: "ann@example.org",
    own_mail: None,
    door: "smtp",
    has_message_id: true,
    is_report: false,
    auth_review: false,
};
const BOB: Candidate<'static> = Candidate { from: "bob@example.net", ..ANN };
const REPORT: Candidate<'static> = Candidate { from: "mailer-daemon@example.net", is_report: true, ..ANN };

#[test]
fn every_row_is_decided_as_it_says() {
    use MatchedBy::{Reference, SubjectTag, Token};
    let append = |ticket, matched_by, reopen, needs_review| Filing::Append { ticket, matched_by, reopen, needs_review };
    let open = |related, needs_review| Filing::Open { related, needs_review };
    let rows: Vec<(&str, Candidate<'_>, Facts, Filing)> = vec![
        ("a first mail opens a ticket", ANN, Facts::default(), open(None, false)),
        (
            "our own mail that comes back is dropped, whatever else is known",
            Candidate { own_mail: Some(3), ..ANN },
            facts(|f| f.token = Some(ticket(3))),
            Filing::Drop { reason: Reason::LoopOwnMail },
        ),
        (
            "a mail that we have is a duplicate before it is a reply",
            ANN,
            facts(|f| {
                f.known = vec![known(Tie::MessageId)];
                f.references = vec![ticket(3)];
            }),
            Filing::Duplicate { of: 7, reason: Reason::DuplicateMessageId },
        ),
        (
            "and so is one without a Message-ID whose bytes we have",
            Candidate { has_message_id: false, ..ANN },
            facts(|f| f.known = vec![known(Tie::Bytes)]),
            Filing::Duplicate { of: 7, reason: Reason::DuplicateContent },
        ),
        ("a token is proof for anybody", BOB, facts(|f| f.token = Some(ticket(3))), append(3, Token, false, false)),
        ("a reply opens a closed ticket", ANN, facts(|f| f.token = Some(ticket(100))), append(100, Token, true, false)),
        (
            "a reference counts for who takes part",
            ANN,
            facts(|f| f.references = vec![ticket(3)]),
            append(3, Reference, false, false),
        ),
        (
            "a reference of a stranger is marked, not mixed in",
            BOB,
            facts(|f| f.references = vec![ticket(3)]),
            open(Some((3, Reference)), true),
        ),
        (
            "of several references the one with the sender in it counts",
            ANN,
            facts(|f| f.references = vec![TicketFacts { participants: vec![], ..ticket(4) }, ticket(3)]),
            append(3, Reference, false, false),
        ),
        (
            "a tag from who takes part is added and marked",
            ANN,
            facts(|f| f.subject_tag = Some(ticket(3))),
            append(3, SubjectTag, false, true),
        ),
        (
            "a tag from a stranger opens a ticket of its own",
            BOB,
            facts(|f| f.subject_tag = Some(ticket(3))),
            open(Some((3, SubjectTag)), true),
        ),
        (
            "a report about mail of a ticket is shown there",
            REPORT,
            facts(|f| f.references = vec![ticket(3)]),
            Filing::Report { ticket: 3, matched_by: Reference },
        ),
        (
            "a report does not open a closed ticket again",
            REPORT,
            facts(|f| f.token = Some(ticket(100))),
            Filing::Report { ticket: 100, matched_by: Token },
        ),
        ("a report about nothing that we know is a mail of its own", REPORT, Facts::default(), open(None, false)),
        (
            "a failed sender authentication marks what the channel wants marked",
            Candidate { auth_review: true, ..ANN },
            facts(|f| f.token = Some(ticket(3))),
            append(3, Token, false, true),
        ),
        ("and marks a first mail too", Candidate { auth_review: true, ..BOB }, Facts::default(), open(None, true)),
    ];
    for (name, candidate, facts, want) in rows {
        let decision = decide(&candidate, &facts);
        assert_eq!(decision.filing, want, "{name}");
        assert!(!decision.trace.is_empty(), "{name}: a decision explains itself");
    }
}

#[test]
fn tags_are_found_in_subjects() {
    let rows = [
        ("Re: [#12] Printer", Some(12)),
        ("[Ticket #7] x", Some(7)),
        ("AW: [support] [ticket#9] x", Some(9)),
        ("[12] x", None),
        ("[#] x", None),
        ("[#12 x", None),
        ("[#99999999999999999999999]", None),
        ("[Tické #3]", None),
        ("#12", None),
    ];
    for (subject, want) in rows {
        assert_eq!(subject_tag(subject), want, "{subject}");
    }
}
