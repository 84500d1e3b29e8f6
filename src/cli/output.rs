//! Standard output: its width, and what happens when nobody reads it any more.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::CliError;

/// Lines are this wide where there is no terminal to ask.
const DEFAULT_WIDTH: usize = 80;

/// Standard output.
pub(super) struct Output {
    writer: io::BufWriter<io::Stdout>,
    json: bool,
    /// Of the terminal; `None` where something else reads us.
    width: Option<usize>,
}

impl Output {
    pub fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let width = stdout.is_terminal().then(|| {
            let columns = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
            columns.filter(|columns| *columns >= 20).unwrap_or(DEFAULT_WIDTH)
        });
        Self { writer: io::BufWriter::new(stdout), json, width }
    }

    /// Whether a program reads us.
    pub fn wants_json(&self) -> bool {
        self.json
    }

    /// The width that running text is wrapped at.
    pub fn width(&self) -> usize {
        self.width.unwrap_or(DEFAULT_WIDTH)
    }

    /// The width that tables are cut to: nothing is cut for a file or a program.
    pub fn table_width(&self) -> usize {
        self.width.unwrap_or(usize::MAX)
    }

    /// Prints text as it is, and a line end.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")?;
        self.flush()
    }

    /// Prints a value for programs, over several lines.
    pub fn json<T: Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|error| CliError::new(error, "report this"))?;
        self.line(&text)
    }

    /// Prints a value on one line; `flush` sends it.
    pub fn json_line<T: Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(|error| CliError::new(error, "report this"))?;
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.writer.write_all(bytes).map_err(written)
    }

    pub fn flush(&mut self) -> Result<(), CliError> {
        self.writer.flush().map_err(written)
    }
}

fn written(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::NobodyReads,
        _ => CliError::new(format!("the output cannot be written ({error})"), "check where it goes"),
    }
}

/// Text of a mail, made fit for a terminal: control characters, which could move its cursor or change its title, and
/// characters that turn the direction of writing are replaced.
pub(super) fn harmless(text: &str, keep_lines: bool) -> String {
    let mut fit = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' if keep_lines => fit.push('\n'),
            '\r' if keep_lines => {}
            '\t' | '\n' | '\r' => fit.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {}
            c if c.is_control() => fit.push('\u{fffd}'),
            c => fit.push(c),
        }
    }
    fit
}
