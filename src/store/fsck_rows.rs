//! Whether every row of the index can be read, and whether what probes have shown leads to mail.

use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::rows::{
    AcknowledgementRow, BrakeRow, ClockRow, EventRow, IdempotencyRow, LedgerRow, OutboxRow, ProbeRow, RecipientRow,
    ReportRow, SourceRow, SuppressionRow,
};
use super::step::parse;
use super::{Inner, keys};

/// Tells of rows that cannot be read; entries and tickets are looked at elsewhere.
pub fn unreadable(store: &Inner, mut tell: impl FnMut(String)) -> Result<(), StoreError> {
    type Reads = fn(&[u8]) -> Result<(), StoreError>;
    fn reads<T: DeserializeOwned>(value: &[u8]) -> Result<(), StoreError> {
        parse::<T>(value).map(drop)
    }
    let kinds: [(&str, &[u8], Reads); 12] = [
        ("event", &[keys::EVENTS], reads::<EventRow>),
        ("mailbox", &[keys::SOURCES], reads::<SourceRow>),
        ("ledger", &[keys::LEDGER], reads::<LedgerRow>),
        ("outbox", &[keys::OUTBOX], reads::<OutboxRow>),
        ("recipient", &[keys::RECIPIENTS], reads::<RecipientRow>),
        ("report", &[keys::REPORTS], reads::<ReportRow>),
        ("acknowledgement", &[keys::ACKNOWLEDGE], reads::<AcknowledgementRow>),
        ("order", &[keys::ORDERS], reads::<IdempotencyRow>),
        ("suppression", &[keys::SUPPRESSED], reads::<SuppressionRow>),
        ("brake", &[keys::BRAKES, b't'], reads::<BrakeRow>),
        ("probe", &[keys::PROBES], reads::<ProbeRow>),
        ("stopped clock", &[keys::CLOCKS], reads::<ClockRow>),
    ];
    for (name, prefix, reads) in kinds {
        store.index.walk_prefix(prefix, |key, value| {
            if let Err(error) = reads(value) {
                tell(format!("{name} {}: {error}", crate::units::hex(&key[prefix.len()..])));
            }
            Ok(true)
        })?;
    }
    Ok(())
}

/// Tells of probes whose mail is not there.
pub fn probes(store: &Inner, mut tell: impl FnMut(String)) -> Result<(), StoreError> {
    store.index.walk_prefix(&[keys::PROBES], |key, value| {
        let row: ProbeRow = parse(value)?;
        let relay = &row.relay;
        if key != keys::probe(relay) {
            tell(format!("the probe of relay {relay} stands where another relay's belongs"));
        }
        for entry in [Some(&row.sent.entry), row.home.as_ref().map(|home| &home.entry)].into_iter().flatten() {
            if store.entry(entry)?.is_none() {
                tell(format!("the probe {entry} of relay {relay} has no entry"));
            }
        }
        Ok(true)
    })
}
