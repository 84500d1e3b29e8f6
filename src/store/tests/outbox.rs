//! Mail that leaves: what the store keeps of it, through orders, brakes, reports and the loss of the index.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::mail::Class;
use crate::mail::notify::Action;
use crate::store::outgoing::*;
use crate::store::rows::{DeliveryState, EntryKind, OutboxRow, OutboxState};
use crate::ticket::loops::{Brakes, Scope};

const SUPPRESS: Suppress = Suppress { after: 2, within: SignedDuration::from_hours(24) };

fn later(minutes: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_mins(minutes)).unwrap()
}

async fn hand_in(store: &Store, to: &[&str], ticket: Option<u64>, key: Option<&str>) -> Receipt {
    let id = MailId::fresh(now());
    let mut body = store.body(id, 1 << 30);
    body.push(b"From: support@a.example\r\n\r\nhello").await.unwrap();
    let notify = |to: &str| to.starts_with("never").then(|| "NEVER".to_owned());
    let recipients = to.iter().map(|to| OutgoingRecipient { address: address(to), notify: notify(to), orcpt: None });
    let outgoing = OutgoingMeta {
        class: Class::Person,
        ticket,
        author: "Bea".into(),
        key: key.map(str::to_owned),
        recipients: recipients.collect(),
        ..OutgoingMeta::default()
    };
    let incoming = Incoming {
        id,
        received_at: now(),
        envelope: Envelope {
            mail_from: Some(address("support@a.example")),
            rcpt_to: to.iter().map(|to| address(to)).collect(),
        },
        origin: Origin { kind: OriginKind::Api, ..origin() },
        deliveries: vec![Delivery { channel: address("support@a.example"), rcpt_to: Vec::new() }],
        review: false,
        outgoing: Some(outgoing),
        body: body.finish().await.unwrap(),
    };
    store.spool(incoming).await.unwrap()
}

/// Files the next mail that leaves as filing does, with the default brakes.
fn file_next(store: &Store, message_id: &str) -> EntryRow {
    let mail = next(store);
    let meta = mail.outgoing.clone().unwrap();
    let channel = mail.deliveries[0].channel.clone();
    store
        .step(|step| {
            let mut recipients = Vec::new();
            for to in &meta.recipients {
                let counted = step.counted(meta.ticket, &meta, &to.address)?;
                let brake = counted.iter().find_map(|(scope, counted)| {
                    Brakes::default().tripped(*scope, counted, now()).map(|limit| (*scope, limit))
                });
                let suppressed = step.suppressed(&to.address)?.is_some();
                let state = match (suppressed, brake) {
                    (true, _) => DeliveryState::Suppressed,
                    (_, Some(_)) => DeliveryState::Held,
                    _ => DeliveryState::Queued,
                };
                let (notify, orcpt, why) = (to.notify.clone(), None, None);
                recipients.push(NewRecipient { address: to.address.clone(), notify, orcpt, state, why, brake });
            }
            let repeats = meta.key.as_deref().map(|key| step.ordered(key)).transpose()?.flatten();
            let row = step.file_outgoing(&NewOutgoing {
                mail: &mail,
                meta: &meta,
                channel: &channel,
                queue: "Support",
                message_id: Some(message_id),
                subject: "Re: Printer on fire",
                from: PersonRow { name: "Support".into(), address: "support@a.example".into() },
                ticket: meta.ticket,
                matched_by: None,
                opens: None,
                recipients,
                attachments: false,
                orders: meta.key.iter().cloned().collect(),
                repeats: repeats.map(|row| row.entry),
                trace: Vec::new(),
                now: now(),
            });
            step.filed(mail.position);
            row
        })
        .unwrap()
}

/// What there is to tell of a state.
fn told(state: DeliveryState) -> Option<Told> {
    let action = match state {
        DeliveryState::Failed => Action::Failed,
        DeliveryState::Relayed => Action::Relayed,
        _ => return None,
    };
    Some(Told { action, status: "5.1.1".into(), said: "550 5.1.1 no".into(), remote: None, until: None })
}

fn settle(store: &Store, seq: u64, states: &[(u32, DeliveryState)], minutes: i64) -> OutboxRow {
    let recipients = states.iter().map(|(n, state)| SettledRecipient {
        n: *n,
        state: *state,
        reply: Some(format!("{} said", state.as_str())),
        hard: *state == DeliveryState::Failed,
        next: state.waits().then(|| later(minutes + 5)),
        told: told(*state),
    });
    let settled = Settled {
        seq,
        at: later(minutes),
        relay: Some("smarthost".into()),
        recipients: recipients.collect(),
        notes: states.iter().filter(|(_, s)| *s == DeliveryState::Failed).map(|_| "it failed".into()).collect(),
        late: None,
        delayed: Vec::new(),
        way: None,
    };
    store.step(|step| step.settle(&[settled], SUPPRESS)).unwrap().remove(0)
}

#[test]
fn a_mail_leaves_step_by_step_and_survives_the_loss_of_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let opened = take(&store, b"x", "m1@x", &OPEN);
    store.step(|step| step.owe_acknowledgement(&opened, now())).unwrap();
    assert_eq!(store.acknowledgements(9).unwrap()[0].ticket, 1);
    run(hand_in(&store, &["ann@example.net", "bob@example.net"], Some(1), Some("k1")));
    let entry = file_next(&store, "our1@a.example");
    assert_eq!((entry.kind, entry.filing.as_str(), entry.ticket), (EntryKind::Outbound, "appended", Some(1)));
    assert!(store.ticket(1).unwrap().unwrap().participants.contains(&"bob@example.net".into()));
    assert_eq!(store.outbox_news().into_iter().collect::<Vec<_>>(), [entry.seq]);
    assert_eq!(store.undone(0, 9).unwrap()[0].open, 2);

    // The same order once more is the same mail.
    run(hand_in(&store, &["ann@example.net"], Some(1), Some("k1")));
    let again = file_next(&store, "our1@a.example");
    assert_eq!((again.filing.as_str(), again.duplicate_of), ("duplicate", Some(entry.seq)));
    assert_eq!(store.outbox_row(again.seq).unwrap(), None);

    let row = settle(&store, entry.seq, &[(0, DeliveryState::Relayed), (1, DeliveryState::Delayed)], 1);
    assert_eq!((row.state, row.open, row.due, row.attempts), (OutboxState::Waiting, 1, later(6), 1));
    let row = settle(&store, entry.seq, &[(1, DeliveryState::Failed)], 6);
    assert_eq!((row.state, row.open), (OutboxState::Done, 0));
    assert_eq!(store.undone(0, 9).unwrap(), []);
    let states: Vec<_> =
        store.recipients(entry.seq, 0, 9).unwrap().into_iter().map(|r| (r.state, r.attempts)).collect();
    assert_eq!(states, [(DeliveryState::Relayed, 1), (DeliveryState::Failed, 2)]);
    let kinds: Vec<String> = store.events(0, 99).unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["entry", "entry", "entry", "delivery_changed", "mail_failed", "entry"]);

    // A reply to our mail finds its ticket by reference.
    let question = Question {
        channel: &address("support@a.example"),
        message_id: None,
        content_key: "",
        print: None,
        references: &["our1@a.example".into()],
        token_ticket: None,
        tag_ticket: None,
    };
    assert_eq!(store.step(|step| step.facts(&question)).unwrap().references[0].number, 1);
    assert_sound(&store);
    let before = dump(&store);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (store, _) = open(dir.path());
    assert_eq!(dump(&store), before);
}

#[test]
fn senders_are_owed_reports_from_the_commit_on_that_settles_until_they_are_filed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let to: Vec<String> = (0..130).map(|n| format!("a{n}@example.net")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    run(hand_in(&store, &to, None, None));
    let mail = file_next(&store, "our1@a.example");
    let events = || {
        let mut counts = BTreeMap::<u64, usize>::new();
        store.reports(999).unwrap().iter().for_each(|row| *counts.entry(row.event).or_default() += 1);
        counts.into_iter().collect::<Vec<_>>()
    };
    let micros = |minutes| later(minutes).as_microsecond() as u64;
    // A success that nobody has asked for is told to nobody, and a report has a hundred recipients at most.
    settle(&store, mail.seq, &[(0, DeliveryState::Relayed)], 1);
    let failed: Vec<_> = (1..122).map(|n| (n, DeliveryState::Failed)).collect();
    settle(&store, mail.seq, &failed, 1);
    settle(&store, mail.seq, &[(122, DeliveryState::Failed)], 1);
    settle(&store, mail.seq, &[(123, DeliveryState::Failed)], 2);
    // What is settled is settled: it is not told again.
    settle(&store, mail.seq, &[(123, DeliveryState::Failed)], 3);
    let first = micros(1);
    assert_eq!(events(), [(first, 100), (first + 1, 21), (first + 2, 1), (micros(2), 1)]);
    let row = &store.reports(1).unwrap()[0];
    assert_eq!((row.n, row.address.as_str(), row.action.as_str(), row.asked), (1, "a1@example.net", "failed", false));
    store.step(|step| step.end_report(mail.seq, first + 1)).unwrap();
    assert_eq!(events(), [(first, 100), (first + 2, 1), (micros(2), 1)]);
    assert_sound(&store);
    let before = dump(&store);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (store, _) = open(dir.path());
    assert_eq!(dump(&store), before);
}

#[test]
fn people_hold_release_retry_reroute_and_cancel() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    run(hand_in(&store, &["ann@example.net"], None, None));
    let entry = file_next(&store, "our1@a.example");
    assert_eq!((entry.filing.as_str(), entry.ticket), ("relayed", None));
    let order = |order| store.step(|step| step.order_outbox(&entry.id, &order, "kim", later(9)));
    // Order, the state after it (or none where it is refused), and how many recipients wait then.
    let table = [
        (OutboxOrder::Release, None, 1),
        (OutboxOrder::Hold, Some(OutboxState::Held), 1),
        (OutboxOrder::Hold, None, 1),
        (OutboxOrder::Reroute("other".into()), Some(OutboxState::Held), 1),
        (OutboxOrder::Release, Some(OutboxState::Waiting), 1),
        (OutboxOrder::Retry, Some(OutboxState::Waiting), 1),
        (OutboxOrder::Cancel, Some(OutboxState::Cancelled), 0),
        (OutboxOrder::Cancel, None, 0),
        (OutboxOrder::Retry, None, 0),
    ];
    for (what, want, open) in table {
        let got = order(what.clone());
        assert_eq!(got.as_ref().ok().map(|row| row.state), want, "{what:?} {got:?}");
        assert_eq!(store.outbox_row(entry.seq).unwrap().unwrap().open, open, "{what:?}");
        assert_sound(&store);
    }
    assert_eq!(store.outbox_row(entry.seq).unwrap().unwrap().relay.as_deref(), Some("other"));
    // What was on its way when it was cancelled, and arrived, has arrived.
    settle(&store, entry.seq, &[(0, DeliveryState::Delayed)], 9);
    assert_eq!(store.recipients(entry.seq, 0, 9).unwrap()[0].state, DeliveryState::Cancelled);
    settle(&store, entry.seq, &[(0, DeliveryState::Relayed)], 9);
    assert_eq!(store.recipients(entry.seq, 0, 9).unwrap()[0].state, DeliveryState::Relayed);

    run(hand_in(&store, &["ann@example.net"], None, None));
    let failed = file_next(&store, "our2@a.example");
    settle(&store, failed.seq, &[(0, DeliveryState::Failed)], 1);
    let row = store.step(|step| step.order_outbox(&failed.id, &OutboxOrder::Retry, "kim", later(9))).unwrap();
    assert_eq!((row.state, row.since, row.open), (OutboxState::Waiting, later(9), 1));
    let held = OutboxFilter { state: Some(OutboxState::Waiting), limit: 9, ..OutboxFilter::default() };
    assert_eq!(store.outbox(&held).unwrap(), [row]);
    assert_eq!(store.outbox(&OutboxFilter { limit: 9, ..OutboxFilter::default() }).unwrap().len(), 2);
    let none = store.step(|step| step.order_outbox("0000000000000", &OutboxOrder::Hold, "kim", now()));
    assert!(matches!(none, Err(StoreError::NoSuchEntry(_))));
    assert_sound(&store);
}

#[test]
fn a_brake_holds_mail_and_a_person_releases_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"x", "m1@x", &OPEN);
    let mut rows = Vec::new();
    for n in 0..12 {
        run(hand_in(&store, &["ann@example.net"], Some(1), None));
        rows.push(file_next(&store, &format!("our{n}@a.example")));
    }
    let states: Vec<_> = rows.iter().map(|row| store.outbox_row(row.seq).unwrap().unwrap().state).collect();
    assert!(states[..10].iter().all(|s| *s == OutboxState::Waiting), "{states:?}");
    assert_eq!(states[10..], [OutboxState::Held, OutboxState::Held]);
    let brakes = store.brakes(9).unwrap();
    assert_eq!((brakes.len(), brakes[0].held, brakes[0].mails), (1, 2, 10));
    assert_eq!(brakes[0].scope, Scope::TicketRecipient.as_str());
    let tripped = store.events(0, 99).unwrap().iter().filter(|event| event.kind == "brake_tripped").count();
    assert_eq!(tripped, 1);
    assert_sound(&store);
    store.step(|step| step.release_brake(&brakes[0].id, "kim", later(1))).unwrap();
    assert_eq!((store.brakes(9).unwrap().len(), store.undone(0, 99).unwrap().len()), (0, 12));
    assert!(store.undone(0, 99).unwrap().iter().all(|row| row.state == OutboxState::Waiting && row.braked == 0));
    run(hand_in(&store, &["ann@example.net"], Some(1), None));
    let after = file_next(&store, "our99@a.example");
    assert_eq!(store.outbox_row(after.seq).unwrap().unwrap().state, OutboxState::Waiting);
    let none: Result<_, StoreError> = store.step(|step| step.release_brake("nothing", "kim", now()));
    assert!(matches!(none, Err(StoreError::NotPossible(_))));
    assert!(store.step(|step| step.tidy_outbox(later(10_000), now())).unwrap() >= 2);
    assert_sound(&store);
}

#[test]
fn reports_change_the_state_and_suppress_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"x", "m1@x", &OPEN);
    let send = |message_id: &str| {
        run(hand_in(&store, &["Ann@example.net", "bob@example.net"], Some(1), None));
        let entry = file_next(&store, message_id);
        let waits = |n: u32| store.recipients(entry.seq, n, 1).unwrap()[0].state.waits();
        let states: Vec<_> = (0..2).filter(|n| waits(*n)).map(|n| (n, DeliveryState::Relayed)).collect();
        settle(&store, entry.seq, &states, 1);
        entry
    };
    let report = |seq: u64, who: &str, word| {
        let report =
            Bounced { addresses: vec![who.into()], word, said: "5.1.1 no such user".into(), hard: word == "failed" };
        store.step(|step| step.bounced(seq, &[report], SUPPRESS, later(5))).unwrap()
    };
    let first = send("our1@a.example");
    let found = |message_id: Option<&str>, ticket, who: &str| {
        let row = store.step(|step| step.outbound_of(message_id, ticket, &[who.into()])).unwrap();
        row.map(|row| row.seq)
    };
    assert_eq!(found(Some("our1@a.example"), None, ""), Some(first.seq));
    assert_eq!(found(None, Some(1), "ANN@example.net"), Some(first.seq));
    assert_eq!(found(Some("m1@x"), Some(1), "eve@example.net"), None);

    assert!(report(first.seq, "ann@example.net", "failed"));
    assert!(!report(first.seq, "eve@example.net", "failed"));
    assert!(report(first.seq, "bob@example.net", "delayed"));
    let rows = store.recipients(first.seq, 0, 9).unwrap();
    assert_eq!((rows[0].state, rows[1].state), (DeliveryState::Failed, DeliveryState::Relayed));
    assert_eq!(rows[1].reported.as_deref(), Some("delayed"));
    let list = |every| store.suppressions(every, 9).unwrap().len();
    assert_eq!((list(Every::Suppressed), list(Every::Failure)), (0, 1));
    let second = send("our2@a.example");
    report(second.seq, "ann@example.net", "failed");
    report(second.seq, "bob@example.net", "complaint");
    assert_eq!(list(Every::Suppressed), 2);
    let third = send("our3@a.example");
    assert_eq!(store.outbox_row(third.seq).unwrap().unwrap().state, OutboxState::Done);
    assert_eq!(store.recipients(third.seq, 0, 1).unwrap()[0].state, DeliveryState::Suppressed);
    let suppressed = store.events(0, 99).unwrap().iter().filter(|event| event.kind == "address_suppressed").count();
    assert_eq!(suppressed, 2);
    // A failure long after the others does not take an address off the list.
    let report =
        Bounced { addresses: vec!["bob@example.net".into()], word: "failed", said: "5.1.1".into(), hard: true };
    store.step(|step| step.bounced(first.seq, &[report], SUPPRESS, later(60 * 24 * 9))).unwrap();
    assert_eq!(list(Every::Suppressed), 2);
    store.step(|step| step.clear_suppression("ANN@example.net")).unwrap();
    assert_eq!(list(Every::Suppressed), 1);
    assert!(store.step(|step| step.clear_suppression("ann@example.net")).is_err());
    assert_sound(&store);
}

#[test]
fn the_worst_report_stands_and_one_mail_is_one_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"x", "m1@x", &OPEN);
    let report = |seq: u64, who: &[&str], word| {
        let addresses = who.iter().map(|who| (*who).to_owned()).collect();
        let report = Bounced { addresses, word, said: format!("{word} said"), hard: word == "failed" };
        store.step(|step| step.bounced(seq, &[report], SUPPRESS, later(5))).unwrap()
    };
    let state = |seq: u64| {
        let row = store.recipients(seq, 0, 1).unwrap().remove(0);
        (row.state, row.reported.unwrap_or_default())
    };
    let failures = || store.suppressions(Every::Failure, 9).unwrap().iter().map(|row| row.failures).sum::<u32>();
    use DeliveryState::{Failed, Queued, Relayed};
    run(hand_in(&store, &["ann@example.net"], Some(1), None));
    let mail = file_next(&store, "our1@a.example").seq;
    settle(&store, mail, &[(0, Relayed)], 1);
    // What comes home, in this order, and what stands then.
    let table = [
        ("delayed", Relayed, "delayed", 0),
        ("delivered", Relayed, "delivered", 0),
        ("delayed", Relayed, "delivered", 0),
        ("failed", Failed, "failed", 1),
        ("failed", Failed, "failed", 1),
        ("delivered", Failed, "failed", 1),
        ("complaint", Failed, "complaint", 1),
    ];
    for (word, want, reported, count) in table {
        // The second address is where it was forwarded to.
        assert!(report(mail, &["old@example.org", "Ann@example.net"], word));
        assert_eq!((state(mail), failures()), ((want, reported.to_owned()), count), "after {word}");
    }
    store.step(|step| step.clear_suppression("ann@example.net")).unwrap();
    // Tried again it begins anew.
    store
        .step(|step| step.order_outbox(&store.entry_at(mail)?.unwrap().id, &OutboxOrder::Retry, "kim", now()))
        .unwrap();
    assert_eq!(state(mail), (Queued, String::new()));
    // Anybody who knows the Message-ID can say that it failed: nothing ends for whom it was not sent to.
    report(mail, &["ann@example.net"], "complaint");
    assert_eq!((state(mail), failures()), ((Queued, String::new()), 0));
    let row = settle(&store, mail, &[(0, DeliveryState::Delayed)], 5);
    assert_eq!((row.open, row.state, failures()), (1, OutboxState::Waiting, 0));
    // The report is faster than the commit of the attempt that it is about.
    report(mail, &["ann@example.net"], "failed");
    report(mail, &["ann@example.net"], "delivered");
    assert_eq!((state(mail), failures()), ((DeliveryState::Delayed, String::new()), 0));
    let row = settle(&store, mail, &[(0, Relayed)], 6);
    assert_eq!((state(mail), row.state, failures()), ((Failed, "failed".to_owned()), OutboxState::Done, 1));
    // Nothing was sent to whom a person had it cancelled for, or a brake holds.
    run(hand_in(&store, &["bob@example.net"], Some(1), None));
    let mail = file_next(&store, "our2@a.example");
    store.step(|step| step.order_outbox(&mail.id, &OutboxOrder::Cancel, "kim", now())).unwrap();
    report(mail.seq, &["bob@example.net"], "failed");
    assert_eq!((state(mail.seq), failures()), ((DeliveryState::Cancelled, String::new()), 1));
    assert_sound(&store);
}

#[test]
fn a_delay_is_told_once_and_of_all_who_wait_whoever_was_tried_first() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    use DeliveryState::{Delayed, Relayed};
    let until = later(7200);
    // A job of one lane that found the mail late.
    let job = |seq: u64, n: u32, state: DeliveryState| {
        let told = Told { said: format!("451 {n}"), ..Told::waits(until) };
        let waits = state == Delayed;
        let next = waits.then(|| later(330));
        let recipients = vec![SettledRecipient { n, state, reply: None, hard: false, next, told: None }];
        Settled {
            seq,
            at: later(300),
            relay: Some("direct".into()),
            recipients,
            way: None,
            notes: Vec::new(),
            late: waits.then(|| "it is late".into()),
            delayed: waits.then_some((n, told)).into_iter().collect(),
        }
    };
    let waits = Told::waits(until).said;
    // Recipients, and which were tried in one commit with what came of it; who is told of, in what words.
    type Case<'a> = (&'a [&'a str], &'a [(u32, DeliveryState)], &'a [(u32, &'a str)]);
    let table: [Case<'_>; 5] = [
        (&["a@x.example", "b@y.example"], &[(0, Delayed)], &[(0, "451 0"), (1, &waits)]),
        (&["never@x.example", "b@y.example"], &[(0, Delayed)], &[(1, &waits)]),
        (&["a@x.example", "never@y.example"], &[(1, Delayed)], &[(0, &waits)]),
        (&["a@x.example", "b@y.example"], &[(0, Delayed), (1, Delayed)], &[(0, "451 0"), (1, "451 1")]),
        (&["a@x.example", "b@y.example"], &[(0, Delayed), (1, Relayed)], &[(0, "451 0")]),
    ];
    for (n, (to, tried, want)) in table.into_iter().enumerate() {
        run(hand_in(&store, to, None, None));
        let seq = file_next(&store, &format!("late{n}@a.example")).seq;
        let jobs: Vec<Settled> = tried.iter().map(|(n, state)| job(seq, *n, *state)).collect();
        let owed = |jobs: &[Settled]| {
            store.step(|step| step.settle(jobs, SUPPRESS)).unwrap();
            let owed = store.reports(9).unwrap().into_iter().filter(|row| row.seq == seq);
            owed.map(|row| (row.n, row.action, row.said, row.until)).collect::<Vec<_>>()
        };
        let want: Vec<_> = want.iter().map(|(n, said)| (*n, "delayed".into(), (*said).into(), Some(until))).collect();
        assert_eq!(owed(&jobs), want, "row {n}");
        let again: Vec<Settled> = (0..2).map(|n| job(seq, n, Delayed)).collect();
        assert_eq!(owed(&again), want, "row {n}: once");
    }
    // A ticket's note names who was tried, and counts the others.
    take(&store, b"x", "m1@x", &OPEN);
    run(hand_in(&store, &["a@x.example", "b@y.example"], Some(1), None));
    let seq = file_next(&store, "late@a.example").seq;
    store.step(|step| step.settle(&[job(seq, 0, Delayed)], SUPPRESS)).unwrap();
    let note = store.entries(seq, 9).unwrap().into_iter().find_map(|row| row.note);
    assert_eq!(note.as_deref(), Some("it is late\n- and 1 other recipient"));
    assert_sound(&store);
}

#[test]
fn quota_pages_are_kept_by_account() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let pages = vec![(b"s".to_vec(), Some(vec![1])), (b"r1".to_vec(), Some(vec![2])), (b"r2".to_vec(), None)];
    store.step(|step| step.put_quota("gmail a@x", pages)).unwrap();
    store.step(|step| step.put_quota("gmail b@x", vec![(b"s".to_vec(), Some(vec![3]))])).unwrap();
    assert_eq!(store.quota("gmail a@x").unwrap(), [(b"r1".to_vec(), vec![2]), (b"s".to_vec(), vec![1])]);
    store.step(|step| step.put_quota("gmail a@x", vec![(b"r1".to_vec(), None)])).unwrap();
    assert_eq!(store.quota("gmail a@x").unwrap().len(), 1);
    assert_ne!(store.private_hash("a"), store.private_hash("b"));
}
