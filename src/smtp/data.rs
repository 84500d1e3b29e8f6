//! What follows DATA: the end of the message, dots, and octets that should not be there (RFC 5321 section 4.5.2).

/// Finds the end of a message and takes the stuffed dots out, in pieces of any size.
///
/// Only CR LF "." CR LF ends a message. An LF or CR by itself is data: it neither ends a line nor the message, so what
/// a sender smuggles behind one stays in the message that it was sent in.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataDecoder {
    at: At,
    findings: Findings,
}

/// What was seen in a message besides its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// A CR without LF, or an LF without CR.
    pub bare_newline: bool,
    /// A NUL.
    pub nul: bool,
    /// The longest line in octets, its CR LF included.
    pub longest_line: u64,
    line: u64,
}

/// Where the decoder stands. The octets named here were read; those of `Dot` and `DotCr` were not given out yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    LineStart,
    Text,
    Cr,
    Dot,
    DotCr,
}

impl DataDecoder {
    /// Appends the message's octets to `out`. `Some` is the end: so many octets of `input` belonged to the message.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut next = 0;
        while let Some(&octet) = input.get(next) {
            let plain = self.at == At::Text || (self.at == At::LineStart && octet != b'.');
            if plain && !matches!(octet, b'\r' | b'\n' | 0) {
                let rest = &input[next..];
                let run = &rest[..memchr::memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len())];
                out.extend_from_slice(run);
                self.findings.line += run.len() as u64;
                self.at = At::Text;
                next += run.len();
                continue;
            }
            match (self.at, octet) {
                (At::LineStart, b'.') => self.at = At::Dot,
                (At::Dot, b'\r') => self.at = At::DotCr,
                (At::DotCr, b'\n') => return Some(next + 1),
                // The dot was a stuffed one; this octet is looked at again as the line's first text.
                (At::Dot, _) => {
                    self.at = At::Text;
                    continue;
                }
                (At::DotCr, _) => {
                    self.give(b'\r', out);
                    self.at = At::Cr;
                    continue;
                }
                (At::Cr, b'\n') => {
                    self.give(octet, out);
                    self.findings.end_line();
                    self.at = At::LineStart;
                }
                (At::Cr, _) => {
                    self.findings.bare_newline = true;
                    self.at = At::Text;
                    continue;
                }
                (_, b'\r') => {
                    self.give(octet, out);
                    self.at = At::Cr;
                }
                (_, octet) => {
                    self.findings.bare_newline |= octet == b'\n';
                    self.findings.nul |= octet == 0;
                    self.give(octet, out);
                    self.at = At::Text;
                }
            }
            next += 1;
        }
        None
    }

    /// What was seen so far.
    pub fn findings(&self) -> Findings {
        let mut findings = self.findings;
        findings.longest_line = findings.longest_line.max(findings.line);
        findings
    }

    fn give(&mut self, octet: u8, out: &mut Vec<u8>) {
        out.push(octet);
        self.findings.line += 1;
    }
}

impl Findings {
    fn end_line(&mut self) {
        self.longest_line = self.longest_line.max(self.line);
        self.line = 0;
    }
}

/// Looks at the octets of chunks (RFC 3030), which have no dots and no end of their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkScanner {
    after_cr: bool,
    findings: Findings,
}

impl ChunkScanner {
    /// Looks at the next octets of the message.
    pub fn push(&mut self, mut input: &[u8]) {
        while let Some((&octet, rest)) = input.split_first() {
            if self.after_cr {
                self.after_cr = false;
                if octet == b'\n' {
                    self.findings.line += 1;
                    self.findings.end_line();
                    input = rest;
                } else {
                    self.findings.bare_newline = true;
                }
                continue;
            }
            let run = memchr::memchr3(b'\r', b'\n', 0, input).unwrap_or(input.len());
            self.findings.line += run as u64;
            input = &input[run..];
            if let Some((&special, rest)) = input.split_first() {
                self.after_cr = special == b'\r';
                self.findings.bare_newline |= special == b'\n';
                self.findings.nul |= special == 0;
                self.findings.line += 1;
                input = rest;
            }
        }
    }

    /// What was seen so far; a CR at the very end is bare.
    pub fn findings(&self) -> Findings {
        let mut findings = self.findings;
        findings.bare_newline |= self.after_cr;
        findings.longest_line = findings.longest_line.max(findings.line);
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word: the message ends at the first CR LF "." CR LF of CR LF and the input; then each
    /// line that begins with a dot loses it.
    fn reference(input: &[u8]) -> (Vec<u8>, Option<usize>) {
        let framed = [b"\r\n", input].concat();
        let end = framed.windows(5).position(|window| window == b"\r\n.\r\n");
        let message = &framed[..end.map_or(framed.len(), |at| at + 2)];
        let mut out = Vec::new();
        for (at, octet) in message.iter().enumerate() {
            if !(*octet == b'.' && message[..at].ends_with(b"\r\n")) {
                out.push(*octet);
            }
        }
        (out.split_off(2), end.map(|at| at + 3))
    }

    fn decode(input: &[u8], steps: &[usize]) -> (Vec<u8>, Option<usize>, Findings) {
        let (mut decoder, mut out, mut taken) = (DataDecoder::default(), Vec::new(), 0);
        let mut steps = steps.iter().copied().cycle();
        while taken < input.len() {
            let piece = &input[taken..input.len().min(taken + steps.next().unwrap_or(1).max(1))];
            if let Some(end) = decoder.push(piece, &mut out) {
                return (out, Some(taken + end), decoder.findings());
            }
            taken += piece.len();
        }
        (out, None, decoder.findings())
    }

    #[test]
    fn dots_ends_and_bare_newlines() {
        let table: &[(&[u8], &[u8], bool, bool)] = &[
            (b".\r\n", b"", true, false),
            (b"a\r\n.\r\n", b"a\r\n", true, false),
            (b"..\r\n...a\r\n.\r\n", b".\r\n..a\r\n", true, false),
            (b".a\r\n.\r\n", b"a\r\n", true, false),
            (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n", true, true),
            (b"a\r\n.\r\r\nb\r\n.\r\n", b"a\r\n\r\r\nb\r\n", true, true),
            (b"a\r\n.\n", b"a\r\n\n", false, true),
            (b"\0\r\n\0.\r\n", b"\0\r\n\0.\r\n", false, false),
        ];
        for (input, want, ends, bare) in table {
            let (out, end, findings) = decode(input, &[1]);
            assert_eq!((out.as_slice(), end.is_some()), (*want, *ends), "{}", input.escape_ascii());
            assert_eq!(findings.bare_newline, *bare, "{}", input.escape_ascii());
        }
        assert_eq!(decode(b"abc\r\n.de\r\n.\r\n", &[2]).2.longest_line, 5);
        let mut scanner = ChunkScanner::default();
        scanner.push(b"ab\r");
        assert!(scanner.findings().bare_newline);
        scanner.push(b"\nabcdef\0");
        let findings = scanner.findings();
        assert_eq!((findings.bare_newline, findings.nul, findings.longest_line), (false, true, 7));
        scanner.push(b"\n");
        assert!(scanner.findings().bare_newline);
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![4 => Just(b'\r'), 4 => Just(b'\n'), 4 => Just(b'.'), 1 => Just(0), 2 => any::<u8>()];
        proptest::collection::vec(octet, 0..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn equals_the_definition_however_it_is_cut(input in octets(), steps in proptest::collection::vec(1usize..9, 1..6)) {
            let (out, end, findings) = decode(&input, &steps);
            let (mut want, want_end) = reference(&input);
            if end.is_none() {
                // Octets that may still be the end are held back.
                want.truncate(out.len());
                prop_assert!(input.len() <= out.len() + input.iter().filter(|b| **b == b'.').count() + 1);
            }
            prop_assert_eq!(&out, &want);
            prop_assert_eq!(end, want_end);
            prop_assert_eq!(findings.nul, want.contains(&0));
        }
    }
}
