//! Filing, people's steps, and rows that no mail can make too large.

use super::*;
use crate::mail::Outline;
use crate::mail::message::{Limits, parse};
use crate::store::overlay::MAX_VALUE;
use crate::store::rows::TicketState;

#[test]
fn a_mail_becomes_a_ticket_and_replies_find_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let first = take(&store, b"From: a\r\n\r\nhi", "m1@x", &OPEN);
    assert_eq!((first.ticket, first.filing.as_str(), first.seq), (Some(1), "opened", 1));
    assert_eq!(first.trace.last().unwrap().step, "filed");
    let channel = address("support@a.example");
    let references = ["nothing@x".to_owned(), "m1@x".to_owned()];
    let question = |message_id| Question {
        channel: &channel,
        message_id: Some(message_id),
        content_key: "",
        compared: None,
        references: &references,
        token_ticket: Some(1),
        tag_ticket: Some(9),
    };
    let ask = |message_id| store.step(|step| step.facts(&question(message_id))).unwrap();
    let facts = ask("m2@x");
    assert_eq!((facts.known, facts.subject_tag), (vec![], None));
    assert_eq!(facts.references[0].participants, ["ann@example.net", "cc@example.net"]);
    assert_eq!(facts.token.map(|token| token.number), Some(1));
    assert_eq!(ask("m1@x").known[0].seq, 1);
    let other = address("sales@a.example");
    let elsewhere = Question { channel: &other, ..question("m1@x") };
    assert_eq!(store.step(|step| step.facts(&elsewhere)).unwrap().known, []);

    store.step(|step| step.close(1, "kim", now())).unwrap();
    let second = take(&store, b"From: a\r\n\r\nagain", "m2@x", &append(1));
    assert_eq!(second.ticket, Some(1));
    let ticket = store.ticket(1).unwrap().unwrap();
    assert_eq!((ticket.state, ticket.entries), (TicketState::Open, 2));
    let duplicate = Filing::Duplicate { of: 1, reason: Reason::DuplicateMessageId };
    let third = take(&store, b"From: a\r\n\r\nhi", "m1@x", &duplicate);
    assert_eq!(store.entry_at(1).unwrap().unwrap().also_seen[0].id, third.id);
    let found: Vec<u64> = store.find_message("m1@x").unwrap().iter().map(|row| row.seq).collect();
    assert_eq!(found, [1, third.seq]);
    let kinds: Vec<String> = store.events(0, 100).unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["entry", "ticket_closed", "entry", "entry", "entry_seen_again"]);
    assert_eq!(store.entries(1, 1).unwrap()[0].id, second.id);
    assert_sound(&store);
}

#[test]
fn one_mail_in_two_channels_has_two_ids_and_two_tickets() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    run(spool(&store, b"x", &["support@a.example", "sales@a.example"])).unwrap();
    let rows = file(&store, &next(&store), "m@x", &OPEN);
    assert_eq!(rows[1].id, format!("{}.2", rows[0].id));
    assert_eq!((rows[0].ticket, rows[1].ticket), (Some(1), Some(2)));
    assert_eq!(store.find_message("m@x").unwrap().len(), 2);
    assert_eq!(store.spool_state().depth, 0);
    assert_sound(&store);
}

#[test]
fn merged_tickets_are_followed_and_show_their_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for number in 1..=3 {
        take(&store, b"x", &format!("m{number}@x"), &OPEN);
    }
    store.step(|step| step.note(2, "kim", "call back", now())).unwrap();
    store.step(|step| step.merge(1, 2, "kim", now())).unwrap();
    store.step(|step| step.merge(2, 3, "kim", now())).unwrap();
    assert_eq!(store.entries_of(3, 10).unwrap().len(), 4);
    assert_eq!(store.ticket(3).unwrap().unwrap().entries, 4);
    assert_eq!(take(&store, b"x", "m4@x", &append(1)).ticket, Some(3));
    let again: Result<_, StoreError> = store.step(|step| step.merge(1, 3, "kim", now()));
    assert!(matches!(again, Err(StoreError::NotPossible(_))));
    let none: Result<_, StoreError> = store.step(|step| step.note(99, "kim", "x", now()));
    assert_eq!(none, Err(StoreError::NoSuchTicket(99)));
    let open = TicketFilter { state: Some(TicketState::Open), limit: 10, ..TicketFilter::default() };
    assert_eq!(store.tickets(&open).unwrap().iter().map(|row| row.number).collect::<Vec<_>>(), [3]);
    let page = TicketFilter { before: Some(3), limit: 1, ..TicketFilter::default() };
    assert_eq!(store.tickets(&page).unwrap()[0].number, 2);
    assert_sound(&store);
}

#[test]
fn a_quarantined_mail_is_filed_again_once_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let old = take(&store, b"deep", "m@x", &QUARANTINE);
    store.step(|step| step.retry(&old.id, "kim", now())).unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.watch().borrow().retries, 1);
    let mail = next(&store);
    assert!(mail.retried && mail.deliveries.len() == 1);
    let new = file(&store, &mail, "m@x", &OPEN).remove(0);
    assert_eq!((new.id, new.ticket), (format!("{}.2", old.id), Some(1)));
    let old = store.entry(&old.id).unwrap().unwrap();
    assert_eq!((old.reason.as_deref(), old.trace.last().unwrap().step.as_str()), (Some("too_deep"), "retried"));
    assert!(store.spooled(10, 1000).unwrap().is_empty());
    assert_eq!(store.watch().borrow().retries, 0);
    assert_sound(&store);
}

#[test]
fn a_step_that_fails_or_files_out_of_turn_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"x", "m@x", &OPEN);
    run(spool(&store, b"1", &["support@a.example"])).unwrap();
    let second = run(spool(&store, b"2", &["support@a.example"])).unwrap();
    let before = dump(&store);
    let failed: Result<(), StoreError> = store.step(|step| {
        step.close(1, "kim", now())?;
        Err(StoreError::NotPossible("changed my mind".into()))
    });
    assert!(failed.is_err());
    let turn: Result<(), StoreError> = store.step(|step| {
        step.filed(second.position);
        Ok(())
    });
    assert!(matches!(turn, Err(StoreError::Misuse(_))));
    assert_eq!(dump(&store), before);
    assert_eq!(store.spool_state().depth, 2);
}

#[test]
fn an_erased_mail_leaves_no_outline() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let raw = b"From: a@x\r\nSubject: s\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nhi\r\n";
    run(spool(&store, raw, &["support@a.example"])).unwrap();
    let mail = next(&store);
    let outline = Outline::of(&parse(raw, &Limits::default()).unwrap().summary());
    let decision = Decision { filing: OPEN, trace: Vec::new() };
    let entry = NewEntry {
        mail: &mail,
        delivery: &mail.deliveries[0],
        queue: "Support",
        decision: &decision,
        message_id: None,
        content_key: &mail.sha256,
        outline: outline.as_ref(),
        subject: "s",
        from: PersonRow::default(),
        requester: PersonRow::default(),
        others: Vec::new(),
        now: now(),
    };
    let row = store
        .step(|step| {
            step.filed(mail.position);
            step.file(entry)
        })
        .unwrap();
    let outlines = || {
        let mut seqs = Vec::new();
        let walked = store.0.index.walk_prefix(&[keys::OUTLINES], |_, value| {
            seqs.extend(prints::seqs(value));
            Ok(true)
        });
        walked.unwrap();
        seqs
    };
    assert_eq!(outlines(), [row.seq]);
    store.erase(&row.id, "kim", now()).unwrap();
    assert_eq!(outlines(), [0u64; 0]);
    assert_sound(&store);
}

#[test]
fn no_mail_makes_a_row_that_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let nasty = "\u{1}\"\\ü€".repeat(20_000);
    run(spool(&store, b"x", &["support@a.example"])).unwrap();
    let mail = next(&store);
    let step = |_| crate::ticket::TraceStep { step: "thread", said: nasty.clone() };
    let rcpt_to = (0..500).map(|n| address(&format!("{}{n}@a.example", "\"".repeat(2) + &"x".repeat(200)))).collect();
    let delivery = Delivery { channel: address("support@a.example"), rcpt_to };
    let entry = |decision| NewEntry {
        mail: &mail,
        delivery: &delivery,
        queue: &nasty,
        decision,
        message_id: Some(&nasty),
        content_key: "",
        outline: None,
        subject: &nasty,
        from: PersonRow { name: nasty.clone(), address: nasty.clone() },
        requester: PersonRow { name: nasty.clone(), address: nasty.clone() },
        others: (0..2000).map(|n| format!("{n}\u{1}{}@example.net", "y".repeat(200))).collect(),
        now: now(),
    };
    let decision = Decision { filing: OPEN, trace: (0..200).map(step).collect() };
    let repeat = Filing::Duplicate { of: 1, reason: Reason::DuplicateMessageId };
    let repeat = Decision { filing: repeat, trace: (0..200).map(step).collect() };
    let filed: Result<(), StoreError> = store.step(|step| {
        step.file(entry(&decision))?;
        for _ in 0..40 {
            step.file(entry(&repeat))?;
        }
        step.filed(mail.position);
        Ok(())
    });
    filed.unwrap();
    assert!(dump(&store).iter().all(|(_, value)| value.len() <= MAX_VALUE));
    let row = store.entry_at(1).unwrap().unwrap();
    assert!(!row.also_seen.is_empty() && row.also_seen.len() <= 20);
    assert!(row.trace.len() < 30 && row.subject.ends_with('…'));
    let long: Result<_, StoreError> = store.step(|step| step.note(1, &nasty, &nasty, now()));
    assert!(matches!(long, Err(StoreError::NotPossible(_))));
    let note = "€".repeat(790);
    assert_eq!(store.step(|step| step.note(1, &nasty, &note, now())).unwrap().note, Some(note));
}
