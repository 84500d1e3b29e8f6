//! What a disk or a person has taken away or changed behind the store's back: what is left stays, and it is said.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use super::*;
use crate::store::rows::{ProbeHome, ProbeRow, ProbeSent};

fn log(dir: &Path, number: u32) -> std::path::PathBuf {
    dir.join(format!("log/{number:010}.seg"))
}

fn try_open(dir: &Path) -> Result<(Store, OpenReport), OpenError> {
    Store::open(dir, &config(), Clock::from_fn(now))
}

fn codes(store: &Store) -> Vec<&'static str> {
    store.fsck(Depth::Deep).unwrap().findings.iter().map(|finding| finding.code).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_log_that_is_gone_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let row = take(&store, &[b'x'; 50_000], "m1@x", &OPEN);
    let before = dump(&store);
    drop(store);
    // As where the log is a file system of its own and that is not mounted.
    let (log, away) = (dir.path().join("log"), dir.path().join("away"));
    std::fs::rename(&log, &away).unwrap();
    for _ in 0..2 {
        let refused = try_open(dir.path()).unwrap_err();
        assert!(refused.to_string().contains("mounted") && !log.exists(), "{refused}");
    }
    // As where the place that it is mounted at is there.
    std::fs::create_dir(&log).unwrap();
    assert!(try_open(dir.path()).unwrap_err().to_string().contains("mounted"));
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    let bodies = dir.path().join("bodies");
    std::fs::rename(&bodies, &away).unwrap();
    let refused = try_open(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("mounted") && !bodies.exists(), "{refused}");
    std::fs::rename(&away, &bodies).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((dump(&store), report.orphans), (before, 0));
    assert_eq!(store.mail(row.mail.unwrap()).unwrap().body.read().unwrap().len(), 50_000);
    assert_sound(&store);
}

#[test]
fn what_the_log_has_lost_the_index_keeps_and_no_number_comes_twice() {
    type Harm = (&'static str, fn(&Path, u64));
    fn cut(dir: &Path, to: u64) {
        OpenOptions::new().write(true).open(log(dir, 1)).unwrap().set_len(to).unwrap();
    }
    let harms: [Harm; 6] = [
        ("the last header changed", |dir, at| write_at(&log(dir, 1), at + 9, b"\x7f")),
        ("the last magic changed", |dir, at| write_at(&log(dir, 1), at, b"\x00")),
        ("the last body changed", |dir, at| write_at(&log(dir, 1), at + 60, b"\x7f\x7f")),
        ("the end is zeros", |dir, at| write_at(&log(dir, 1), at, &[0; 64])),
        ("the end is cut off", |dir, at| cut(dir, at + 40)),
        ("an older log", |dir, _| cut(dir, 0)),
    ];
    for (name, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        take(&store, b"one", "m1@x", &OPEN);
        take(&store, b"two", "m2@x", &append(1));
        let (before, seq) = (dump(&store), store.stats().seq);
        let last = store.0.turn.lock().unwrap().last;
        store.close();
        drop(store);
        harm(dir.path(), last.offset());
        let (len, bytes) =
            (std::fs::metadata(log(dir.path(), 1)).unwrap().len(), std::fs::read(log(dir.path(), 1)).unwrap());
        let (store, report) = open(dir.path());
        assert!(report.log_behind && !report.rebuilt && report.cut_bytes == 0, "{name}: {report:?}");
        assert_eq!(dump(&store), before, "{name}");
        assert_eq!((std::fs::read(log(dir.path(), 1)).unwrap().len() as u64, len), (len, bytes.len() as u64), "{name}");
        let row = take(&store, b"three", "m3@x", &append(1));
        assert!(row.seq > seq && row.mail.unwrap() > last, "{name}: {row:?}");
        let store = assert_rebuilt(store, dir.path());
        assert_eq!(store.ticket(1).unwrap().unwrap().entries, 3, "{name}");
        drop(store);
        let (store, report) = open(dir.path());
        assert!(!report.log_behind && !report.rebuilt && report.spooled == 0, "{name}: {report:?}");
        drop(store);
    }
}

#[test]
fn a_restored_snapshot_that_is_newer_than_the_log_hides_nothing_that_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"one", "m1@x", &OPEN);
    drop(store);
    let old = dir.path().join("old");
    std::fs::copy(log(dir.path(), 1), &old).unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"two", "m2@x", &OPEN);
    store.snapshot().unwrap();
    drop(store);
    // A copy that was made of a running daemon: first the log, later the snapshot, and no index that could be used.
    std::fs::copy(&old, log(dir.path(), 1)).unwrap();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (store, report) = open(dir.path());
    assert!(report.log_behind && report.rebuilt, "{report:?}");
    let row = take(&store, b"three", "m3@x", &OPEN);
    assert_eq!((row.seq, row.ticket), (3, Some(3)));
    assert_rebuilt(store, dir.path());
}

#[test]
fn a_header_that_has_changed_is_no_torn_write() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"filed", "m1@x", &OPEN);
    let receipt = run(spool(&store, b"waits", &["support@a.example"])).unwrap();
    drop(store);
    // Also a whole log whose `format` file came from elsewhere looks like this.
    write_at(&log(dir.path(), 1), receipt.position.offset() + 9, b"\x7f");
    let len = std::fs::metadata(log(dir.path(), 1)).unwrap().len();
    let (store, report) = open(dir.path());
    assert_eq!((report.cut_bytes, report.damaged_spans.len()), (0, 1), "{report:?}");
    assert_eq!(std::fs::metadata(log(dir.path(), 1)).unwrap().len(), len);
    let later = run(spool(&store, b"later", &["support@a.example"])).unwrap();
    assert_eq!((later.position.segment(), next(&store).position), (2, later.position));
    assert_eq!(codes(&store), ["log_damaged"]);
}

#[test]
fn a_file_whose_record_is_lost_is_set_aside_and_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let receipt = run(spool(&store, &[b'x'; 50_000], &["support@a.example"])).unwrap();
    run(spool(&store, b"behind", &["support@a.example"])).unwrap();
    drop(store);
    write_at(&log(dir.path(), 1), receipt.position.offset(), &[0; 32]);
    let (store, report) = open(dir.path());
    assert_eq!((report.set_aside, report.orphans, report.damaged_spans.len()), (1, 0, 1));
    let kept = std::fs::read(dir.path().join("lost").join(receipt.id.to_string())).unwrap();
    assert_eq!(kept, [b'x'; 50_000]);
    drop(store);
    let (_, report) = fsck::offline(dir.path(), &config(), Depth::Normal).unwrap();
    assert!(report.findings.iter().any(|finding| finding.code == "log_damaged"), "{report:?}");
}

#[test]
fn a_segment_that_is_gone_is_missed_and_a_copy_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for n in 0..40 {
        run(spool(&store, &[n; 7000], &["support@a.example"])).unwrap();
    }
    drop(store);
    std::fs::copy(log(dir.path(), 1), dir.path().join("log/1.seg")).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((report.spooled, report.missing_segments.len()), (40, 0));
    drop(store);
    std::fs::remove_file(log(dir.path(), 3)).unwrap();
    let (opened, report) = fsck::offline(dir.path(), &config(), Depth::Normal).unwrap();
    assert_eq!(opened.missing_segments, [3]);
    assert_eq!(report.findings[0].code, "segment_missing");
}

#[test]
fn the_last_mail_of_a_segment_is_handed_out_though_it_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let receipts: Vec<Receipt> =
        (0..12).map(|n| run(spool(&store, &[n; 7000], &["support@a.example"])).unwrap()).collect();
    drop(store);
    let last = receipts.iter().rfind(|receipt| receipt.position.segment() == 1).unwrap();
    write_at(&log(dir.path(), 1), last.position.offset() + 6000, b"\x7f");
    let (store, report) = open(dir.path());
    assert_eq!((report.spooled, report.damaged_spans.len()), (12, 0));
    let mails = store.spooled(12, 1 << 20).unwrap();
    let damaged: Vec<MailId> = mails.iter().filter(|mail| mail.damaged).map(|mail| mail.id).collect();
    assert_eq!(damaged, [last.id]);
}

#[test]
fn an_index_of_another_log_is_not_used() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open(dir.path());
    take(&store, b"one", "m1@x", &OPEN);
    let before = dump(&store);
    drop(store);
    let (store, _) = open(other.path());
    take(&store, b"other", "n1@x", &OPEN);
    store.snapshot().unwrap();
    let snapshot = snapshot::list(other.path()).unwrap().remove(0).1;
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    copy(&other.path().join("index"), &dir.path().join("index"));
    std::fs::copy(&snapshot, dir.path().join(snapshot.file_name().unwrap())).unwrap();
    let (store, report) = open(dir.path());
    assert!(report.rebuilt_because.unwrap().contains("another log"));
    assert_eq!(dump(&store), before);
    assert_sound(&store);
    drop(store);
    assert!(!open(dir.path()).1.rebuilt, "the snapshot of another log is there still");
}

#[test]
fn a_format_file_of_another_directory_changes_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = open(dir.path());
    take(&store, &[b'x'; 50_000], "m1@x", &OPEN);
    let before = dump(&store);
    drop(store);
    drop(open(other.path()));
    let (format, right) = (dir.path().join("format"), dir.path().join("right"));
    std::fs::rename(&format, &right).unwrap();
    let bytes = std::fs::read(log(dir.path(), 1)).unwrap();
    for theirs in [Some(other.path().join("format")), None] {
        let wanted = theirs.map(|theirs| std::fs::copy(theirs, &format).unwrap());
        let left = names(dir.path());
        let refused = try_open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("format"), "{refused}");
        assert_eq!((names(dir.path()), std::fs::read(log(dir.path(), 1)).unwrap()), (left, bytes.clone()));
        if wanted.is_some() {
            std::fs::remove_file(&format).unwrap();
        }
    }
    std::fs::rename(&right, &format).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((dump(&store), report.set_aside, report.rebuilt), (before, 0, false));
}

#[test]
fn an_index_that_another_process_has_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let before = names(dir.path());
    let file = std::fs::File::open(dir.path().join("index/db")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = try_open(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("index"), "{refused}");
    assert_eq!(names(dir.path()), before);
    drop(file);
    assert!(!open(dir.path()).1.rebuilt);
}

#[test]
fn a_rebuild_that_is_cut_short_leaves_one_copy_of_the_old_index() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"one", "m1@x", &OPEN);
    let before = dump(&store);
    drop(store);
    rebuild::ask_for(dir.path(), "the index failed");
    let mut seconds = now();
    for _ in 0..3 {
        seconds = seconds.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
        let clock = Clock::from_fn(move || seconds);
        let (store, _) = Store::open(dir.path(), &config(), clock).unwrap();
        assert_eq!(dump(&store), before);
        drop(store);
        // As if the process had ended just before the mark went.
        std::fs::write(dir.path().join("index.building"), "half-built").unwrap();
    }
    assert_eq!(names(dir.path()).iter().filter(|name| name.starts_with("index.damaged-")).count(), 1);
}

#[test]
fn segments_go_only_on_the_word_of_a_snapshot_that_can_be_used() {
    let other = tempfile::tempdir().unwrap();
    let (store, _) = open(other.path());
    take(&store, b"other", "n1@x", &OPEN);
    store.snapshot().unwrap();
    let foreign = snapshot::list(other.path()).unwrap().remove(0).1;
    drop(store);
    for damaged in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let rows: Vec<EntryRow> = (0..20).map(|n| take(&store, &[b'x'; 7000], &format!("m{n}@x"), &OPEN)).collect();
        store.snapshot().unwrap();
        let snapshot = snapshot::list(dir.path()).unwrap().remove(0).1;
        if damaged {
            write_at(&snapshot, 100, b"\x7f\x7f\x7f");
        } else {
            std::fs::copy(&foreign, &snapshot).unwrap();
        }
        for row in &rows {
            store.erase(&row.id, "kim", now()).unwrap();
        }
        assert!(store.reclaim().unwrap() > 0);
        assert_sound(&assert_rebuilt(store, dir.path()));
    }
}

#[test]
fn an_index_that_the_log_alone_does_not_bring_back_has_a_snapshot_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"one", "m1@x", &OPEN);
    take(&store, b"two", "m2@x", &append(1));
    store.snapshot().unwrap();
    let last = store.0.turn.lock().unwrap().last;
    store.close();
    drop(store);
    write_at(&snapshot::list(dir.path()).unwrap().remove(0).1, 100, b"\x7f\x7f\x7f");
    write_at(&log(dir.path(), 1), last.offset(), &[0; 64]);
    let (store, report) = open(dir.path());
    assert!(report.log_behind, "{report:?}");
    assert_rebuilt(store, dir.path());
}

#[test]
fn a_check_goes_on_past_a_row_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let row = take(&store, b"one", "m1@x", &OPEN);
    let sent = ProbeSent { entry: row.id.clone(), channel: row.channel, at: now(), failed: None };
    store.step::<_, StoreError>(|step| step.probe_sent("relay", sent.clone())).unwrap();
    assert_sound(&store);
    let home = ProbeHome { entry: "nobody".into(), ..ProbeHome::default() };
    let gone = ProbeRow { relay: "relay".into(), sent, home: Some(home) };
    let value = serde_json::to_vec(&gone).unwrap();
    store.step::<_, StoreError>(|step| step.put(keys::probe("relay"), value)).unwrap();
    assert_eq!(codes(&store), ["probe_broken"]);
    let json = [keys::LEDGER, keys::OUTBOX, keys::REPORTS, keys::PROBES, keys::EVENTS, keys::SOURCES, keys::CLOCKS];
    for prefix in json {
        let key = keys::numbered(prefix, 7);
        store.step::<_, StoreError>(|step| step.put(key.clone(), b"{".to_vec())).unwrap();
        assert!(codes(&store).contains(&"row_damaged"), "{}", prefix as char);
        store
            .step(|step| -> Result<(), StoreError> {
                step.delete(key.clone());
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn a_commit_that_the_log_has_lost_is_found_by_a_check() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"one", "m1@x", &OPEN);
    let lost = store.0.turn.lock().unwrap().last;
    take(&store, b"two", "m2@x", &OPEN);
    write_at(&log(dir.path(), 1), lost.offset(), &[0; 32]);
    assert_eq!(codes(&store), ["log_damaged", "commit_missing"]);
    // A snapshot has what the log has not.
    store.snapshot().unwrap();
    assert_eq!(codes(&store), ["log_damaged"]);
    assert_rebuilt(store, dir.path());
}

#[test]
fn ids_go_on_behind_those_that_were_given_though_the_clock_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    for wait in [false, true] {
        let (store, _) = open(dir.path());
        // Given by a process whose clock was a day ahead.
        let id = MailId(MailId::fresh(now()).0 + (86_400_000_000 << 12));
        let body = run(store.body(id, 100).finish()).unwrap();
        let (deliveries, envelope) = (vec![delivery("support@a.example")], Envelope::default());
        let (received_at, origin) = (now(), origin());
        let mail = Incoming { id, received_at, envelope, origin, deliveries, review: false, outgoing: None, body };
        run(store.spool(mail)).unwrap();
        if !wait {
            file(&store, &next(&store), "m@x", &OPEN);
        }
        drop(store);
        open(dir.path());
        assert!(MailId::fresh(now()) > id, "it waits: {wait}");
    }
}

#[test]
fn what_the_store_makes_is_closed_to_others_in_an_open_directory_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(dir.path().join("bodies")).unwrap();
    std::fs::set_permissions(dir.path().join("bodies"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (store, _) = open(dir.path());
    take(&store, &[b'x'; 50_000], "m1@x", &OPEN);
    store.snapshot().unwrap();
    let snapshot = snapshot::list(dir.path()).unwrap().remove(0).1;
    for name in ["log", "bodies", "index", "tmp", snapshot.to_str().unwrap()] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o007, 0, "{name} has {mode:o}");
    }
}

#[test]
fn a_ballast_that_holds_nothing_back_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { ballast_bytes: 1 << 20, ..config() };
    let ballast = dir.path().join("ballast");
    // As a restored backup has it.
    std::fs::File::create(&ballast).unwrap().set_len(1 << 20).unwrap();
    let (_store, _) = Store::open(dir.path(), &config, Clock::from_fn(now)).unwrap();
    assert!(std::fs::metadata(&ballast).unwrap().blocks() * 512 >= 1 << 20);
}

#[test]
fn a_mail_that_took_the_process_down_is_read_again_when_a_person_asks_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let row = take(&store, b"x", "m@x", &QUARANTINE);
    store.step(|step| step.retry(&row.id, "kim", now())).unwrap();
    drop(store);
    for earlier in 0..3 {
        let (store, _) = open(dir.path());
        assert_eq!(store.attempt(next(&store).position), earlier);
    }
    let (store, _) = open(dir.path());
    let mail = next(&store);
    assert_eq!(store.attempt(mail.position), 3);
    let row = file(&store, &mail, "m@x", &QUARANTINE).remove(0);
    // Nothing else came since, and the program is a newer one.
    store.step(|step| step.retry(&row.id, "kim", now())).unwrap();
    assert_eq!((store.suspects(), store.attempt(mail.position)), (false, 0));
    store.attempt_ended(mail.position);
    drop(store);
    let (store, _) = open(dir.path());
    assert!(!store.suspects());
}

#[test]
fn a_mail_that_cannot_be_read_any_more_is_not_tried_again_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let row = take(&store, b"x", "m@x", &QUARANTINE);
    store.step(|step| step.retry(&row.id, "kim", now())).unwrap();
    write_at(&log(dir.path(), 1), row.mail.unwrap().offset(), &[0; 32]);
    assert_eq!(store.spooled(9, 9).unwrap().len(), 0);
    assert_eq!(store.watch().borrow().retries, 0);
    let said = store.entry(&row.id).unwrap().unwrap().trace.pop().unwrap();
    assert!(said.step == "retry" && said.said.contains("cannot be read"), "{said:?}");
}
