//! The ledger of a mailbox: a pulled mail has its row from the instant of its record on, whatever crashes when.

use super::*;
use crate::mail::origin::RemoteMessage;
use crate::store::rows::{Intent, LedgerRow, LedgerState, SourceRow, Wanted};

const CHANNEL: &str = "support@a.example";

fn pulled(uid: u32) -> Origin {
    let remote = RemoteMessage { channel: address(CHANNEL), validity: 7, uid, backfill: uid < 10 };
    Origin { kind: OriginKind::Imap, peer: "support@imap.example".into(), remote: Some(remote), ..origin() }
}

/// The row of the mailbox, as the first connection writes it.
fn connect(store: &Store) {
    let source = SourceRow { channel: CHANNEL.into(), validity: 7, ..SourceRow::default() };
    store.step(|step| step.put_source(&address(CHANNEL), &source)).unwrap();
}

fn pull(store: &Store, uid: u32) {
    run(async { begin(store, uid).await.unwrap().done().await }).unwrap();
}

/// Hands a mail over and does not wait for the log.
async fn begin(store: &Store, uid: u32) -> Result<Appending, SpoolError> {
    let id = MailId::fresh(now());
    let body = store.body(id, 1 << 30).whole(format!("From: a@b.example\r\n\r\nmail {uid}\r\n").into()).await.unwrap();
    let envelope = Envelope { mail_from: None, rcpt_to: vec![address(CHANNEL)] };
    let (deliveries, origin, review) = (vec![delivery(CHANNEL)], pulled(uid), false);
    store
        .hand_over(Incoming { id, received_at: now(), envelope, origin, deliveries, review, outgoing: None, body })
        .await
}

fn refuse(store: &Store, uid: u32) {
    let envelope = Envelope { mail_from: None, rcpt_to: vec![address(CHANNEL)] };
    let refused = Refused {
        id: MailId::fresh(now()),
        received_at: now(),
        envelope,
        origin: pulled(uid),
        deliveries: vec![delivery(CHANNEL)],
        reason: Reason::TooLarge,
        size: 60 << 20,
        head: b"Subject: large\r\n\r\n".to_vec(),
    };
    run(async { store.hand_over_refused(refused).unwrap().done().await }).unwrap();
}

/// The ledger as `uid state labelled`, and the intents as `uid`, `uid!` for a rejected mail, `uid-` for one that was.
fn told(store: &Store) -> (Vec<String>, Vec<String>) {
    let rows = store.ledger(&address(CHANNEL), 7, 0..=u32::MAX, 100).unwrap();
    let rows = rows.into_iter().map(|row| format!("{} {} {}", row.uid, row.state.as_str(), row.labelled)).collect();
    let intents = store.intents(&address(CHANNEL), 100).unwrap();
    let mark = |intent: &Intent| {
        if intent.rejected {
            "!"
        } else if intent.cleared {
            "-"
        } else {
            ""
        }
    };
    (rows, intents.iter().map(|intent| format!("{}{}", intent.uid, mark(intent))).collect())
}

fn seen(uid: u32, state: LedgerState) -> LedgerRow {
    LedgerRow {
        uid,
        validity: 7,
        state,
        reason: None,
        mail: None,
        at: now(),
        labelled: false,
        label_refused: false,
        rejected_before: false,
    }
}

fn file_next(store: &Store, id: &str, filing: &Filing) -> EntryRow {
    file(store, &next(store), id, filing).remove(0)
}

#[test]
fn pulled_mails_share_syncs_and_keep_their_order_beside_others() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    connect(&store);
    run(async {
        let (mut waiting, mut others) = (Vec::new(), Vec::new());
        for uid in 20..60 {
            waiting.push(begin(&store, uid).await.unwrap());
            if uid % 10 == 0 {
                others.push(spool(&store, b"From: c@d.example\r\n\r\n", &[CHANNEL]).await.unwrap().position);
            }
        }
        store.hurry();
        let mut positions = Vec::new();
        for one in waiting {
            positions.push(one.done().await.unwrap().position);
        }
        assert!(positions.is_sorted() && others.is_sorted());
        // Whoever waits for an answer finds all that came before in front.
        assert!(positions[0] < others[0] && positions[10] < others[1] && positions[30] < others[3]);
    });
    assert_eq!(store.spool_state(), SpoolState { depth: 44, pulled: 40, ..store.spool_state() });
    assert_eq!(told(&store).0.len(), 40);
    store.0.log.stop();
    let refused = run(async { begin(&store, 70).await.map(drop) });
    assert_eq!(refused, Err(SpoolError::Trouble("the store is closed".into())));
    assert_eq!(told(&store).0.len(), 40, "what was not taken has no row");
}

#[test]
fn a_pulled_mail_has_its_row_from_its_record_to_its_label() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    connect(&store);
    pull(&store, 11);
    refuse(&store, 12);
    pull(&store, 13);
    let rows = ["11 imported false", "12 imported false", "13 imported false"];
    assert_eq!(told(&store), (rows.map(String::from).to_vec(), vec![]));
    drop(store);
    // What is not filed is found again in the log.
    let (store, _) = open(dir.path());
    assert_eq!(told(&store).0.len(), 3);
    assert_eq!(file_next(&store, "a@x", &OPEN).door, "imap");
    file_next(&store, "b@x", &Filing::Reject { reason: Reason::TooLarge });
    let rows = ["11 imported false", "12 rejected false", "13 imported false"];
    assert_eq!(told(&store), (rows.map(String::from).to_vec(), vec!["11".into(), "12!".into()]));
    store.step(|step| step.labelled(&address(CHANNEL), &[(7, 11), (7, 12)])).unwrap();
    file_next(&store, "c@x", &Filing::Quarantine { reason: Reason::TooDeep });
    let rows = ["11 imported true", "12 rejected true", "13 rejected false"];
    let want = (rows.map(String::from).to_vec(), vec!["13!".into()]);
    assert_eq!(told(&store), want);
    assert_sound(&store);
    let store = assert_rebuilt(store, dir.path());
    assert_eq!(told(&store), want);
    assert_sound(&store);
}

#[test]
fn a_label_of_an_import_does_not_cover_a_rejection() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    connect(&store);
    pull(&store, 5);
    let row = file_next(&store, "a@x", &Filing::Quarantine { reason: Reason::TooDeep });
    assert!(row.backfill);
    store.step(|step| step.labelled(&address(CHANNEL), &[(7, 5)])).unwrap();
    store.step(|step| step.retry(&row.id, "anna", now())).unwrap();
    file_next(&store, "a@x", &OPEN);
    // Its rejection's label goes, and only then is it labelled as it should be.
    assert_eq!(told(&store), (vec!["5 imported false".into()], vec!["5-".into()]));
    store.step(|step| step.labelled(&address(CHANNEL), &[(7, 5)])).unwrap();
    assert_eq!(told(&store), (vec!["5 imported true".into()], vec![]));
    assert_sound(&store);
}

#[test]
fn a_label_that_is_refused_for_good_is_not_owed() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    connect(&store);
    pull(&store, 5);
    file_next(&store, "a@x", &OPEN);
    store.step(|step| step.label_refused(&address(CHANNEL), 7, 5)).unwrap();
    assert_eq!(told(&store), (vec!["5 imported false".into()], vec![]));
    assert!(store.ledger(&address(CHANNEL), 7, 0..=9, 9).unwrap()[0].label_refused);
    assert_sound(&store);
}

#[test]
fn rows_of_mail_that_was_only_seen_never_hide_a_mail() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    let row = |uid, state| LedgerRow { labelled: true, ..seen(uid, state) };
    let write = |rows: &[LedgerRow]| store.step(|step| step.ledger(&address(CHANNEL), rows)).unwrap();
    write(&[row(1, LedgerState::Waiting), row(2, LedgerState::ReadElsewhere)]);
    pull(&store, 1);
    write(&[row(1, LedgerState::Gone), row(2, LedgerState::Gone), row(3, LedgerState::Waiting)]);
    file_next(&store, "a@x", &OPEN);
    write(&[row(1, LedgerState::Gone), row(3, LedgerState::Gone)]);
    assert_eq!(told(&store).0, ["1 imported false", "2 read_elsewhere true", "3 gone true"]);
    // What could not be fetched may be fetched after all, or be gone.
    write(&[row(4, LedgerState::Unfetchable), row(5, LedgerState::Unfetchable)]);
    pull(&store, 4);
    assert_eq!(store.ledger_rows(&address(CHANNEL), 7, &[4]).unwrap()[0].state, LedgerState::Imported);
    write(&[row(5, LedgerState::Gone)]);
    file_next(&store, "b@x", &OPEN);
    assert_eq!(told(&store).0[3..], ["4 imported false", "5 gone true"]);
}

fn known(validity: u32, uid: u32) -> LedgerRow {
    LedgerRow { validity, labelled: true, ..seen(uid, LedgerState::Known) }
}

#[test]
fn numbers_of_another_mailbox_are_not_used_again() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    let free = |validity| store.free_validity(&address(CHANNEL), validity).unwrap();
    assert_eq!((free(7), free(8)), (7, 8));
    // A mail that is not filed yet counts.
    pull(&store, 1);
    assert_eq!((free(7), free(8)), (u32::MAX, 8));
    file_next(&store, "a@x", &OPEN);
    store.step(|step| step.ledger(&address(CHANNEL), &[known(u32::MAX, 1)])).unwrap();
    assert_eq!((free(7), free(8), free(u32::MAX)), (u32::MAX - 1, 8, u32::MAX - 1));
    assert_eq!(store.free_validity(&address("other@localhost"), 7).unwrap(), 7);
}

#[test]
fn a_label_that_is_owed_is_owed_under_a_new_number_too() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    pull(&store, 1);
    file_next(&store, "a@x", &OPEN);
    let old = store.ledger_rows(&address(CHANNEL), 7, &[1]).unwrap().remove(0);
    let rows = [LedgerRow { uid: 11, validity: 8, ..old }, known(8, 12)];
    store.step(|step| step.ledger(&address(CHANNEL), &rows)).unwrap();
    let intents = store.intents(&address(CHANNEL), 10).unwrap();
    let told: Vec<_> = intents.iter().map(|one| (one.validity, one.uid, one.mail.is_some())).collect();
    assert_eq!(told, [(7, 1, true), (8, 11, true)]);
}

#[test]
fn the_row_of_a_mailbox_of_an_older_version_is_read() {
    let old = r#"{"channel":"support@localhost","wanted":"connected","since":"2026-11-01T00:00:00Z",
        "connected_at":"2026-11-01T00:00:00Z","validity":7,"baseline":3,"cursor":9,"backfill":[],"swept_at":null,
        "unaccounted":0,"read_elsewhere":0,"gone":0,"unfetchable":0,"recent":[]}"#;
    let row: SourceRow = serde_json::from_str(old).unwrap();
    assert_eq!((row.ledger_validity(), row.cursor, row.mailbox.as_str(), row.before), (7, 9, "", None));
    assert_eq!(SourceRow { ledger: 5, ..row }.ledger_validity(), 5);
}

#[test]
fn a_mailbox_and_the_default_channel_outlive_a_restart() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    let source = SourceRow {
        channel: CHANNEL.into(),
        wanted: Wanted::Paused,
        validity: 7,
        cursor: 40,
        backfill: vec![3, 4],
        ..SourceRow::default()
    };
    store
        .step(|step| {
            step.put_source(&address(CHANNEL), &source)?;
            step.set_default_channel(&address(CHANNEL), "anna", now())
        })
        .unwrap();
    let id = store.instance_id();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.source(&address(CHANNEL)).unwrap(), Some(source.clone()));
    assert_eq!(store.sources().unwrap(), [source]);
    assert_eq!(store.default_channel().unwrap().as_deref(), Some(CHANNEL));
    assert_eq!((store.instance_id(), store.instance_id().len()), (id, 16));
    let events = store.events(0, 10).unwrap();
    assert_eq!((events[0].kind.as_str(), events[0].channel.as_deref()), ("default_channel_changed", Some(CHANNEL)));
}

#[test]
fn a_mail_that_was_not_written_has_no_row_even_if_nobody_waits_for_the_answer() {
    use crate::store::ledger::{LedgerKey, Pending};
    use crate::store::record::{Draft, Kind};
    use crate::store::spool::Waiting;
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    pull(&store, 1);
    assert_eq!(store.unfiled(&address(CHANNEL)), 1);
    // From here on the log writes nothing; its thread answers with an error, and who asked is gone by then.
    store.0.shared.break_off("the disk is gone");
    let key = LedgerKey::new(&address(CHANNEL), 7, 2);
    let pending = Pending { mail: MailId::fresh(now()), at: now() };
    let waiting = Waiting { position: Position(0), size: 1, pulled: Some(key), received: 0 };
    let draft = Draft::new(Kind::Mail, b"{}".to_vec(), Vec::new());
    drop(store.0.append_answered(draft, waiting, pending).unwrap());
    store.0.log.stop();
    assert_eq!(store.unfiled(&address(CHANNEL)), 1);
    // The thread is gone altogether.
    let draft = Draft::new(Kind::Mail, b"{}".to_vec(), Vec::new());
    assert!(store.0.append_answered(draft, waiting, pending).is_err());
    assert_eq!(store.unfiled(&address(CHANNEL)), 1);
}

#[test]
fn a_pulled_mail_whose_record_the_disk_loses_has_no_row_any_more() {
    use std::os::unix::fs::FileExt;
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    pull(&store, 11);
    let lost = run(async { begin(&store, 12).await.unwrap().done().await }).unwrap().position;
    let segment = std::fs::OpenOptions::new().write(true).open(dir.path().join("log/0000000001.seg")).unwrap();
    segment.write_all_at(&[7; 64], lost.offset()).unwrap();
    assert_eq!(told(&store).0, ["11 imported false", "12 imported false"]);
    assert_eq!(store.spooled(9, 9999).unwrap().len(), 1);
    assert_eq!(told(&store).0, ["11 imported false"], "the sweep of its mailbox finds that it is missing");
    assert_eq!((store.unfiled(&address(CHANNEL)), store.spool_state().pulled), (1, 1));
}

#[test]
fn a_ledger_that_contradicts_its_entries_is_found() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    pull(&store, 11);
    file_next(&store, "a@x", &OPEN);
    let found = || store.fsck(Depth::Normal).unwrap().findings.into_iter().map(|one| one.said).collect::<Vec<_>>();
    let expect = |want: &[&str]| {
        let found = found();
        assert!(found.len() == want.len() && want.iter().zip(&found).all(|(w, f)| f.contains(w)), "{found:?}");
    };
    expect(&["rows of a ledger, such as for uid 11, of a mailbox that has no row"]);
    connect(&store);
    expect(&[]);
    let mail = store.ledger(&address(CHANNEL), 7, 11..=11, 1).unwrap().remove(0);
    let key = dump(&store).into_iter().map(|(key, _)| key).find(|key| key[0] == keys::LEDGER).unwrap();
    let intent = [&[keys::INTENTS][..], &key[1..]].concat();
    let write = |row: &LedgerRow, owed: bool| {
        let value = serde_json::to_vec(row).unwrap();
        let done: Result<(), StoreError> = store.step(|step| {
            step.put(key.clone(), value)?;
            if owed {
                step.put(intent.clone(), Vec::new())?
            } else {
                step.delete(intent.clone())
            }
            Ok(())
        });
        done.unwrap();
    };
    let row = |state, labelled| LedgerRow { state, labelled, ..mail.clone() };
    let table = [
        (row(LedgerState::Imported, false), true, vec![]),
        (row(LedgerState::Imported, true), false, vec![]),
        (row(LedgerState::Rejected, true), false, vec!["as rejected, but its entry was opened"]),
        (row(LedgerState::Gone, true), false, vec!["as gone, but it has an entry"]),
        (row(LedgerState::Imported, true), true, vec!["its label is set and owed at once"]),
        (row(LedgerState::Imported, false), false, vec!["its label is neither set nor owed"]),
        (
            LedgerRow { mail: Some("lost".into()), ..row(LedgerState::Imported, true) },
            false,
            vec!["which has no entry"],
        ),
    ];
    for (row, owed, want) in table {
        write(&row, owed);
        expect(&want);
    }
}
