//! Changes of the index that are gathered, written to the log as one record, and read back from it.

use std::collections::BTreeMap;

use super::error::StoreError;
use super::rows::Position;

/// The engine is only safe with values up to this size: larger ones go to files that it never syncs.
pub const MAX_VALUE: usize = 4096;

/// Marks a delete where the length of a value stands.
pub const GONE: u32 = u32::MAX;

/// Bytes before the first change in the body of a record.
pub const HEAD: usize = 8;
/// Bytes before the value of a change, beside its key.
pub const AROUND: usize = 6;

/// Keys with their new values; `None` is a key that goes away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    pub changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Overlay {
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        if value.len() > MAX_VALUE {
            let kind = key.first().copied().unwrap_or_default() as char;
            return Err(StoreError::Misuse(format!("a value of {} bytes under \"{kind}\"", value.len())));
        }
        self.changes.insert(key, Some(value));
        Ok(())
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// Whether a key of this kind changes.
    pub fn changes_under(&self, kind: u8) -> bool {
        self.changes.range(vec![kind]..).next().is_some_and(|(key, _)| key.first() == Some(&kind))
    }

    /// The body of a Commit record. `previous` chains the commits, so that one that is missing is noticed.
    pub fn encode(&self, previous: Position) -> Vec<u8> {
        let size: usize = self.changes.iter().map(|(k, v)| AROUND + k.len() + v.as_ref().map_or(0, Vec::len)).sum();
        let mut out = Vec::with_capacity(HEAD + size);
        out.extend_from_slice(&previous.0.to_le_bytes());
        for (key, value) in &self.changes {
            encode_one(&mut out, key, value.as_deref());
        }
        out
    }

    /// Reads what `encode` wrote; `None` is anything else.
    pub fn decode(body: &[u8]) -> Option<(Position, Self)> {
        let (previous, mut rest) = body.split_at_checked(HEAD)?;
        let previous = Position(u64::from_le_bytes(previous.try_into().ok()?));
        let mut overlay = Self::default();
        while !rest.is_empty() {
            let (key, value, behind) = decode_one(rest)?;
            overlay.changes.insert(key.to_vec(), value.map(<[u8]>::to_vec));
            rest = behind;
        }
        Some((previous, overlay))
    }
}

/// Appends one change: length of key, key, length of value, value.
pub fn encode_one(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&value.map_or(GONE, |v| v.len() as u32).to_le_bytes());
    out.extend_from_slice(value.unwrap_or_default());
}

/// One change and what stands behind it.
type Change<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

pub fn decode_one(bytes: &[u8]) -> Option<Change<'_>> {
    let (len, rest) = bytes.split_at_checked(2)?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(len.try_into().ok()?)))?;
    let (len, rest) = rest.split_at_checked(4)?;
    let len = u32::from_le_bytes(len.try_into().ok()?);
    if len == GONE {
        return Some((key, None, rest));
    }
    let (value, rest) = rest.split_at_checked(len as usize)?;
    Some((key, Some(value), rest))
}
