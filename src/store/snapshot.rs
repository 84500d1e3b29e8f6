//! A checksummed copy of the whole index, from which it is rebuilt without the log before it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::dirs::sync_dir;
use super::error::StoreError;
use super::index::Index;
use super::keys;
use super::overlay::{Overlay, decode_one, encode_one};
use super::rows::Position;

const MAGIC: &[u8; 8] = b"TgSnap01";
/// A chunk holds about this many bytes of changes.
const CHUNK: usize = 256 << 10;

/// Writes a snapshot of the index as it is at `applied`; older ones are removed once it stands.
pub fn write(dir: &Path, index: &Index, applied: Position) -> Result<(), StoreError> {
    let target = dir.join(format!("snapshot-{:020}", applied.0));
    let tmp = dir.join("tmp").join("snapshot");
    // On a disk that is full the half of one must not take up what is left.
    write_aside(&tmp, index, applied).inspect_err(|_| drop(std::fs::remove_file(&tmp)))?;
    std::fs::rename(&tmp, &target)?;
    sync_dir(dir)?;
    // Segments go on the word of this file, so it is read back before the older ones are given up.
    read(&target, |_| Ok(()))?;
    for (position, path) in list(dir)? {
        if position < applied {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn write_aside(tmp: &Path, index: &Index, applied: Position) -> Result<(), StoreError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(tmp)?;
    let mut out = BufWriter::new(file);
    out.write_all(MAGIC)?;
    out.write_all(&applied.0.to_le_bytes())?;
    let mut chunk = Vec::with_capacity(CHUNK + 8192);
    index.walk(&[0], &[u8::MAX], super::index::Order::Up, |key, value| {
        encode_one(&mut chunk, key, Some(value));
        if chunk.len() >= CHUNK {
            write_chunk(&mut out, &chunk)?;
            chunk.clear();
        }
        Ok(true)
    })?;
    if !chunk.is_empty() {
        write_chunk(&mut out, &chunk)?;
    }
    // An empty chunk marks the end.
    write_chunk(&mut out, &[])?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(file.sync_all()?)
}

/// The snapshots that there are, the oldest first.
pub fn list(dir: &Path) -> io::Result<Vec<(Position, PathBuf)>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(position) = name.strip_prefix("snapshot-").and_then(|text| text.parse().ok()) {
            found.push((Position(position), path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads a snapshot to its end and hands its chunks to `visit`; an error says that it cannot be used.
pub fn read(path: &Path, mut visit: impl FnMut(&Overlay) -> Result<(), StoreError>) -> Result<Position, StoreError> {
    let damaged = || StoreError::Io(format!("{} is damaged", path.display()));
    let mut input = BufReader::new(File::open(path)?);
    let mut head = [0u8; 16];
    input.read_exact(&mut head)?;
    let (magic, applied) = head.split_at(8);
    if magic != MAGIC {
        return Err(damaged());
    }
    let applied = Position(u64::from_le_bytes(applied.try_into().map_err(|_| damaged())?));
    loop {
        let mut head = [0u8; 8];
        input.read_exact(&mut head)?;
        let (len, crc) = head.split_at(4);
        let len = u32::from_le_bytes(len.try_into().map_err(|_| damaged())?) as usize;
        if len > CHUNK * 2 {
            return Err(damaged());
        }
        let mut chunk = vec![0u8; len];
        input.read_exact(&mut chunk)?;
        if crc32fast::hash(&chunk).to_le_bytes() != crc {
            return Err(damaged());
        }
        if len == 0 {
            return Ok(applied);
        }
        let mut overlay = Overlay::default();
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let (key, value, behind) = decode_one(rest).ok_or_else(damaged)?;
            overlay.changes.insert(key.to_vec(), value.map(<[u8]>::to_vec));
            rest = behind;
        }
        overlay.changes.remove(keys::APPLIED);
        visit(&overlay)?;
    }
}

fn write_chunk(out: &mut impl Write, chunk: &[u8]) -> io::Result<()> {
    out.write_all(&(chunk.len() as u32).to_le_bytes())?;
    out.write_all(&crc32fast::hash(chunk).to_le_bytes())?;
    out.write_all(chunk)
}
