//! Reading the files that people name: whole, but none without end, since a name may be that of a device. Writing
//! small files that a crash leaves as they were, or as they are to be.
//!
//! Must not know: what stands in them.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// No file with keys or certificates is longer, in bytes.
pub const LONGEST: u64 = 4 << 20;

/// The bytes of a file, which are wiped once they are dropped: many hold secrets. One of over `most` bytes is an error of
/// the kind `FileTooLarge`. Blocks on the disk.
pub fn read(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// The same for a file of text in UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<Zeroizing<String>> {
    let bytes = read(path, most)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not text in UTF-8"));
    text.map(|text| Zeroizing::new(text.to_owned()))
}

/// Writes a file so that a crash leaves the old one or the new one, which stands on disk when this returns. `mode` is what
/// a new file gets, less the umask. The name with `.new` behind it is used meanwhile. Blocks on the disk.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    // One that a crash left may have another mode, and others may have it open.
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(fresh, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    sync_dir(dir.unwrap_or(Path::new(".")))
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whatever_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let (file, left) = (dir.path().join("a.keys"), dir.path().join("a.keys.new"));
        std::fs::write(&left, "half").unwrap();
        for text in ["one", "another"] {
            replace(&file, text.as_bytes(), 0o600).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!left.exists());
        }
        assert!(replace(&dir.path().join("none/a"), b"", 0o600).is_err());
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let table: [(&[u8], Result<&str, ErrorKind>); 4] = [
            (b"", Ok("")),
            (b"12345678", Ok("12345678")),
            (b"123456789", Err(ErrorKind::FileTooLarge)),
            (b"\xff", Err(ErrorKind::InvalidData)),
        ];
        for (bytes, want) in table {
            std::fs::write(&file, bytes).unwrap();
            let read = read_text(&file, 8);
            assert_eq!(read.as_deref().map(String::as_str).map_err(io::Error::kind), want);
        }
        let endless = read(Path::new("/dev/zero"), LONGEST).unwrap_err();
        assert_eq!(endless.to_string(), "it is longer than 4194304 bytes");
    }
}
