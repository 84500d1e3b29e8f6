//! A password that lies in a file of the operator's.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use secrecy::SecretString;
use zeroize::Zeroizing;

/// The longest password that is read from a file, in bytes.
const LONGEST: u64 = 4096;

/// Reads a file that holds a password and nothing else but a line end. Blocks on the disk. What is wrong is said with the
/// file's name and never with what stands in it.
pub fn read_password(file: &Path) -> Result<SecretString, String> {
    let wrong = |said: &dyn std::fmt::Display| format!("{}: {said}", file.display());
    let mut text = Zeroizing::new(String::new());
    // A line end may follow the longest one.
    let opened = File::open(file).map_err(|error| wrong(&error))?;
    opened.take(LONGEST + 3).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(wrong(&"the file is empty; it should hold the password"));
    }
    if password.len() as u64 > LONGEST {
        return Err(wrong(&format!("the password is over {LONGEST} bytes long")));
    }
    Ok(SecretString::from(password))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_password_file_is_read_or_what_is_wrong_with_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let longest = "x".repeat(LONGEST as usize);
        let (whole, over) = (format!("{longest}\r\n"), format!("{longest}x"));
        let table: [(&[u8], Result<&str, &str>); 6] = [
            (b"let me in\r\n", Ok("let me in")),
            (b" spaces count ", Ok(" spaces count ")),
            (whole.as_bytes(), Ok(&longest)),
            (over.as_bytes(), Err("over 4096 bytes")),
            (b"\n", Err("the file is empty")),
            (b"\xff\xfe", Err("UTF-8")),
        ];
        for (bytes, want) in table {
            std::fs::write(&file, bytes).unwrap();
            match (read_password(&file), want) {
                (Ok(found), Ok(want)) => assert_eq!(found.expose_secret(), want),
                (Err(said), Err(want)) => assert!(said.contains(want) && said.contains("password: "), "{said}"),
                (found, want) => panic!("{found:?} instead of {want:?}"),
            }
        }
        assert!(read_password(dir.path()).unwrap_err().contains("directory"));
        assert!(read_password(&dir.path().join("none")).unwrap_err().contains("No such file"));
    }
}
