//! What is wrong with a configuration, as people read it: `FILE:LINE: field: what is wrong; what to do`.

use std::fmt;
use std::path::{Path, PathBuf};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from one; a fault of something that the file does not mention has none.
    pub line: Option<usize>,
    /// The key with its section, such as `channel.address`.
    pub field: String,
    /// What is wrong, and what to do.
    pub said: String,
}

impl Fault {
    /// A fault from what is wrong and what to do about it.
    pub fn new(line: Option<usize>, field: &str, wrong: &str, advice: &str) -> Self {
        Self { line, field: field.into(), said: format!("{wrong}; {advice}") }
    }
}

/// All faults of one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    file: PathBuf,
    faults: Vec<Fault>,
}

impl Faults {
    /// Sorts the faults by line.
    pub fn new(file: &Path, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.line.unwrap_or(0));
        faults.dedup();
        Self { file: file.into(), faults }
    }

    pub fn all(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut newline = "";
        // A key in quotes may hold line ends, and a fault is one line.
        let plain = |text: &str| text.replace(char::is_control, " ");
        for Fault { line, field, said } in &self.faults {
            write!(f, "{newline}{}:", self.file.display())?;
            if let Some(line) = line {
                write!(f, "{line}:")?;
            }
            write!(f, " {}: {}", plain(field), plain(said))?;
            newline = "\n";
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
