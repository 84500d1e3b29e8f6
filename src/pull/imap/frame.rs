//! Cutting what a server sends into whole responses, within limits, before any of it is parsed.
//!
//! The parser calls itself for every bracket, and buffers whatever a literal announces: a server that is broken, or
//! not the one that it seems to be, must not be able to end the daemon with that. Must not know: what responses mean.

/// The longest line. RFC 7162 section 4 has servers take 8 KiB; what we ask for brings a few hundred bytes, and a
/// mail with very many labels some thousand.
pub const LINE: usize = 64 << 10;
/// The largest literal. Mails of at most 1 MiB are fetched whole and larger ones in slices of half of that, so this
/// leaves room for a server whose sizes are wrong.
pub const LITERAL: usize = 4 << 20;
/// The most brackets that one response may open, whether or not a quoted string holds them: counting them all cannot be
/// misled. The responses that we ask for open three; labels may have some in their names.
pub const BRACKETS: usize = 100;

/// What is wrong with a response; it is of no use to read on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the server sent a line of more than {LINE} bytes")]
    Line,
    #[error("the server announced {0} bytes at once, more than {LITERAL}")]
    Literal(u64),
    #[error("the server sent a response with more than {BRACKETS} brackets")]
    Brackets,
}

/// Bytes as they came, and how far the first response in them has been looked at.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the line begins that is being looked at.
    line: usize,
    /// No line end stands between `line` and here.
    looked: usize,
    brackets: usize,
    literals: usize,
}

impl Frames {
    /// Where to read to. The space that it has is small unless a literal is on its way.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        let wanted = self.line.saturating_sub(self.bytes.len()).max(4 << 10);
        self.bytes.reserve(wanted);
        &mut self.bytes
    }

    /// Whether nothing has come that was not taken.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How long the first response is with its literals, once it is there as a whole.
    pub fn first(&mut self) -> Result<Option<usize>, FrameError> {
        // A literal that is on its way ends where its next line begins.
        while self.bytes.len() >= self.line {
            let from = self.looked.max(self.line);
            let Some(found) = memchr::memchr(b'\n', &self.bytes[from..]) else {
                self.looked = self.bytes.len();
                return if self.bytes.len() - self.line > LINE { Err(FrameError::Line) } else { Ok(None) };
            };
            let end = from + found + 1;
            let line = &self.bytes[self.line..end];
            if line.len() > LINE {
                return Err(FrameError::Line);
            }
            self.brackets += line.iter().filter(|byte| matches!(byte, b'(' | b'[')).count();
            if self.brackets > BRACKETS {
                return Err(FrameError::Brackets);
            }
            match literal(line).filter(|_| self.line > 0 || !is_text(line)) {
                None => return Ok(Some(end)),
                Some(size) => {
                    // Several literals in one response share the limit.
                    let size = usize::try_from(size).ok().filter(|size| self.literals.saturating_add(*size) <= LITERAL);
                    let size = size.ok_or(FrameError::Literal(literal(line).unwrap_or(u64::MAX)))?;
                    self.literals += size;
                    (self.line, self.looked) = (end + size, end + size);
                }
            }
        }
        Ok(None)
    }

    /// The first `len` bytes, which stay until `done`.
    pub fn get(&self, len: usize) -> &[u8] {
        &self.bytes[..len.min(self.bytes.len())]
    }

    /// The first `len` bytes have been read.
    pub fn done(&mut self, len: usize) {
        self.bytes.drain(..len.min(self.bytes.len()));
        // An idle connection holds no memory for the mail that it brought.
        if self.bytes.is_empty() && self.bytes.capacity() > LINE {
            self.bytes = Vec::new();
        }
        (self.line, self.looked, self.brackets, self.literals) = (0, 0, 0, 0);
    }
}

/// The size of the literal that a line announces at its end (RFC 3501 section 4.3).
fn literal(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let digits = &line[memchr::memrchr(b'{', line)? + 1..];
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    if digits.is_empty() { None } else { Some(digits.parse().unwrap_or(u64::MAX)) }
}

/// Whether a line ends in words for people, which announce nothing whatever they end with (RFC 3501 section 7.1).
fn is_text(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let states: [&[u8]; 5] = [b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"];
    first == b"+" || states.iter().any(|state| second.eq_ignore_ascii_case(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds bytes in pieces of a size, and tells the responses that come out.
    fn cut(bytes: &[u8], piece: usize) -> Result<Vec<String>, FrameError> {
        let (mut frames, mut told) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            frames.buffer().extend_from_slice(piece);
            while let Some(len) = frames.first()? {
                told.push(String::from_utf8_lossy(frames.get(len)).into_owned());
                frames.done(len);
            }
        }
        Ok(told)
    }

    #[test]
    fn responses_are_cut_with_their_literals_however_they_come() {
        let responses = [
            "* OK hello {9}\r\n",
            "* 1 FETCH (BODY[] {6}\r\na\r\n(\r\n FLAGS () X {2}\r\n\r\n)\r\n",
            "+ {3}\r\n",
            "T1 OK done\r\n",
            "* 2 FETCH (BODY[] {0}\r\n)\r\n",
        ];
        let whole = responses.concat();
        for piece in [1, 2, 7, 1000] {
            assert_eq!(cut(whole.as_bytes(), piece).unwrap(), responses, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_would_end_the_daemon_is_refused_before_it_is_parsed() {
        let brackets = format!("* 1 FETCH (BODYSTRUCTURE {})\r\n", "(".repeat(400));
        let quoted = format!("* 1 FETCH (X {})\r\n", "(\")\"".repeat(400));
        let line = format!("* OK {}", "a".repeat(LINE));
        let table = [
            (brackets.as_str(), FrameError::Brackets),
            (&quoted, FrameError::Brackets),
            (&line, FrameError::Line),
            ("* 1 FETCH (BODY[] {536870912}\r\n", FrameError::Literal(512 << 20)),
            ("* 1 FETCH (BODY[] {99999999999999999999999}\r\n", FrameError::Literal(u64::MAX)),
        ];
        for (bytes, want) in table {
            assert_eq!(cut(bytes.as_bytes(), 1000), Err(want));
        }
        let many = format!("* 1 FETCH (A {{3000000}}\r\n{} B {{3000000}}\r\n", "a".repeat(3_000_000));
        assert_eq!(cut(many.as_bytes(), 1 << 20), Err(FrameError::Literal(3_000_000)));
    }

    #[test]
    fn no_memory_stays_behind_a_large_literal() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(b"* 1 FETCH (BODY[] {4000000}\r\n");
        assert_eq!(frames.first(), Ok(None));
        frames.buffer().extend_from_slice(&vec![b'('; 4_000_000]);
        frames.buffer().extend_from_slice(b")\r\n");
        let len = frames.first().unwrap().unwrap();
        frames.done(len);
        assert!(frames.is_empty() && frames.bytes.capacity() <= LINE);
    }
}
