//! The files of the log: finding, making, reading, punching and removing segments.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::change::Written;
use super::dirs::sync_dir;
use super::record::{ALIGN, Header, Kind};
use super::rows::Position;

/// How many segments stay open for reading.
const OPEN_HANDLES: usize = 16;

/// The segments of one data directory.
#[derive(Debug)]
pub struct Segments {
    dir: PathBuf,
    pub salt: u64,
    handles: Mutex<BTreeMap<u32, Arc<File>>>,
}

/// One record as it was read.
#[derive(Debug)]
pub struct Record {
    pub header: Header,
    pub meta: Vec<u8>,
    pub body: Vec<u8>,
    /// Whether the body has the checksum that it was written with.
    pub body_intact: bool,
}

/// One thing that a scan comes across.
#[derive(Debug)]
pub enum Found {
    Record(Record),
    /// Bytes that are no record; `tail` says that nothing readable follows in this segment.
    Bad {
        position: Position,
        bytes: u64,
        tail: bool,
    },
}

/// How far a segment reaches, and whether another one has been begun behind it.
#[derive(Clone, Copy)]
struct Extent {
    len: u64,
    sealed: bool,
}

impl Segments {
    pub fn new(dir: PathBuf, salt: u64) -> Self {
        Self { dir, salt, handles: Mutex::default() }
    }

    /// Stands for this log in what is made from it.
    pub fn mark(&self) -> Vec<u8> {
        let digest = Sha256::new().chain_update("log").chain_update(self.salt.to_le_bytes()).finalize();
        digest[..8].to_vec()
    }

    /// The numbers of the segments that exist, in order.
    pub fn list(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for item in std::fs::read_dir(&self.dir)? {
            let path = item?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".seg"));
            // A copy under a name such as `1.seg` must not pass for the segment itself.
            numbers.extend(name.and_then(|name| name.parse().ok()).filter(|number| self.path(*number) == path));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:010}.seg"))
    }

    /// Makes a segment, and makes its name durable before anything is written into it.
    pub fn create(&self, number: u32) -> io::Result<Arc<File>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path(number))?;
        sync_dir(&self.dir)?;
        let file = Arc::new(file);
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).insert(number, file.clone());
        Ok(file)
    }

    /// A handle of a segment, kept open for the next reader.
    pub fn open(&self, number: u32) -> io::Result<Arc<File>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = handles.get(&number) {
            return Ok(file.clone());
        }
        let path = self.path(number);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|error| about(&path, &error))?;
        let file = Arc::new(file);
        while handles.len() >= OPEN_HANDLES {
            handles.pop_first();
        }
        handles.insert(number, file.clone());
        Ok(file)
    }

    pub fn remove(&self, number: u32) -> io::Result<()> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        std::fs::remove_file(self.path(number))?;
        sync_dir(&self.dir)
    }

    /// Bytes of all segments, holes not counted.
    pub fn allocated(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let blocks = self.list()?.into_iter().map(|n| std::fs::metadata(self.path(n)).map_or(0, |m| m.blocks()));
        Ok(blocks.sum::<u64>() * 512)
    }

    /// Where the body of a record without meta lies; `None` where its segment cannot be opened now.
    pub fn body(&self, position: Position) -> Option<Written> {
        let segment = self.open(position.segment()).ok()?;
        Some(Written { segment, offset: position.offset() + ALIGN as u64 })
    }

    /// The header at a position; `None` where there is none.
    pub fn header(&self, position: Position) -> io::Result<Option<Header>> {
        let file = self.open(position.segment())?;
        self.header_in(&file, position)
    }

    /// The record at a position; `None` where there is none whose header and meta are whole.
    pub fn read(&self, position: Position) -> io::Result<Option<Record>> {
        let file = self.open(position.segment())?;
        self.read_in(&file, position)
    }

    /// Turns a mail's record into an erased one: first the header, then the hole, both synced.
    pub fn erase(&self, position: Position) -> io::Result<()> {
        let file = self.open(position.segment())?;
        let Some(header) = self.header_in(&file, position)? else { return Ok(()) };
        if header.kind != Kind::Erased {
            let erased = Header { kind: Kind::Erased, ..header };
            file.write_all_at(&erased.to_bytes(self.salt), position.offset())?;
            file.sync_data()?;
        }
        let (start, len) = (position.offset() + ALIGN as u64, header.span() - ALIGN as u64);
        if len > 0 && !punched(&file, start, len) {
            zero(&file, start, len)?;
        }
        file.sync_data()
    }

    /// Goes through a segment from an offset and hands each record, and each bad stretch, to `visit`.
    pub fn scan<E: From<io::Error>>(
        &self,
        number: u32,
        from: u64,
        mut visit: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let file = self.open(number)?;
        let segment =
            Extent { len: file.metadata()?.len(), sealed: self.list()?.last().is_some_and(|last| *last > number) };
        let len = segment.len;
        let mut offset = from;
        while offset < len {
            let position = Position::new(number, offset);
            let whole = self.whole_in(&file, position, segment);
            match whole.map_err(|error| about(&self.path(number), &error))? {
                Some(record) => {
                    offset += record.header.span();
                    visit(Found::Record(record))?;
                }
                None => {
                    let next = self.resync(&file, number, offset + ALIGN as u64, segment)?;
                    let bytes = next.unwrap_or(len) - offset;
                    visit(Found::Bad { position, bytes, tail: next.is_none() })?;
                    offset += bytes;
                }
            }
        }
        Ok(())
    }

    /// A record that can be gone past: whole, or with a changed body but a good header behind it.
    fn whole_in(&self, file: &File, position: Position, segment: Extent) -> io::Result<Option<Record>> {
        let Some(record) = self.read_in(file, position)? else { return Ok(None) };
        let next = position.offset() + record.header.span();
        if next > segment.len {
            return Ok(None);
        }
        if record.body_intact || record.header.kind == Kind::Erased {
            return Ok(Some(record));
        }
        // The last record of a segment that is written no more was synced before the next one was begun.
        let ends = next == segment.len && segment.sealed;
        let follows = ends || self.header_in(file, Position::new(position.segment(), next))?.is_some();
        Ok(follows.then_some(record))
    }

    /// Whether the bytes here were a header once: a header never crosses a disk sector, so one that is only half there
    /// was not torn by a crash but has changed since it was written.
    pub fn is_changed_header(&self, position: Position) -> io::Result<bool> {
        let mut bytes = [0u8; ALIGN];
        let whole = read_some(&*self.open(position.segment())?, &mut bytes, position.offset())? == ALIGN;
        Ok(whole && Header::read(&bytes, position, self.salt).is_none() && Header::begins(&bytes))
    }

    /// The offset of the next good record at or after `from`.
    fn resync(&self, file: &File, number: u32, from: u64, segment: Extent) -> io::Result<Option<u64>> {
        let len = segment.len;
        let mut offset = from.next_multiple_of(ALIGN as u64);
        let mut chunk = vec![0u8; 1 << 16];
        while offset + ALIGN as u64 <= len {
            let got = read_some(file, &mut chunk, offset)?;
            for (index, bytes) in chunk[..got].as_chunks::<ALIGN>().0.iter().enumerate() {
                let position = Position::new(number, offset + (index * ALIGN) as u64);
                if Header::read(bytes, position, self.salt).is_some()
                    && self.whole_in(file, position, segment)?.is_some()
                {
                    return Ok(Some(position.offset()));
                }
            }
            let step = got / ALIGN * ALIGN;
            if step == 0 {
                break;
            }
            offset += step as u64;
        }
        Ok(None)
    }

    fn header_in(&self, file: &File, position: Position) -> io::Result<Option<Header>> {
        let mut bytes = [0u8; ALIGN];
        if read_some(file, &mut bytes, position.offset())? < ALIGN {
            return Ok(None);
        }
        Ok(Header::read(&bytes, position, self.salt))
    }

    fn read_in(&self, file: &File, position: Position) -> io::Result<Option<Record>> {
        let Some(header) = self.header_in(file, position)? else { return Ok(None) };
        if header.kind == Kind::Erased {
            return Ok(Some(Record { header, meta: Vec::new(), body: Vec::new(), body_intact: true }));
        }
        // The header's checksum holds, so the lengths are those that were written; only a cut file can be shorter.
        let mut meta = vec![0u8; header.meta_len as usize];
        let mut body = vec![0u8; header.body_len as usize];
        let start = position.offset() + ALIGN as u64;
        let got = read_some(file, &mut meta, start)?;
        if got < meta.len() || crc32fast::hash(&meta) != header.meta_crc {
            return Ok(None);
        }
        let got = read_some(file, &mut body, start + u64::from(header.meta_len))?;
        let body_intact = got == body.len() && crc32fast::hash(&body) == header.body_crc;
        Ok(Some(Record { header, meta, body, body_intact }))
    }
}

/// An error that says which file it is about.
fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn read_some(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match file.read_at(&mut into[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn punched(file: &File, start: u64, len: u64) -> bool {
    use rustix::fs::{FallocateFlags, fallocate};
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, len).is_ok()
}

/// For file systems that cannot punch holes: the bytes are overwritten, the space comes back with the segment.
fn zero(file: &File, start: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0u8; len.min(1 << 20) as usize];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..part as usize], start + done)?;
        done += part;
    }
    Ok(())
}
