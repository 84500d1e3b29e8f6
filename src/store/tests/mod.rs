//! Tests of the store as a whole: what it keeps through crashes, damage and hostile mail.

mod crash;
mod filing;
mod ledger;
mod loss;
mod outbox;
mod random;
mod reports;
mod space;

use std::path::Path;

use jiff::Timestamp;

use super::rows::{EntryRow, PersonRow};
use super::*;
use crate::mail::auth::AuthResults;
use crate::mail::origin::OriginKind;
use crate::mail::{Address, Envelope, Origin, Reason};
use crate::ticket::{Decision, Filing, MatchedBy};

pub fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

pub fn config() -> Config {
    Config {
        segment_bytes: 1 << 16,
        low_water_bytes: 0,
        ballast_bytes: 0,
        inline_bytes: 8 << 10,
        // So little that changes settle all the time.
        index_buffer_bytes: 2 << 10,
        ..Config::default()
    }
}

pub fn open(dir: &Path) -> (Store, OpenReport) {
    Store::open(dir, &config(), Clock::from_fn(now)).unwrap()
}

/// A directory in memory where the machine has one: for tests that open a store hundreds of times.
pub fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub fn origin() -> Origin {
    Origin {
        kind: OriginKind::Smtp,
        peer: "192.0.2.1".into(),
        helo: Some("mx.example.net".into()),
        tls: None,
        client_certificate: None,
        auth: AuthResults::default(),
        remote: None,
    }
}

pub fn delivery(channel: &str) -> Delivery {
    Delivery { channel: address(channel), rcpt_to: vec![address(channel)] }
}

pub async fn spool(store: &Store, bytes: &[u8], channels: &[&str]) -> Result<Receipt, SpoolError> {
    let id = MailId::fresh(now());
    let mut body = store.body(id, 1 << 30);
    for chunk in bytes.chunks(5000) {
        body.push(chunk).await.map_err(|error| SpoolError::Trouble(error.to_string()))?;
    }
    let body = body.finish().await.map_err(|error| SpoolError::Trouble(error.to_string()))?;
    let envelope =
        Envelope { mail_from: Some(address("ann@example.net")), rcpt_to: vec![address("support@a.example")] };
    let deliveries = channels.iter().map(|channel| delivery(channel)).collect();
    store
        .spool(Incoming {
            id,
            received_at: now(),
            envelope,
            origin: origin(),
            deliveries,
            review: false,
            outgoing: None,
            body,
        })
        .await
}

/// Files one spooled mail in each of its channels.
pub fn file(store: &Store, mail: &Spooled, message_id: &str, filing: &Filing) -> Vec<EntryRow> {
    let decision = Decision { filing: filing.clone(), trace: Vec::new() };
    let entry = |delivery| NewEntry {
        mail,
        delivery,
        queue: "Support",
        decision: &decision,
        message_id: Some(message_id),
        content_key: &mail.sha256,
        outline: None,
        subject: "Printer on fire",
        from: PersonRow { name: "Ann".into(), address: "Ann@example.net".into() },
        requester: PersonRow { name: "Ann".into(), address: "Ann@example.net".into() },
        others: vec!["cc@example.net".into()],
        now: now(),
    };
    store
        .step(|step| {
            let rows = mail.deliveries.iter().map(|one| step.file(entry(one))).collect::<Result<Vec<_>, StoreError>>();
            step.filed(mail.position);
            rows
        })
        .unwrap()
}

pub const OPEN: Filing = Filing::Open { related: None, needs_review: false };

pub fn append(ticket: u64) -> Filing {
    Filing::Append { ticket, matched_by: MatchedBy::Reference, reopen: true, needs_review: false }
}

pub fn next(store: &Store) -> Spooled {
    store.spooled(1, 1 << 30).unwrap().remove(0)
}

/// Spools and files one mail.
pub fn take(store: &Store, bytes: &[u8], message_id: &str, filing: &Filing) -> EntryRow {
    run(spool(store, bytes, &["support@a.example"])).unwrap();
    file(store, &next(store), message_id, filing).remove(0)
}

/// Every key of the index.
pub fn dump(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let gather = |key: &[u8], value: &[u8]| {
        all.push((key.to_vec(), value.to_vec()));
        Ok(true)
    };
    store.0.index.walk(&[0], &[255], index::Order::Up, gather).unwrap();
    all
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.path().is_dir() {
            copy(&item.path(), &target)
        } else {
            assert!(std::fs::copy(item.path(), target).is_ok())
        }
    }
}

pub fn assert_sound(store: &Store) {
    let report = store.fsck(Depth::Deep).unwrap();
    assert_eq!(report.findings, Vec::new());
}

/// An index that is lost comes back from the log as it was.
pub fn assert_rebuilt(store: Store, dir: &Path) -> Store {
    let before = dump(&store);
    drop(store);
    std::fs::remove_dir_all(dir.join("index")).unwrap();
    let (store, _) = open(dir);
    assert_eq!(dump(&store), before);
    store
}

pub const QUARANTINE: Filing = Filing::Quarantine { reason: Reason::TooDeep };
