//! Probes of relays: that one was sent, that it came home and how, that it will not (B7).

use jiff::Timestamp;

use super::cut;
use super::error::StoreError;
use super::overlay::MAX_VALUE;
use super::rows::{EntryRow, EventRow, ProbeRow, ProbeSent, TraceRow};
use super::step::{Step, json, parse};
use super::{Position, Store, keys};

/// The most of a value that came instead, and of a report.
const GOT: usize = 160;
const SAID: usize = 400;

impl Store {
    /// What probes have shown of a relay.
    pub fn probe(&self, relay: &str) -> Result<Option<ProbeRow>, StoreError> {
        self.0.index.get(&keys::probe(relay))?.map(|value| parse(&value)).transpose()
    }
}

impl Step<'_> {
    /// What probes have shown of a relay.
    pub fn probe(&self, relay: &str) -> Result<Option<ProbeRow>, StoreError> {
        self.get(&keys::probe(relay))?.map(|value| parse(&value)).transpose()
    }

    /// A probe has its place in the outbox.
    pub fn probe_sent(&mut self, relay: &str, sent: ProbeSent) -> Result<(), StoreError> {
        let home = self.probe(relay)?.and_then(|row| row.home);
        self.put_probe(ProbeRow { relay: relay.to_owned(), sent, home })
    }

    /// A probe came home, or was reported not to: its row, a step of the trace of its entry, and word for the feed.
    pub fn probed(&mut self, row: ProbeRow, entry: &EntryRow, said: &str, now: Timestamp) -> Result<(), StoreError> {
        self.put_probe(row)?;
        self.trace(entry.seq, "probe", said)?;
        self.put_event(&mut EventRow {
            at: now,
            kind: "relay_probed".into(),
            entry: Some(entry.id.clone()),
            channel: Some(entry.channel.clone()),
            said: Some(cut::text(said, cut::SAID)),
            ..EventRow::default()
        })
    }

    /// Adds a step to the trace of an entry, unless it stands there already.
    pub fn trace(&mut self, seq: u64, step: &str, said: &str) -> Result<(), StoreError> {
        let Some(mut row) = self.entry_at(seq)? else { return Ok(()) };
        let said = cut::text(said, SAID);
        if row.trace.iter().any(|known| known.step == step && known.said == said) {
            return Ok(());
        }
        row.trace.push(TraceRow { step: step.to_owned(), said });
        self.put_entry(&mut row)
    }

    /// The beginning of a mail in the log, so many bytes at most; `None` where it cannot be read any more.
    pub fn head(&self, position: Position, most: usize) -> Option<Vec<u8>> {
        let stored = self.store.mail(position).ok()?;
        stored.body.head(most).ok().map(std::borrow::Cow::into_owned)
    }

    fn put_probe(&mut self, mut row: ProbeRow) -> Result<(), StoreError> {
        let value = fitted(&mut row)?;
        self.put(keys::probe(&row.relay), value)
    }
}

/// The row as it lies on disk, cut until it fits: what came instead goes first, then the fields at the end.
fn fitted(row: &mut ProbeRow) -> Result<Vec<u8>, StoreError> {
    row.sent.failed = row.sent.failed.as_deref().map(|said| cut::text(said, SAID));
    if let Some(home) = &mut row.home {
        for field in &mut home.fields {
            field.got = field.got.as_deref().map(|got| cut::text(got, GOT));
        }
    }
    loop {
        let value = serde_json::to_vec(row).map_err(|error| StoreError::Misuse(error.to_string()))?;
        let Some(home) = row.home.as_mut().filter(|_| value.len() > MAX_VALUE) else { return json(row) };
        if let Some(field) = home.fields.iter_mut().rev().find(|field| field.got.is_some()) {
            field.got = None;
        } else if home.fields.pop().is_none() {
            return json(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows::{FieldRow, ProbeHome};

    #[test]
    fn a_row_fits_whatever_the_fields_are_called() {
        let field =
            |n: usize| FieldRow { name: format!("X-{n:068}"), fate: "changed".into(), got: Some("\u{1}".repeat(120)) };
        for (count, whole) in [(3, true), (70, false)] {
            let home = ProbeHome { fields: (0..count).map(field).collect(), ..ProbeHome::default() };
            let mut row = ProbeRow { relay: "r".repeat(40), home: Some(home), ..ProbeRow::default() };
            row.sent.failed = Some("x".repeat(9_000));
            let value = fitted(&mut row).unwrap();
            assert!(value.len() <= MAX_VALUE, "{}", value.len());
            let fields = row.home.unwrap().fields;
            assert_eq!(fields.len() == count, whole);
            assert!(fields.len() > 2 && fields[0].name.len() == 70);
        }
    }

    #[test]
    fn what_a_probe_did_not_carry_is_neither_lost_nor_kept() {
        let field = |name: &str, fate: &str| FieldRow { name: name.into(), fate: fate.into(), got: None };
        let fields =
            vec![field("X-A", "kept"), field("x-b", "folded"), field("X-C", "changed"), field("X-D", "dropped")];
        let home = ProbeHome { fields, ..ProbeHome::default() };
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(home.lost(&names(&["X-a", "X-B", "X-c", "X-D", "X-E"])), ["X-c", "X-D"]);
        let table: [(&[&str], bool); 4] =
            [(&["x-a", "X-B"], true), (&["X-A", "X-C"], false), (&["X-E"], false), (&[], true)];
        for (list, want) in table {
            assert_eq!(home.keeps(&names(list)), want, "{list:?}");
        }
    }
}
