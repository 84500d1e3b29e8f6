//! The keys that sign ticket tokens: a file of the data directory that only its owner can read.
//!
//! One key a line, 64 hexadecimal digits; the first signs, all verify. The file is made at the first start. To change
//! the key, put a new line first and start anew; the old lines keep old tokens valid for as long as they stand.

use std::fs;
use std::io;
use std::path::Path;

use crate::files;

/// The file's name in the data directory.
const FILE: &str = "token.keys";
/// The most keys that are read: more would slow every look-up down.
const MAX_KEYS: usize = 16;

/// Why the token keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{path}: {trouble}; the daemon needs to read and write its data directory")]
    Io { path: String, trouble: io::Error },
    /// The value itself is never shown.
    #[error("{path}:{line}: not a key; a key is 64 hexadecimal digits on a line of its own")]
    Malformed { path: String, line: usize },
    #[error("{path}: it holds {found} keys, at most {MAX_KEYS} are read; delete the oldest, which stand last")]
    TooMany { path: String, found: usize },
}

/// Reads the token keys of a data directory, and makes the first one where there is none.
pub fn token_keys(data_dir: &Path) -> Result<Vec<[u8; 32]>, SecretError> {
    let path = data_dir.join(FILE);
    let io_error = |trouble| SecretError::Io { path: path.display().to_string(), trouble };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(trouble) if trouble.kind() == io::ErrorKind::NotFound => make(&path).map_err(io_error)?,
        Err(trouble) => return Err(io_error(trouble)),
    };
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = parse(line).ok_or(SecretError::Malformed { path: path.display().to_string(), line: index + 1 })?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(SecretError::Malformed { path: path.display().to_string(), line: 1 });
    }
    if keys.len() > MAX_KEYS {
        return Err(SecretError::TooMany { path: path.display().to_string(), found: keys.len() });
    }
    Ok(keys)
}

/// Writes a file with one fresh key, so that a crash leaves either no file or a whole one.
fn make(path: &Path) -> io::Result<String> {
    let mut key = [0u8; 32];
    getrandom::fill(&mut key).map_err(|trouble| io::Error::other(trouble.to_string()))?;
    let digits = crate::units::hex(&key);
    let text = format!(
        "# Signs the tokens in reply addresses. First line signs, all lines verify. Keep it secret.\n{digits}\n"
    );
    files::replace(path, text.as_bytes(), 0o600)?;
    Ok(text)
}

fn parse(line: &str) -> Option<[u8; 32]> {
    if line.len() != 64 || !line.is_ascii() {
        return None;
    }
    let mut key = [0u8; 32];
    for (index, slot) in key.iter_mut().enumerate() {
        *slot = u8::from_str_radix(&line[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_first_key_is_made_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = token_keys(dir.path()).unwrap();
        assert_eq!(first.len(), 1);
        assert_eq!(token_keys(dir.path()).unwrap(), first);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_faulty_line_is_named_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), format!("{}\nsecretsecret\n", "0".repeat(64))).unwrap();
        let said = token_keys(dir.path()).unwrap_err().to_string();
        assert!(said.contains(":2:") && !said.contains("secretsecret"), "{said}");
        fs::write(dir.path().join(FILE), "\n").unwrap();
        assert!(token_keys(dir.path()).is_err());
    }
}
