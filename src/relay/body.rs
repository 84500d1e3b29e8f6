//! The octets of a mail on their way through DATA. Pure.
//!
//! DATA can carry lines that end in CRLF and nothing else (RFC 5321 section 2.3.8). A CR or LF by itself may be taken
//! by the peer, or by one behind it, for the end of a line, and then a dot behind it for the end of the mail: that is
//! how mail is smuggled. So such a mail goes by BDAT (RFC 3030), which counts octets, or not at all.

/// What the octets of a mail ask of the way they are sent by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nature {
    /// A CR or LF stands by itself, or the end of a line is cut in two.
    pub bare: bool,
    /// An octet above 127 stands anywhere.
    pub eight_bit: bool,
    /// An octet above 127 stands in the header section.
    pub eight_bit_header: bool,
    /// The last line has no end.
    pub open_end: bool,
}

/// Looks at a mail.
pub(super) fn nature(mail: &[u8]) -> Nature {
    let mut nature = Nature { open_end: !mail.ends_with(b"\r\n"), eight_bit: !mail.is_ascii(), ..Nature::default() };
    nature.bare = memchr::memchr2_iter(b'\r', b'\n', mail).any(|at| match mail[at] {
        b'\r' => mail.get(at + 1) != Some(&b'\n'),
        _ => at == 0 || mail[at - 1] != b'\r',
    });
    if nature.eight_bit {
        let end = memchr::memmem::find(mail, b"\r\n\r\n").unwrap_or(mail.len());
        nature.eight_bit_header = !mail[..end].is_ascii();
    }
    nature
}

/// Doubles dots at the beginning of lines (RFC 5321 section 4.5.2), piece by piece.
#[derive(Debug)]
pub(super) struct Stuffer {
    /// Whether the next octet begins a line.
    line_start: bool,
}

impl Stuffer {
    pub fn new() -> Self {
        Self { line_start: true }
    }

    /// Appends a piece of the mail with its dots doubled.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(first) = piece.first() else { return };
        if self.line_start && *first == b'.' {
            out.push(b'.');
        }
        let mut written = 0;
        for at in memchr::memchr_iter(b'\n', piece) {
            if piece.get(at + 1) == Some(&b'.') {
                out.extend_from_slice(&piece[written..=at]);
                out.push(b'.');
                written = at + 1;
            }
        }
        out.extend_from_slice(&piece[written..]);
        self.line_start = piece.ends_with(b"\n");
    }

    /// Appends the end of the mail: the end of its last line, if that is missing, and the dot.
    pub fn end(self, out: &mut Vec<u8>) {
        if !self.line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(mail: &[u8], size: usize) -> Vec<u8> {
        let (mut stuffer, mut out) = (Stuffer::new(), Vec::new());
        mail.chunks(size).for_each(|piece| stuffer.push(piece, &mut out));
        stuffer.end(&mut out);
        out
    }

    #[test]
    fn dots_are_doubled_wherever_pieces_end() {
        let table: &[(&str, &str)] = &[
            ("", ".\r\n"),
            (".", "..\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r\n..b", "a\r\n...b\r\n.\r\n"),
            ("a.b\r\n\r\n", "a.b\r\n\r\n.\r\n"),
        ];
        for (mail, want) in table {
            for size in 1..=mail.len().max(1) {
                assert_eq!(stuffed(mail.as_bytes(), size), want.as_bytes(), "{mail:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_a_mail_asks_for() {
        let nature = |text: &str| super::nature(text.as_bytes());
        assert_eq!(nature("a: b\r\n\r\nc\r\n"), Nature::default());
        for bare in ["\n", "\r", "a\n.\n", "a\r\n.\r\r\n", "a\r.\r", "a\r\n.\n", "a\n.\r\n", "a\r\n.\r", "\n.\r\n"] {
            assert!(nature(bare).bare, "{bare:?}");
        }
        assert!(nature("a").open_end && !nature("a").bare);
        let body = nature("a: b\r\n\r\nü\r\n");
        assert!(body.eight_bit && !body.eight_bit_header);
        assert!(nature("a: ü\r\n\r\n").eight_bit_header);
    }
}
