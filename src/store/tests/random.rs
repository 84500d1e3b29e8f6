//! Random lives of a store: whatever happened, an older or lost index comes back the same.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Act {
    Take(u8),
    Spool,
    Reply(u64),
    Quarantine,
    RetryLast,
    Note(u64),
    Close(u64),
    Merge(u64, u64),
    EraseFirst,
    Snapshot,
    Reclaim,
    KeepIndex,
    Reopen,
    LoseIndex,
    OldIndex,
}

fn act() -> impl Strategy<Value = Act> {
    let ticket = || 1u64..6;
    prop_oneof![
        4 => (0u8..6).prop_map(Act::Take),
        2 => Just(Act::Spool),
        2 => ticket().prop_map(Act::Reply),
        1 => Just(Act::Quarantine),
        1 => Just(Act::RetryLast),
        1 => ticket().prop_map(Act::Note),
        1 => ticket().prop_map(Act::Close),
        1 => (ticket(), ticket()).prop_map(|(from, into)| Act::Merge(from, into)),
        2 => Just(Act::EraseFirst),
        1 => Just(Act::Snapshot),
        1 => Just(Act::Reclaim),
        1 => Just(Act::KeepIndex),
        1 => Just(Act::Reopen),
        1 => Just(Act::LoseIndex),
        1 => Just(Act::OldIndex),
    ]
}

fn perform(store: &Store, act: Act) {
    // Many acts ask for what is not there; that they are refused is fine.
    let _: Result<(), StoreError> = match act {
        Act::Take(size) => {
            run(spool(store, &vec![b'x'; usize::from(size) * 3000], &["support@a.example"])).unwrap();
            let mail = next(store);
            file(store, &mail, &mail.id.to_string(), &OPEN);
            Ok(())
        }
        Act::Spool => run(spool(store, b"waits", &["support@a.example"])).map(drop).map_err(|_| StoreError::Full),
        Act::Reply(ticket) if store.ticket(ticket).unwrap().is_some() => {
            run(spool(store, b"reply", &["support@a.example"])).unwrap();
            file(store, &next(store), "reply@x", &append(ticket));
            Ok(())
        }
        Act::Quarantine => {
            run(spool(store, b"deep", &["support@a.example"])).unwrap();
            file(store, &next(store), "deep@x", &QUARANTINE);
            Ok(())
        }
        Act::RetryLast => {
            let rows = store.entries(0, 1000).unwrap();
            let last = rows.iter().rfind(|row| row.filing == "quarantined").map(|row| row.id.clone());
            last.map_or(Ok(()), |id| store.step(|step| step.retry(&id, "kim", now()).map(drop)))
        }
        Act::Note(ticket) => store.step(|step| step.note(ticket, "kim", "noted", now()).map(drop)),
        Act::Close(ticket) => store.step(|step| step.close(ticket, "kim", now()).map(drop)),
        Act::Merge(from, into) => store.step(|step| step.merge(from, into, "kim", now()).map(drop)),
        Act::EraseFirst => {
            let rows = store.entries(0, 1000).unwrap();
            let first = rows.iter().find(|row| row.mail.is_some()).map(|row| row.id.clone());
            first.map_or(Ok(()), |id| store.erase(&id, "kim", now()))
        }
        Act::Snapshot => store.snapshot().map(drop),
        Act::Reclaim => store.reclaim().map(drop),
        _ => Ok(()),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_log_knows_it(acts in proptest::collection::vec(act(), 1..40)) {
        let dir = quick_dir();
        let (index, old) = (dir.path().join("index"), dir.path().join("old"));
        let (mut store, _) = open(dir.path());
        for act in acts {
            perform(&store, act);
            if !matches!(act, Act::KeepIndex | Act::Reopen | Act::LoseIndex | Act::OldIndex) {
                continue;
            }
            let before = (dump(&store), store.spool_state());
            drop(store);
            match act {
                Act::KeepIndex => {
                    let _ = std::fs::remove_dir_all(&old);
                    copy(&index, &old);
                }
                Act::LoseIndex => std::fs::remove_dir_all(&index).unwrap(),
                Act::OldIndex if old.exists() => {
                    std::fs::remove_dir_all(&index).unwrap();
                    copy(&old, &index);
                }
                _ => {}
            }
            let (opened, report) = open(dir.path());
            prop_assert_eq!(report.missing_commits, 0);
            prop_assert_eq!((dump(&opened), opened.spool_state()), before);
            store = opened;
        }
        let report = store.fsck(Depth::Deep).unwrap();
        prop_assert_eq!(report.findings, Vec::new());
    }
}
