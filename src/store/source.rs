//! What is kept of a channel's mailbox: whether it is wanted, where pulling stopped, what its sweeps have counted.

use jiff::Timestamp;

use super::error::StoreError;
use super::rows::{EventRow, SourceRow};
use super::step::{Step, json, parse};
use super::{Inner, cut, keys};
use crate::mail::Address;

impl Inner {
    pub fn source(&self, channel: &Address) -> Result<Option<SourceRow>, StoreError> {
        self.index.get(&keys::source(channel))?.map(|value| parse(&value)).transpose()
    }

    pub fn sources(&self) -> Result<Vec<SourceRow>, StoreError> {
        let mut rows = Vec::new();
        self.index.walk_prefix(&[keys::SOURCES], |_, value| {
            rows.push(parse(value)?);
            Ok(true)
        })?;
        Ok(rows)
    }

    pub fn default_channel(&self) -> Result<Option<String>, StoreError> {
        Ok(self.index.get(keys::DEFAULT)?.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }
}

impl Step<'_> {
    /// The row of a channel's mailbox.
    pub fn source(&self, channel: &Address) -> Result<Option<SourceRow>, StoreError> {
        self.get(&keys::source(channel))?.map(|value| parse(&value)).transpose()
    }

    /// Writes the row of a channel's mailbox.
    pub fn put_source(&mut self, channel: &Address, row: &SourceRow) -> Result<(), StoreError> {
        self.put(keys::source(channel), json(row)?)
    }

    /// Writes the row of a channel's mailbox, but for what a person wants of it: that may have changed meanwhile, and is
    /// theirs to say. Returns the row as it stands now.
    pub fn merge_source(&mut self, channel: &Address, row: SourceRow) -> Result<SourceRow, StoreError> {
        let current = self.source(channel)?.unwrap_or_else(|| row.clone());
        let row = SourceRow { wanted: current.wanted, since: current.since, ..row };
        self.put_source(channel, &row)?;
        Ok(row)
    }

    /// Makes a channel the default one, for mail to the postmaster.
    pub fn set_default_channel(&mut self, channel: &Address, author: &str, now: Timestamp) -> Result<(), StoreError> {
        self.put(keys::DEFAULT.to_vec(), channel.to_string().into_bytes())?;
        self.connection_event(channel, "default_channel_changed", "this is the default channel now", Some(author), now)
    }

    /// Tells in the feed of changes what happened to a channel's connection.
    pub fn connection_event(
        &mut self,
        channel: &Address,
        kind: &str,
        said: &str,
        author: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.put_event(&mut EventRow {
            at: now,
            kind: kind.to_owned(),
            author: author.map(str::to_owned),
            channel: Some(channel.to_string()),
            said: Some(cut::text(said, cut::SAID)),
            ..EventRow::default()
        })
    }
}
