//! Command lines: framed by CR LF and by nothing else (RFC 5321 section 2.3.8).

/// What the octets received so far begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A line of so many octets, with CR LF behind it.
    Line(usize),
    /// No complete line yet. So many octets in front are of no use and can be dropped.
    Incomplete { drop: usize },
    /// A line that is no command; it is skipped to its CR LF by later calls.
    Fault(LineFault),
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// Longer than the limit.
    TooLong,
    /// A CR without LF or an LF without CR stands in it.
    BareNewline,
    /// A NUL stands in it.
    Nul,
}

/// Frames lines. A broken line is reported as soon as it shows, and then skipped without being kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineReader {
    skipping: bool,
}

impl LineReader {
    /// Looks for a line of at most `max` octets, CR LF included, at the start of `octets`.
    pub fn next(&mut self, octets: &[u8], max: usize) -> Frame {
        if self.skipping {
            return self.skip(octets);
        }
        if let Some(at) = memchr::memchr3(b'\r', b'\n', 0, octets) {
            return match (octets[at], octets.get(at + 1)) {
                _ if at + 2 > max => self.fault(LineFault::TooLong),
                (b'\r', Some(b'\n')) => Frame::Line(at),
                (b'\r', None) => Frame::Incomplete { drop: 0 },
                (0, _) => self.fault(LineFault::Nul),
                _ => self.fault(LineFault::BareNewline),
            };
        }
        if octets.len() >= max { self.fault(LineFault::TooLong) } else { Frame::Incomplete { drop: 0 } }
    }

    fn fault(&mut self, fault: LineFault) -> Frame {
        self.skipping = true;
        Frame::Fault(fault)
    }

    /// Drops what is left of a broken line, its CR LF included.
    fn skip(&mut self, octets: &[u8]) -> Frame {
        match memchr::memmem::find(octets, b"\r\n") {
            Some(at) => {
                self.skipping = false;
                Frame::Incomplete { drop: at + 2 }
            }
            // A CR at the end may be the first half of the line's end.
            None => Frame::Incomplete { drop: octets.len() - usize::from(octets.ends_with(b"\r")) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Result<String, LineFault>;

    /// All lines and faults of some input that arrives in pieces of `step` octets.
    fn frames(input: &[u8], step: usize, max: usize) -> Vec<Found> {
        let (mut reader, mut waiting, mut found) = (LineReader::default(), Vec::new(), Vec::new());
        for piece in input.chunks(step) {
            waiting.extend_from_slice(piece);
            loop {
                match reader.next(&waiting, max) {
                    Frame::Line(length) => {
                        found.push(Ok(String::from_utf8_lossy(&waiting[..length]).into_owned()));
                        waiting.drain(..length + 2);
                    }
                    Frame::Incomplete { drop: 0 } => break,
                    Frame::Incomplete { drop } => {
                        waiting.drain(..drop);
                    }
                    Frame::Fault(fault) => found.push(Err(fault)),
                }
            }
        }
        found
    }

    #[test]
    fn only_cr_lf_ends_a_line_however_it_arrives() {
        let line = |text: &str| Ok(text.to_owned());
        let table: &[(&[u8], Vec<Found>)] = &[
            (b"NOOP\r\nQUIT\r\n", vec![line("NOOP"), line("QUIT")]),
            (b"\r\n", vec![line("")]),
            (b"NOOP\nRSET\r\nQUIT\r\n", vec![Err(LineFault::BareNewline), line("QUIT")]),
            (b"NO\rOP\r\nQUIT\r\n", vec![Err(LineFault::BareNewline), line("QUIT")]),
            (b"NOOP\r\r\nQUIT\r\n", vec![Err(LineFault::BareNewline), line("QUIT")]),
            (b"NO\0OP\r\nQUIT\r\n", vec![Err(LineFault::Nul), line("QUIT")]),
            (b"0123456789abcdef\r\nQUIT\r\n", vec![Err(LineFault::TooLong), line("QUIT")]),
            (b"0123456789abcd\r\n", vec![line("0123456789abcd")]),
            (b"0123456789abcde\r\n", vec![Err(LineFault::TooLong)]),
        ];
        for (input, want) in table {
            for step in [1, 2, 3, 7, 100] {
                assert_eq!(frames(input, step, 16), *want, "{} in steps of {step}", input.escape_ascii());
            }
        }
    }
}
