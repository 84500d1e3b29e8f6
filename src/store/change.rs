//! One change of the index, between the commit that made it and the engine.
//!
//! Keys and short values are in memory. Long values stay in the record of their commit, where they are read when somebody
//! asks for them or the engine takes them: rows of entries and tickets are most of what a commit holds.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::StoreError;
use super::overlay::{self, GONE, Overlay};

/// Values of this many bytes and more stay in the log until they are asked for.
const LONG: usize = 200;
/// Bytes that stand for a long value: where it lies in the body of the commit's record, and its checksum.
const FAR: usize = 8;
/// What a commit takes in memory beside the bytes that are kept of it.
const AROUND_A_COMMIT: usize = 96;

/// Where the body of a commit's record lies in the log. The file stays open, so that its segment may go meanwhile.
#[derive(Clone, Debug)]
pub struct Written {
    pub segment: Arc<File>,
    pub offset: u64,
}

/// A key with its new value. Changes compare by their keys.
///
/// What is kept of a commit stands in one piece of memory, which goes back as one: thousands of small pieces that live
/// for seconds would leave holes between those that live for a moment, and take more memory than what they hold.
#[derive(Clone, Debug)]
pub struct Change {
    commit: Arc<Commit>,
    /// The place of the key, behind which a short value stands.
    at: u32,
    /// The length of the value.
    value: u32,
    key: u16,
}

/// What is kept of a commit.
#[derive(Debug)]
struct Commit {
    /// Keys with what stands behind them: a short value, or where a long one lies.
    bytes: Vec<u8>,
    /// `None` where all values are kept.
    written: Option<Written>,
}

impl Change {
    /// The changes of a commit and its mark, which its record has not, with the memory that is kept of them.
    pub fn of(overlay: &Overlay, mark: (&[u8], &[u8]), written: Option<Written>) -> (Vec<Self>, usize) {
        let mut bytes = Vec::new();
        let mut places = Vec::with_capacity(overlay.changes.len() + 1);
        let mut offset = overlay::HEAD;
        // Lengths and offsets fit as they do in the commit's record.
        let changes = overlay.changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        for (key, value) in changes.chain([(mark.0, Some(mark.1))]) {
            let far = offset + overlay::AROUND + key.len();
            let len = value.map_or(0, <[u8]>::len);
            places.push((bytes.len() as u32, value.map_or(GONE, |_| len as u32), key.len() as u16));
            bytes.extend_from_slice(key);
            match value {
                Some(value) if written.is_some() && len >= LONG => {
                    bytes.extend_from_slice(&(far as u32).to_le_bytes());
                    bytes.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
                }
                value => bytes.extend_from_slice(value.unwrap_or_default()),
            }
            offset = far + len;
        }
        bytes.shrink_to_fit();
        let memory = bytes.len() + AROUND_A_COMMIT;
        let commit = Arc::new(Commit { bytes, written });
        let change = |(at, value, key)| Self { commit: Arc::clone(&commit), at, value, key };
        (places.into_iter().map(change).collect(), memory)
    }

    /// Bytes of key and value, wherever they are.
    pub fn weight(&self) -> u64 {
        u64::from(self.key) + if self.value == GONE { 0 } else { u64::from(self.value) }
    }

    pub fn key(&self) -> &[u8] {
        &self.commit.bytes[self.at as usize..][..usize::from(self.key)]
    }

    /// `None` is a key that goes away.
    pub fn value(&self) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        let behind = &self.commit.bytes[self.at as usize + usize::from(self.key)..];
        match (&self.commit.written, self.value) {
            (_, GONE) => Ok(None),
            (Some(written), len) if len as usize >= LONG => {
                far_value(written, &behind[..FAR], len as usize).map(|value| Some(value.into()))
            }
            (_, len) => Ok(Some(behind[..len as usize].into())),
        }
    }
}

/// Reads a long value back.
fn far_value(written: &Written, far: &[u8], len: usize) -> Result<Vec<u8>, StoreError> {
    let [offset, crc] = [&far[..4], &far[4..]].map(|half| half.try_into().map_or(0, u32::from_le_bytes));
    let mut value = vec![0; len];
    // The commit was synced: a new start applies it from there, or finds that the disk has lost it and says so.
    let broken = |said: &str| StoreError::Broken(format!("a commit in the log cannot be read back: {said}"));
    written
        .segment
        .read_exact_at(&mut value, written.offset + u64::from(offset))
        .map_err(|e| broken(&e.to_string()))?;
    if crc32fast::hash(&value) == crc { Ok(value) } else { Err(broken("its bytes have changed on the disk")) }
}

impl Borrow<[u8]> for Change {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl Ord for Change {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

impl PartialOrd for Change {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Change {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Change {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows::Position;

    #[test]
    fn long_values_are_read_back_from_the_log_and_checked() {
        let long = vec![b'x'; LONG];
        let mut changes = Overlay::default();
        for (key, value) in
            [("a", vec![b'1']), ("b", long.clone()), ("d", [&long[..], b"y"].concat()), ("e", long[1..].to_vec())]
        {
            changes.put(key.into(), value).unwrap();
        }
        changes.delete(b"c".to_vec());
        let mut record = b"header".to_vec();
        record.extend(changes.encode(Position(0)));
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&record, 0).unwrap();
        let written = Written { segment: Arc::new(file.try_clone().unwrap()), offset: 6 };
        let (found, memory) = Change::of(&changes, (b"b1", b"mark"), Some(written));
        let value = |key: &[u8]| {
            let change = found.iter().find(|change| change.key() == key).unwrap();
            change.value().map(|value| value.map(Cow::into_owned))
        };
        for (key, wanted) in &changes.changes {
            assert_eq!(value(key), Ok(wanted.clone()));
        }
        assert_eq!(value(b"b1"), Ok(Some(b"mark".to_vec())));
        assert!(memory < LONG + 200 && found.iter().map(Change::weight).sum::<u64>() > 3 * LONG as u64);
        let at = record.iter().rposition(|byte| *byte == b'y').unwrap();
        file.write_all_at(b"Y", at as u64).unwrap();
        assert!(matches!(value(b"d"), Err(StoreError::Broken(said)) if said.contains("changed on the disk")));
        assert_eq!(value(b"b"), Ok(Some(long)));
    }
}
