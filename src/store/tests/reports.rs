//! Reports about mail that leaves: those that its senders are owed, and those that come home.

use std::collections::BTreeMap;

use super::outbox::{SUPPRESS, file_next, hand_in, later, settle};
use super::*;
use crate::store::outgoing::*;
use crate::store::rows::{DeliveryState, OutboxState};

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
    assert_rebuilt(store, dir.path());
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
        let report = Bounced {
            addresses: vec![who.into()],
            word,
            said: "5.1.1 no such user".into(),
            hard: word == "failed",
            at: later(5),
        };
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
    let report = Bounced {
        addresses: vec!["bob@example.net".into()],
        word: "failed",
        said: "5.1.1".into(),
        hard: true,
        at: later(5),
    };
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
        let (said, hard, at) = (format!("{word} said"), word == "failed", later(5));
        let report = Bounced { addresses, word, said, hard, at };
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
    // One that came before the attempt began is not about it, and takes the place of none that is.
    run(hand_in(&store, &["cay@example.net"], Some(1), None));
    let forged = file_next(&store, "our3@a.example").seq;
    for word in ["failed", "complaint", "failed"] {
        report(forged, &["cay@example.net"], word);
    }
    settle(&store, forged, &[(0, Relayed)], 9);
    assert_eq!((state(forged), failures()), ((Relayed, String::new()), 1));
    let trace = store.entry_at(forged).unwrap().unwrap().trace;
    assert!(trace.iter().any(|step| step.step == "report" && step.said.contains("before")), "{trace:?}");
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
        let recipients =
            vec![SettledRecipient { n, state, reply: None, hard: false, unanswered: false, next, told: None }];
        Settled {
            seq,
            at: later(300),
            began: None,
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
