//! What an attempt means for each recipient, and what the ticket is told. Pure.

use jiff::{SignedDuration, Timestamp};

use super::schedule::{Next, Schedule};
use super::told::{given_up, told};
use crate::mail::status::{blames_address, code_blames_address};
use crate::relay::{About, Outcome, RecipientOutcome, Reply};
use crate::store::rows::{DeliveryState, OutboxRow};
use crate::store::{Settled, SettledRecipient, Told};

/// One attempt: the mail as it was, and for whom it was made.
#[derive(Debug)]
pub struct Attempt<'a> {
    pub row: &'a OutboxRow,
    pub relay: &'a str,
    /// Number and address of each recipient of the job, in its order.
    pub recipients: &'a [(u32, String)],
    /// How often each of them was tried before.
    pub attempts: &'a [u32],
    pub began: Timestamp,
    pub now: Timestamp,
    /// Until when the peer wants no more mail, where it said so.
    pub not_before: Option<Timestamp>,
}

/// What is to be written down after an attempt.
pub fn judge(attempt: &Attempt<'_>, job: &Outcome, schedule: &Schedule) -> Settled {
    let Attempt { row, now, .. } = *attempt;
    let taken = job.is_taken();
    let mut settled = Settled {
        seq: row.seq,
        at: now,
        relay: Some(attempt.relay.to_owned()),
        began: Some(attempt.began),
        recipients: Vec::with_capacity(attempt.recipients.len()),
        notes: Vec::new(),
        late: None,
        way: None,
        delayed: Vec::new(),
    };
    let until = schedule.end(row.class, row.since);
    let (mut failed, mut delayed) = (Vec::new(), Vec::new());
    for (((n, address), attempts), outcome) in attempt.recipients.iter().zip(attempt.attempts).zip(&job.recipients) {
        let next = schedule.next(row.class, row.since, attempts + 1, now);
        let (state, said) = match outcome.reply() {
            // Not an attempt at all: it goes in the next transaction, at once.
            reply if taken && is_one_too_many(reply) => (DeliveryState::Queued, reply.to_string()),
            _ => one(outcome, next, row, now),
        };
        let hard = matches!(outcome, RecipientOutcome::Failed(reply) if is_hard(reply));
        let unanswered = matches!(outcome, RecipientOutcome::Ambiguous(_));
        let mut news = told(outcome, state, job, until);
        match state {
            DeliveryState::Failed => failed.push((address.as_str(), said.clone())),
            DeliveryState::Delayed => {
                delayed.push((address.as_str(), said.clone()));
                settled.delayed.extend(news.take().map(|news| (*n, news)));
            }
            _ => {}
        }
        let next = match (state, next) {
            (DeliveryState::Delayed, Next::At(at)) => Some(attempt.not_before.map_or(at, |until| until.max(at))),
            (DeliveryState::Queued, _) => Some(now),
            _ => None,
        };
        let (n, reply) = (*n, Some(said));
        settled.recipients.push(SettledRecipient { n, state, reply, hard, unanswered, next, told: news });
    }
    if !delayed.is_empty() && !row.delayed_told && schedule.is_late(row.since, now) {
        settled.late = Some(delay_note(row, &delayed, now));
    }
    if !failed.is_empty() {
        settled.notes.push(failure_note(row, &failed));
    }
    settled
}

/// What is to be written down of a mail that was never tried in the time that it had, or that is late.
pub fn without_attempt(
    row: &OutboxRow,
    recipients: &[(u32, String)],
    why: &str,
    schedule: &Schedule,
    now: Timestamp,
) -> Settled {
    let over = schedule.is_over(row.class, row.since, now);
    let said = if over { format!("given up: {why}") } else { why.to_owned() };
    let told: Vec<(&str, String)> = recipients.iter().map(|(_, address)| (address.as_str(), said.clone())).collect();
    let failed = |(n, _): &(u32, String)| SettledRecipient {
        n: *n,
        state: DeliveryState::Failed,
        reply: Some(said.clone()),
        hard: false,
        unanswered: false,
        next: None,
        told: Some(given_up()),
    };
    let until = schedule.end(row.class, row.since);
    let waits = |(n, _): &(u32, String)| (*n, Told::waits(until));
    Settled {
        seq: row.seq,
        at: now,
        relay: None,
        began: None,
        recipients: if over { recipients.iter().map(failed).collect() } else { Vec::new() },
        notes: if over { vec![failure_note(row, &told)] } else { Vec::new() },
        late: (!over).then(|| delay_note(row, &told, now)),
        way: None,
        delayed: if over { Vec::new() } else { recipients.iter().map(waits).collect() },
    }
}

/// What is to be written down of recipients that nothing is sent to any more, with the reason for each address.
pub fn not_sent(
    row: &OutboxRow,
    recipients: Vec<SettledRecipient>,
    told: &[(String, String)],
    now: Timestamp,
) -> Settled {
    let told: Vec<(&str, String)> = told.iter().map(|(address, why)| (address.as_str(), why.clone())).collect();
    let note = format!("Mail {} is not sent any more:\n{}", row.id, list(&told));
    Settled {
        seq: row.seq,
        at: now,
        relay: None,
        began: None,
        recipients,
        notes: vec![note],
        late: None,
        way: None,
        delayed: Vec::new(),
    }
}

/// Whether a server takes no more recipients in one transaction (RFC 5321 section 4.5.3.1.10, where 552 is the old code).
fn is_one_too_many(reply: &Reply) -> bool {
    let stated = |enhanced: &String| enhanced.ends_with(".5.3");
    let said = || reply.text.to_lowercase().contains("too many recipients");
    matches!(reply.code, 452 | 552) && reply.enhanced.as_ref().map_or_else(said, stated)
}

fn one(outcome: &RecipientOutcome, next: Next, row: &OutboxRow, now: Timestamp) -> (DeliveryState, String) {
    let said = match outcome {
        RecipientOutcome::Relayed(reply) => return (DeliveryState::Relayed, reply.to_string()),
        RecipientOutcome::Failed(reply) => return (DeliveryState::Failed, reply.to_string()),
        RecipientOutcome::Delayed(reply) => reply.to_string(),
        // Sending it again may bring it twice, not sending it may lose it: a mail that comes twice has the same
        // Message-ID, and a lost one has nobody who notices (RFC 5321 section 4.5.3.2.6).
        RecipientOutcome::Ambiguous(reply) => format!("it may have arrived, no answer came: {reply}"),
    };
    match next {
        Next::At(_) => (DeliveryState::Delayed, said),
        Next::GiveUp => {
            let waited = show(now.duration_since(row.since));
            (DeliveryState::Failed, format!("given up after {waited}: {said}"))
        }
    }
}

/// Whether an address is at fault by itself, so that other mail to it will fail as well. What answers MAIL speaks of our
/// own address, and a bare 550 elsewhere may speak of anything.
fn is_hard(reply: &Reply) -> bool {
    match (reply.about, &reply.enhanced) {
        (About::Sender, _) => false,
        (_, Some(enhanced)) => blames_address(enhanced),
        (About::Recipient, None) => code_blames_address(reply.code),
        (About::Mail | About::Connection, None) => false,
    }
}

fn failure_note(row: &OutboxRow, failed: &[(&str, String)]) -> String {
    let list = list(failed);
    format!("Mail {} could not be delivered and will not be tried again:\n{list}", row.id)
}

fn delay_note(row: &OutboxRow, delayed: &[(&str, String)], now: Timestamp) -> String {
    let list = list(delayed);
    let waited = show(now.duration_since(row.since));
    format!("Mail {} has waited {waited} and is still being tried:\n{list}", row.id)
}

/// Addresses with what was said about each; a note has room for some of them.
fn list(told: &[(&str, String)]) -> String {
    const MOST: usize = 8;
    let mut lines: Vec<String> = told
        .iter()
        .take(MOST)
        .map(|(address, said)| format!("- {address}: {}", said.chars().take(160).collect::<String>()))
        .collect();
    if told.len() > MOST {
        lines.push(format!("- and {} more", told.len() - MOST));
    }
    lines.join("\n")
}

/// A time in the two units that matter.
fn show(time: SignedDuration) -> String {
    let minutes = time.as_mins().max(0);
    match (minutes / (24 * 60), minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mail::Class;
    use crate::store::Position;
    use crate::store::rows::OutboxState;

    pub(crate) fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + minutes * 60).unwrap()
    }

    pub(crate) fn row() -> OutboxRow {
        OutboxRow {
            id: "0000000000001".into(),
            seq: 1,
            mail: Position(0),
            size: 10,
            channel: "support@a.example".into(),
            ticket: Some(1),
            class: Class::Person,
            sender: None,
            relay: None,
            created_at: at(0),
            due: at(0),
            attempts: 0,
            state: OutboxState::Waiting,
            why: None,
            waits_for: None,
            delayed_told: false,
            attachments: false,
            smtputf8: false,
            ret: None,
            envid: None,
            recipients: 1,
            open: 1,
            braked: 0,
            since: at(0),
            anyway: false,
        }
    }

    fn reply(code: u16, enhanced: Option<&str>) -> Reply {
        Reply::new(code, enhanced, "said")
    }

    #[test]
    fn each_outcome_has_its_state_its_time_and_its_words() {
        type Case = (RecipientOutcome, u32, i64, DeliveryState, Option<i64>, &'static str);
        let table: [Case; 7] = [
            (
                RecipientOutcome::Relayed(reply(250, Some("2.0.0"))),
                0,
                0,
                DeliveryState::Relayed,
                None,
                "250 2.0.0 said",
            ),
            (RecipientOutcome::Failed(reply(550, Some("5.1.1"))), 0, 0, DeliveryState::Failed, None, "550 5.1.1 said"),
            (RecipientOutcome::Delayed(reply(451, None)), 0, 0, DeliveryState::Delayed, Some(1), "451 said"),
            (RecipientOutcome::Delayed(reply(451, None)), 2, 10, DeliveryState::Delayed, Some(25), "451 said"),
            (RecipientOutcome::Delayed(reply(451, None)), 9, 299, DeliveryState::Delayed, Some(539), "451 said"),
            (
                RecipientOutcome::Ambiguous(reply(451, None)),
                0,
                0,
                DeliveryState::Delayed,
                Some(1),
                "it may have arrived",
            ),
            (
                RecipientOutcome::Delayed(reply(451, None)),
                40,
                7200,
                DeliveryState::Failed,
                None,
                "given up after 5 d 0 h",
            ),
        ];
        for (outcome, attempts, minutes, state, next, said) in table {
            let row = row();
            let recipients = [(0, "ann@example.net".to_owned())];
            let (began, now, not_before) = (at(minutes), at(minutes), None);
            // The mail's other recipients were tried more often.
            let row = OutboxRow { attempts: 30, ..row };
            let attempts = [attempts];
            let attempt = Attempt {
                row: &row,
                relay: "smart",
                recipients: &recipients,
                attempts: &attempts,
                began,
                now,
                not_before,
            };
            let settled = judge(&attempt, &Outcome::all(1, outcome.clone()), &Schedule::default());
            let got = &settled.recipients[0];
            assert_eq!((got.state, got.next), (state, next.map(at)), "{outcome:?}");
            assert!(got.reply.as_ref().unwrap().starts_with(said), "{:?}", got.reply);
            let late = minutes >= 240 && state == DeliveryState::Delayed;
            assert_eq!(settled.late.is_some(), late, "{outcome:?}");
            assert_eq!(settled.notes.len(), usize::from(state == DeliveryState::Failed), "{outcome:?}");
            assert_eq!(got.hard, matches!(outcome, RecipientOutcome::Failed(_)));
            assert_eq!(got.unanswered, matches!(outcome, RecipientOutcome::Ambiguous(_)));
            let later = Attempt { not_before: Some(at(9999)), ..attempt };
            let settled = judge(&later, &Outcome::all(1, outcome), &Schedule::default());
            let next = settled.recipients[0].next;
            assert!(next.is_none_or(|next| next == at(9999)), "a peer that wants a pause gets it");
        }
    }

    #[test]
    fn who_was_one_too_many_for_a_transaction_was_not_tried() {
        let recipients: Vec<(u32, String)> = (0..2).map(|n| (n, format!("a{n}@example.net"))).collect();
        // What the second recipient heard, whether the first one was taken, what becomes of the second.
        let table = [
            (reply(452, Some("4.5.3")), true, DeliveryState::Queued, Some(at(9))),
            (reply(552, Some("5.5.3")), true, DeliveryState::Queued, Some(at(9))),
            (Reply::new(452, None, "Too many recipients"), true, DeliveryState::Queued, Some(at(9))),
            (reply(452, Some("4.5.3")), false, DeliveryState::Delayed, Some(at(10))),
            (reply(452, Some("4.3.1")), true, DeliveryState::Delayed, Some(at(10))),
            (reply(452, None), true, DeliveryState::Delayed, Some(at(10))),
        ];
        for (said, taken, state, next) in table {
            let first = if taken { reply(250, None) } else { said.clone() };
            let recipients_outcome = vec![first.outcome(), said.clone().outcome()];
            let outcome = Outcome { recipients: recipients_outcome, ..Outcome::all(0, said.clone().outcome()) };
            let (row, began, now, not_before) = (row(), at(9), at(9), None);
            let attempt =
                Attempt { row: &row, relay: "s", recipients: &recipients, attempts: &[0, 0], began, now, not_before };
            let settled = judge(&attempt, &outcome, &Schedule::default());
            assert_eq!((settled.recipients[1].state, settled.recipients[1].next), (state, next), "{said} {taken}");
            assert!(settled.notes.is_empty());
        }
    }

    #[test]
    fn mail_that_is_never_tried_is_told_of_and_given_up() {
        let recipients: Vec<(u32, String)> = (0..20).map(|n| (n, format!("a{n}@example.net"))).collect();
        let late = without_attempt(&row(), &recipients, "the account is disconnected", &Schedule::default(), at(250));
        assert!(late.recipients.is_empty());
        let note = late.late.unwrap();
        assert!(note.contains("has waited 4 h 10 min") && note.ends_with("and 12 more"), "{note}");
        let over = without_attempt(&row(), &recipients, "no relay", &Schedule::default(), at(7200));
        assert!(over.late.is_none() && over.recipients.iter().all(|one| one.state == DeliveryState::Failed));
        assert!(over.recipients[0].reply.as_deref() == Some("given up: no relay"));
        // A table of replies and whether they speak of the address.
        let table = [
            (reply(550, Some("5.1.1")), true),
            (reply(550, None), false),
            (reply(550, None).about(About::Recipient), true),
            (reply(553, None).about(About::Recipient), true),
            (reply(550, None).about(About::Sender), false),
            (reply(550, Some("5.1.0")).about(About::Sender), false),
            (reply(550, Some("5.1.7")), false),
            (reply(550, Some("5.1.8")).about(About::Recipient), false),
            (reply(550, Some("5.1.10")).about(About::Recipient), true),
            (reply(550, Some("5.1.90")).about(About::Recipient), false),
            (reply(552, Some("5.2.2")), false),
            (reply(554, Some("5.7.1")), false),
            (reply(554, None), false),
            (reply(550, Some("5.2.1")), true),
        ];
        for (reply, hard) in table {
            assert_eq!(is_hard(&reply), hard, "{reply}");
        }
    }
}
