//! Segments that fill, space that is given back, and disks that are full.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

#[test]
fn a_new_data_directory_is_closed_to_others() {
    let mode = |dir: &Path| std::fs::metadata(dir).unwrap().permissions().mode() & 0o027;
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("over").join("data");
    drop(open(&dir));
    assert_eq!(mode(&dir), 0);
    // What the operator has chosen stays.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    drop(open(&dir));
    assert_eq!(mode(&dir), 0o005);
}

#[test]
fn erasing_gives_space_back_and_empty_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let rows: Vec<EntryRow> = (0..40).map(|n| take(&store, &[b'x'; 7000], &format!("m{n}@x"), &OPEN)).collect();
    let large = take(&store, &[b'y'; 50_000], "large@x", &OPEN);
    let first = dir.path().join("log/0000000001.seg");
    let blocks = std::fs::metadata(&first).unwrap().blocks();
    assert!(store.0.segments.list().unwrap().len() > 3);
    for row in &rows {
        store.erase(&row.id, "kim", now()).unwrap();
    }
    store.erase(&large.id, "kim", now()).unwrap();
    assert!(std::fs::metadata(&first).unwrap().blocks() < blocks);
    let row = store.entry(&rows[0].id).unwrap().unwrap();
    assert_eq!(row.mail, None);
    assert!(matches!(store.mail(rows[0].mail.unwrap()), Err(StoreError::NotPossible(_))));
    assert_sound(&store);
    assert!(store.reclaim().unwrap() >= 3);
    assert!(!first.exists());
    take(&store, b"x", "later@x", &OPEN);
    assert_sound(&store);
    let before = dump(&store);
    drop(store);
    // What is left is a snapshot and the log behind it.
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (store, report) = open(dir.path());
    assert!(report.rebuilt && report.missing_commits == 0);
    assert_eq!(dump(&store), before);
    assert_sound(&store);
}

#[test]
fn below_the_low_water_mark_no_mail_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { low_water_bytes: u64::MAX, ..config() };
    let (store, _) = Store::open(dir.path(), &config, Clock::from_fn(now)).unwrap();
    assert_eq!(run(spool(&store, b"x", &["support@a.example"])), Err(SpoolError::Full));
    assert_eq!(store.stats().full, 1);
}

#[test]
fn a_closed_store_answers_and_keeps_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    take(&store, b"x", "m@x", &OPEN);
    store.close();
    assert!(matches!(run(spool(&store, b"x", &["support@a.example"])), Err(SpoolError::Trouble(_))));
    let note: Result<_, StoreError> = store.step(|step| step.note(1, "kim", "x", now()));
    assert!(matches!(note, Err(StoreError::Broken(_))));
    assert_eq!(store.entries(0, 10).unwrap().len(), 1);
}

#[test]
fn writers_share_syncs_and_all_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { spool(&store, &[n as u8; 2000], &["support@a.example"]).await.unwrap() })
            })
            .collect();
        for task in tasks {
            let receipt = task.await.unwrap();
            assert_eq!(store.mail(receipt.position).unwrap().meta.id, receipt.id);
        }
    });
    assert_eq!(store.spool_state().depth, 200);
    assert_eq!(store.spooled(1000, 10_000).unwrap().len(), 5);
    let stats = store.stats();
    assert!(stats.records == 200 && stats.segments > 5, "{stats:?}");
}
