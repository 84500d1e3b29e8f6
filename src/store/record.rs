//! The shape of one record in the log: a fixed header, a meta part, a body, padding to 32 bytes.
//!
//! Headers stand on 32-byte boundaries, so that none crosses a disk sector, and their checksum is salted with a number
//! that only this data directory has: bytes inside a mail can never pass for a record when a damaged log is searched.

use super::rows::Position;

/// The size of a header, and the boundary that every record begins on.
pub const ALIGN: usize = 32;

const MAGIC: [u8; 2] = *b"Tg";
const VERSION: u8 = 1;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mail = 1,
    Refused = 2,
    Commit = 3,
    /// What is left of a mail that was erased: its header, so that the next record is found.
    Erased = 4,
}

/// A record that waits to be given its place.
#[derive(Debug)]
pub struct Draft {
    pub kind: Kind,
    pub meta: Vec<u8>,
    pub body: Vec<u8>,
    meta_crc: u32,
    body_crc: u32,
}

impl Draft {
    /// Takes the parts and computes their checksums.
    pub fn new(kind: Kind, meta: Vec<u8>, body: Vec<u8>) -> Self {
        let (meta_crc, body_crc) = (crc32fast::hash(&meta), crc32fast::hash(&body));
        Self { kind, meta, body, meta_crc, body_crc }
    }

    /// The header for the place that the log has chosen.
    pub fn header(&self, position: Position) -> Header {
        Header {
            kind: self.kind,
            meta_len: self.meta.len() as u32,
            body_len: self.body.len() as u32,
            position,
            meta_crc: self.meta_crc,
            body_crc: self.body_crc,
        }
    }

    /// How many bytes the record takes, padding included.
    pub fn span(&self) -> u64 {
        span(self.meta.len() as u64, self.body.len() as u64)
    }
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub meta_len: u32,
    pub body_len: u32,
    pub position: Position,
    pub meta_crc: u32,
    pub body_crc: u32,
}

impl Header {
    /// The 32 bytes of it.
    pub fn to_bytes(self, salt: u64) -> [u8; ALIGN] {
        let mut bytes = [0u8; ALIGN];
        bytes[0..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[3] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.meta_len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.meta_crc.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = salted(&bytes[..28], salt);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header that must belong at `position`; `None` is anything else.
    pub fn read(bytes: &[u8; ALIGN], position: Position, salt: u64) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if !Self::begins(bytes) || word(28) != salted(&bytes[..28], salt) {
            return None;
        }
        let kind =
            [Kind::Mail, Kind::Refused, Kind::Commit, Kind::Erased].into_iter().find(|k| *k as u8 == bytes[3])?;
        let written = u64::from(word(12)) | u64::from(word(16)) << 32;
        (written == position.0).then_some(Self {
            kind,
            meta_len: word(4),
            body_len: word(8),
            position,
            meta_crc: word(20),
            body_crc: word(24),
        })
    }

    /// Whether bytes begin as every header does.
    pub fn begins(bytes: &[u8; ALIGN]) -> bool {
        bytes[0..2] == MAGIC && bytes[2] == VERSION
    }

    /// How many bytes the record takes, padding included.
    pub fn span(&self) -> u64 {
        span(u64::from(self.meta_len), u64::from(self.body_len))
    }
}

fn span(meta: u64, body: u64) -> u64 {
    (ALIGN as u64 + meta + body).next_multiple_of(ALIGN as u64)
}

fn salted(bytes: &[u8], salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

impl Position {
    pub(crate) fn new(segment: u32, offset: u64) -> Self {
        Self(u64::from(segment) << 32 | offset)
    }

    pub(crate) fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn offset(self) -> u64 {
        self.0 & 0xffff_ffff
    }
}
