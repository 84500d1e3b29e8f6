//! What a crash, a bad disk or a lost index leaves, and what is there after the next start.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;
use crate::store::body::HEAD;

fn segment(dir: &Path) -> std::path::PathBuf {
    dir.join("log/0000000001.seg")
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let dir = quick_dir();
    let (store, _) = open(dir.path());
    take(&store, b"first", "m1@x", &OPEN);
    run(spool(&store, b"second", &["support@a.example"])).unwrap();
    let good = std::fs::metadata(segment(dir.path())).unwrap().len();
    run(spool(&store, b"third", &["support@a.example"])).unwrap();
    drop(store);
    let whole = std::fs::read(segment(dir.path())).unwrap();
    for cut in (good..whole.len() as u64).rev() {
        std::fs::write(segment(dir.path()), &whole[..cut as usize]).unwrap();
        let (store, report) = open(dir.path());
        assert_eq!((report.cut_bytes, report.spooled), (cut - good, 1), "cut at {cut}");
        assert_eq!(next(&store).body, MailBytes::Inline(b"second".to_vec()));
        assert_eq!(store.ticket(1).unwrap().unwrap().entries, 1);
    }
}

#[test]
fn bad_bytes_with_records_behind_them_are_reported_and_gone_past() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let receipts: Vec<Receipt> =
        (0..3).map(|n| run(spool(&store, &[n; 300], &["support@a.example"])).unwrap()).collect();
    drop(store);
    let file = OpenOptions::new().write(true).open(segment(dir.path())).unwrap();
    file.write_all_at(&[7; 64], receipts[1].position.offset()).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((report.damaged_spans.len(), report.spooled, report.cut_bytes), (1, 2, 0));
    assert_eq!(report.damaged_spans[0].position, receipts[1].position);
    let ids: Vec<MailId> = store.spooled(9, 9999).unwrap().iter().map(|mail| mail.id).collect();
    assert_eq!(ids, [receipts[0].id, receipts[2].id]);
    assert_eq!(store.fsck(Depth::Normal).unwrap().findings[0].code, "log_damaged");
    assert!(matches!(store.mail(receipts[1].position), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_mail_whose_bytes_changed_is_still_handed_out_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let first = run(spool(&store, &[b'a'; 3000], &["support@a.example"])).unwrap();
    run(spool(&store, b"b", &["support@a.example"])).unwrap();
    let file = OpenOptions::new().write(true).open(segment(dir.path())).unwrap();
    file.write_all_at(b"Z", first.position.offset() + 2500).unwrap();
    drop(store);
    let (store, report) = open(dir.path());
    assert_eq!(report.spooled, 2);
    assert!(next(&store).damaged);
}

#[test]
fn an_index_that_is_lost_old_or_scribbled_over_comes_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"x", "m1@x", &OPEN);
    store.close();
    drop(store);
    let old = dir.path().join("old");
    copy(&dir.path().join("index"), &old);
    let (store, _) = open(dir.path());
    take(&store, b"x", "m2@x", &append(1));
    take(&store, &[b'x'; 20_000], "m3@x", &OPEN);
    store.step(|step| step.note(1, "kim", "hello", now())).unwrap();
    store.step(|step| step.merge(2, 1, "kim", now())).unwrap();
    run(spool(&store, b"waits", &["support@a.example"])).unwrap();
    let before = dump(&store);
    drop(store);
    let index = dir.path().join("index");
    type Harm = (&'static str, fn(&Path, &Path));
    let harms: [Harm; 4] = [
        ("lost", |_, _| ()),
        ("old", |old, index| copy(old, index)),
        ("scribbled", |_, index| {
            std::fs::create_dir_all(index).unwrap();
            std::fs::write(index.join("conf"), b"scribble").unwrap();
            std::fs::write(index.join("db"), [0x5a; 100_000]).unwrap();
        }),
        ("half-written snapshot", |old, index| {
            copy(old, index);
            std::fs::write(index.join("snap.0000000000000FFF.generating"), b"x").unwrap();
        }),
    ];
    for (name, harm) in harms {
        std::fs::remove_dir_all(&index).unwrap();
        harm(&old, &index);
        let (store, report) = open(dir.path());
        assert_eq!(dump(&store), before, "{name}");
        assert_eq!((report.spooled, report.missing_commits), (1, 0), "{name}");
        assert!(report.redone >= 4 && report.rebuilt == matches!(name, "lost" | "scribbled"), "{name}: {report:?}");
        assert_sound(&store);
    }
}

#[test]
fn a_second_process_hears_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let second = Store::open(dir.path(), &config(), Clock::from_fn(now));
    assert!(
        matches!(second, Err(OpenError::Held { pid, since, .. }) if pid == std::process::id() && since == now()),
        "{second:?}"
    );
    drop(store);
    open(dir.path());
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("format"), br#"{"format": 2, "salt": 1}"#).unwrap();
    let opened = Store::open(dir.path(), &config(), Clock::from_fn(now));
    assert!(matches!(opened, Err(OpenError::TooNew { found: 2, known: 1 })));
}

#[test]
fn an_attempt_counts_only_when_the_process_ended_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let receipt = run(spool(&store, b"x", &["support@a.example"])).unwrap();
    assert_eq!(store.attempt(receipt.position), 0);
    drop(store);
    for earlier in 1..3 {
        let (store, _) = open(dir.path());
        assert_eq!(store.attempt(receipt.position), earlier);
    }
    let (store, _) = open(dir.path());
    assert_eq!(store.attempt(receipt.position), 3);
    file(&store, &next(&store), "m@x", &QUARANTINE);
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.attempt(receipt.position), 0);
}

#[test]
fn a_mail_that_takes_the_process_down_is_found_behind_others() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mail = || run(spool(&store, b"x", &["support@a.example"])).unwrap().position;
    let (good, bad) = (mail(), mail());
    drop(store);
    for earlier in 0..3 {
        let (store, _) = open(dir.path());
        assert_eq!(store.suspects(), earlier > 0);
        assert_eq!(store.attempt(good), 0);
        store.attempt_ended(good);
        assert_eq!(store.attempt(bad), earlier);
        // The commit of what came before it leaves its note alone.
        if earlier == 2 {
            file(&store, &next(&store), "good@x", &QUARANTINE);
        }
    }
    let (store, _) = open(dir.path());
    assert_eq!(store.attempt(bad), 3);
    file(&store, &next(&store), "bad@x", &QUARANTINE);
    assert!(!store.suspects());
    drop(store);
    let (store, _) = open(dir.path());
    assert!(!store.suspects());
}

#[test]
fn large_bodies_have_files_and_leave_none_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let bytes: Vec<u8> = (0..HEAD as u32 + 700_000).map(|n| n as u8).collect();
    let receipt = run(spool(&store, &bytes, &["support@a.example"])).unwrap();
    assert_eq!(*next(&store).body.read().unwrap(), bytes);
    let mut writer = store.body(MailId::fresh(now()), 10_000);
    assert_eq!(run(writer.push(&bytes)), Err(BodyError::TooLarge { limit: 10_000 }));
    let mut writer = store.body(MailId::fresh(now()), 4 << 20);
    run(writer.push(&bytes)).unwrap();
    assert_eq!(writer.head(), &bytes[..HEAD]);
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    let stray = body::path(dir.path(), MailId::fresh(now()));
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::write(&stray, b"never acknowledged").unwrap();
    drop(store);
    let (store, report) = open(dir.path());
    assert_eq!((report.orphans, report.spooled, stray.exists()), (1, 1, false));
    assert_eq!(*store.mail(receipt.position).unwrap().body.read().unwrap(), bytes);
    assert_sound(&store);
}

#[test]
fn small_bodies_are_the_same_in_one_piece() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let body = || store.body(MailId::fresh(now()), 4 << 20);
    let mut writer = body();
    run(writer.push(b"From: a")).unwrap();
    run(writer.push(b"\r\n\r\nhi")).unwrap();
    let (pieces, whole) = (run(writer.finish()).unwrap(), body().hold(b"From: a\r\n\r\nhi".to_vec()));
    assert_eq!((pieces.size(), pieces.sha256(), pieces.head()), (whole.size(), whole.sha256(), whole.head()));
    let inline = config().inline_bytes as usize;
    assert!(body().holds(inline) && !body().holds(inline + 1) && !store.body(MailId::fresh(now()), 9).holds(10));
}

#[test]
fn a_refused_mail_leaves_its_header_section_and_cannot_be_retried() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.refused(Refused {
        id: MailId::fresh(now()),
        received_at: now(),
        envelope: Envelope::default(),
        origin: origin(),
        deliveries: vec![delivery("support@a.example")],
        reason: Reason::MissingFrom,
        size: 999,
        head: b"Subject: x\r\n\r\nsecret".to_vec(),
    });
    // The log works in order, so the accepted mail behind it says that it is written.
    run(spool(&store, b"x", &["support@a.example"])).unwrap();
    let mail = next(&store);
    assert_eq!((mail.refused, mail.size), (Some(Reason::MissingFrom), 999));
    assert_eq!(mail.body, MailBytes::Inline(b"Subject: x\r\n\r\n".to_vec()));
    let row = file(&store, &mail, "m@x", &Filing::Reject { reason: Reason::MissingFrom }).remove(0);
    assert!(store.mail(row.mail.unwrap()).unwrap().headers_only);
    let retried: Result<_, StoreError> = store.step(|step| step.retry(&row.id, "kim", now()));
    assert!(matches!(retried, Err(StoreError::NotPossible(_))));
}

#[test]
fn a_check_of_something_else_makes_no_store_of_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter.txt"), "x").unwrap();
    let refused = fsck::offline(dir.path(), &config(), Depth::Normal).unwrap_err();
    assert!(matches!(refused, OpenError::NotAStore(_)), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let store = dir.path().join("store");
    drop(open(&store));
    assert_eq!(fsck::offline(&store, &config(), Depth::Normal).unwrap().1.findings, []);
}
