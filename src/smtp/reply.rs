//! Replies as they go over the wire (RFC 5321 section 4.2, RFC 2034).

use std::fmt::{Arguments, Write};

/// Replies that wait to be sent; a batch of pipelined commands is answered with one write.
#[derive(Debug, Default)]
pub struct Replies(String);

impl Replies {
    /// Adds a reply of one line with its enhanced status code.
    pub fn add(&mut self, code: u16, enhanced: &str, text: Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{code} {enhanced} {text}\r\n");
    }

    /// Adds a line without an enhanced status code: greeting, EHLO and 354 have none (RFC 2034 section 3).
    pub fn add_bare(&mut self, line: Arguments<'_>) {
        let _ = write!(self.0, "{line}\r\n");
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what was sent, and what memory a larger batch took.
    pub fn sent(&mut self) {
        self.0.clear();
        self.0.shrink_to(512);
    }
}
