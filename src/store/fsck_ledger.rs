//! Whether the ledger of every mailbox agrees with entries, owed labels and the rows of the mailboxes.

use std::collections::BTreeSet;

use super::error::StoreError;
use super::rows::{EntryRow, LedgerRow, LedgerState};
use super::step::parse;
use super::{Inner, index, keys};

/// What a key of ledger or intents has behind its first byte: the channel's short hash, UIDVALIDITY, UID.
const CHANNEL: std::ops::Range<usize> = 1..9;
const UID: std::ops::Range<usize> = 13..17;

/// Tells of every row that contradicts an entry, an intent, or the row of its mailbox.
pub fn faults(store: &Inner, mut tell: impl FnMut(String)) -> Result<(), StoreError> {
    let mut strangers: BTreeSet<Vec<u8>> = BTreeSet::new();
    for prefix in [keys::LEDGER, keys::INTENTS] {
        store.index.walk_prefix(&[prefix], |key, value| {
            let channel = key.get(CHANNEL).unwrap_or_default();
            let source = [&[keys::SOURCES][..], channel].concat();
            if !strangers.contains(channel) && store.index.get(&source)?.is_none() {
                strangers.insert(channel.to_vec());
                let what = if prefix == keys::LEDGER { "rows of a ledger" } else { "labels that are owed" };
                tell(format!("there are {what}, such as for uid {}, of a mailbox that has no row itself", uid(key)));
            }
            if prefix == keys::LEDGER {
                let intent = [&[keys::INTENTS][..], key.get(1..).unwrap_or_default()].concat();
                let owed = store.index.get(&intent)?.is_some();
                let row: LedgerRow = parse(value)?;
                if let Some(said) = contradiction(&row, entry(store, &row)?.as_ref(), owed) {
                    tell(format!("the ledger has uid {} as {}, but {said}", row.uid, row.state.as_str()));
                }
            }
            Ok(true)
        })?;
    }
    Ok(())
}

fn entry(store: &Inner, row: &LedgerRow) -> Result<Option<EntryRow>, StoreError> {
    let Some(mail) = &row.mail else { return Ok(None) };
    let Some(seq) = store.index.get(&keys::id(mail))? else { return Ok(None) };
    store.index.get(&keys::entry(index::number(&seq)))?.map(|value| parse(&value)).transpose()
}

/// What speaks against a row. Pure.
fn contradiction(row: &LedgerRow, entry: Option<&EntryRow>, owed: bool) -> Option<String> {
    let failed = entry.map(|entry| matches!(entry.filing.as_str(), "rejected" | "quarantined"));
    match (row.state, failed) {
        (LedgerState::Imported, Some(true)) | (LedgerState::Rejected, Some(false)) => {
            return Some(format!("its entry was {}", entry.map_or("", |entry| entry.filing.as_str())));
        }
        (LedgerState::Imported | LedgerState::Rejected, _) => {}
        (_, Some(_)) => return Some("it has an entry".into()),
        _ => {}
    }
    match (row.labelled, owed) {
        (true, true) => Some("its label is set and owed at once".into()),
        (false, false) if entry.is_some() && !row.label_refused => Some("its label is neither set nor owed".into()),
        _ => None,
    }
}

fn uid(key: &[u8]) -> u32 {
    key.get(UID).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}
