//! Mail that leaves: what the store keeps of it, through orders, brakes and the loss of the index.

use jiff::SignedDuration;

use super::*;
use crate::mail::Class;
use crate::mail::notify::Action;
use crate::store::outgoing::*;
use crate::store::rows::{DeliveryState, EntryKind, OutboxRow, OutboxState};
use crate::ticket::loops::{Brakes, Scope};

pub(super) const SUPPRESS: Suppress = Suppress { after: 2, within: SignedDuration::from_hours(24) };

pub(super) fn later(minutes: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_mins(minutes)).unwrap()
}

pub(super) async fn hand_in(store: &Store, to: &[&str], ticket: Option<u64>, key: Option<&str>) -> Receipt {
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
pub(super) fn file_next(store: &Store, message_id: &str) -> EntryRow {
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

pub(super) fn settle(store: &Store, seq: u64, states: &[(u32, DeliveryState)], minutes: i64) -> OutboxRow {
    let recipients = states.iter().map(|(n, state)| SettledRecipient {
        n: *n,
        state: *state,
        reply: Some(format!("{} said", state.as_str())),
        hard: *state == DeliveryState::Failed,
        unanswered: false,
        next: state.waits().then(|| later(minutes + 5)),
        told: told(*state),
    });
    let settled = Settled {
        seq,
        at: later(minutes),
        relay: Some("smarthost".into()),
        began: Some(later(minutes - 1)),
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
        compared: None,
        references: &["our1@a.example".into()],
        token_ticket: None,
        tag_ticket: None,
    };
    assert_eq!(store.step(|step| step.facts(&question)).unwrap().references[0].number, 1);
    assert_sound(&store);
    assert_rebuilt(store, dir.path());
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

#[tokio::test]
async fn mail_gets_the_time_of_a_stopped_clock_once_over_a_crash() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    let mut seqs = Vec::new();
    for n in 0..3 {
        hand_in(&store, &["ann@example.net"], None, None).await;
        seqs.push(file_next(&store, &format!("<m{n}@a.example>")).seq);
    }
    let since = |store: &Store, seq| store.outbox_row(seq).unwrap().unwrap().since;
    store.step(|step| step.stop_clock("support@a.example", later(10))).unwrap();
    store.step(|step| step.stop_clock("support@a.example", later(30))).unwrap();
    let mails: Vec<(u64, Timestamp)> = seqs.iter().map(|seq| (*seq, later(70))).collect();
    let give = |store: &Store, last| {
        store.step(|step| step.give_time("support@a.example", &mails, later(70), last)).unwrap();
    };
    // The process ends behind the second mail; the next one goes on there.
    store.step(|step| step.give_time("support@a.example", &mails[..2], later(70), Some(seqs[1]))).unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    let clock = store.clocks().unwrap().remove(0);
    assert_eq!((clock.since, clock.until, clock.after), (later(10), Some(later(70)), seqs[1]));
    give(&store, Some(seqs[2]));
    give(&store, None);
    give(&store, None);
    assert!(seqs.iter().all(|seq| since(&store, *seq) == later(60)));
    assert!(store.clocks().unwrap().is_empty());
}
