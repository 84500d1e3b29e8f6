//! The header section of a mail, read field by field without looking at the body (RFC 5322 section 2.2).
//!
//! Real mail breaks every rule there is about header sections, so reading is generous: lines may end with LF alone, an
//! mbox "From " line may stand first, a stray line between two fields is passed over.

use std::borrow::Cow;

use super::address::Address;
use super::fields;
use super::reason::Reason;

/// How many lines that are no fields may stand between fields before they count as text.
const MAX_STRAY_LINES: usize = 3;

/// The fields of one header section, in the order received.
#[derive(Clone, Debug, Default)]
pub struct HeaderSection<'a> {
    fields: Vec<Field<'a>>,
    /// Where the body begins, counted from the start of what was read.
    body: usize,
}

/// One field, as received: the value is still folded and encoded.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub name: &'a str,
    pub value: &'a [u8],
}

impl<'a> HeaderSection<'a> {
    /// Reads the header section at the start of a mail. `head` may be a whole mail or only its beginning.
    pub fn read(head: &'a [u8], max_bytes: usize) -> Result<Self, Reason> {
        let section = Self::scan(head, fields_begin(head), max_bytes)?;
        if section.fields.is_empty() { Err(Reason::Malformed) } else { Ok(section) }
    }

    /// Reads the header section of a part, which may be empty (RFC 2046 section 5.1).
    pub(super) fn read_part(head: &'a [u8], max_bytes: usize) -> Result<Self, Reason> {
        Self::scan(head, 0, max_bytes)
    }

    /// The values of all fields of that name, first to last: unfolded, 8-bit text as UTF-8, encoded words left alone.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Cow<'a, str>> + 's {
        self.raw(name).map(fields::unfolded)
    }

    /// The bytes of all values of that name, first to last, as received.
    pub fn raw<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The first value of that name, decoded for people.
    pub fn text(&self, name: &str) -> Option<String> {
        self.raw(name).next().map(fields::text)
    }

    /// All addresses that the fields of that name hold, first to last; what is no address is left out.
    pub fn addresses(&self, name: &str) -> Vec<Address> {
        self.raw(name).flat_map(fields::mailboxes).filter_map(|mailbox| Address::parse(&mailbox.address).ok()).collect()
    }

    /// Whether there is a field of that name.
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).next().is_some()
    }

    /// Every field, first to last.
    pub fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// Where the body begins, counted from the start of what was read.
    pub fn body_offset(&self) -> usize {
        self.body
    }

    fn scan(head: &'a [u8], mut at: usize, max_bytes: usize) -> Result<Self, Reason> {
        let mut section = Self::default();
        let mut stray = 0;
        loop {
            if at > max_bytes {
                return Err(Reason::HeaderTooLarge);
            }
            let line_end = next_line(head, at);
            let line = &head[at..line_end];
            if is_blank(line) {
                section.body = line_end;
                return Ok(section);
            }
            if let Some((name, colon)) = field_name(line) {
                let end = field_end(head, line_end, max_bytes);
                section.fields.push(Field { name, value: &head[at + colon + 1..end] });
                (at, stray) = (end, 0);
            } else if stray < MAX_STRAY_LINES && !line.starts_with(b"--") && field_follows(head, line_end) {
                (at, stray) = (line_end, stray + 1);
            } else {
                section.body = at;
                return Ok(section);
            }
        }
    }
}

/// Whether every line of the header section at the start of `head` is what RFC 5322 section 2.2 asks for, so that
/// nobody reads other fields in it than we do: fields and their continuations, nothing in front of them or between
/// them, and no CR, LF or NUL by itself.
pub fn check_strict(head: &[u8]) -> Result<(), Reason> {
    let end = memchr::memmem::find(head, b"\r\n\r\n").map_or(head.len(), |end| end + 2);
    let section = &head[..end];
    let mut at = 0;
    while at < section.len() {
        let next = next_line(section, at);
        let line = section[at..next].strip_suffix(b"\r\n").unwrap_or(&section[at..next]);
        let continues = at > 0 && matches!(line.first(), Some(b' ' | b'\t'));
        let begins = field_name(line).is_some_and(|(name, colon)| name.len() == colon);
        if !(continues || begins) || line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(Reason::Malformed);
        }
        at = next;
    }
    if section.is_empty() { Err(Reason::Malformed) } else { Ok(()) }
}

/// Whether a mail can be taken at all: it has a header section, and says who wrote it (RFC 5322 section 3.6).
///
/// An address without a domain will do, as in `From: MAILER-DAEMON` of old reports, and so will a Sender. A delivery
/// report needs neither: real ones say `From: <>`, or nothing.
pub fn check_acceptable(section: &HeaderSection<'_>) -> Result<(), Reason> {
    if section.fields().is_empty() {
        return Err(Reason::Malformed);
    }
    let named = |field: &str| section.raw(field).flat_map(fields::mailboxes).any(|mailbox| !mailbox.address.is_empty());
    if named("From") || named("Sender") || is_report(section) { Ok(()) } else { Err(Reason::MissingFrom) }
}

fn is_report(section: &HeaderSection<'_>) -> bool {
    let null = |field: &str| section.values(field).any(|value| value.trim_end().ends_with("<>"));
    let content_type = section.raw("Content-Type").next().map(fields::typed).unwrap_or_default();
    null("From") || null("Return-Path") || content_type.kind == "multipart/report"
}

/// Where the fields begin: behind empty lines, and behind an mbox line "From name date", if there is one.
pub fn fields_begin(head: &[u8]) -> usize {
    let at = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let rest = &head[at..];
    if rest.starts_with(b"From ") || rest.starts_with(b">From ") { next_line(head, at) } else { at }
}

/// Where the line at `at` ends, its LF included.
pub(super) fn next_line(bytes: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |lf| at + lf + 1)
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, b"" | b"\n" | b"\r\n" | b"\r")
}

/// The name of the field that a line begins, and where its colon stands. Space before the colon is obsolete syntax
/// (RFC 5322 section 4.5).
fn field_name(line: &[u8]) -> Option<(&str, usize)> {
    // A boundary is no field, and what follows it is another section.
    let colon = memchr::memchr(b':', line).filter(|_| !line.starts_with(b"--"))?;
    let name = line[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    std::str::from_utf8(name).ok().map(|name| (name, colon))
}

/// Where a field ends whose first line ends at `at`: lines that begin with space belong to it. A line of nothing but
/// space is such a line too (RFC 5322 section 4.2), if more of the section follows.
fn field_end(head: &[u8], mut at: usize, max_bytes: usize) -> usize {
    while matches!(head.get(at), Some(b' ' | b'\t')) && at <= max_bytes {
        at = next_line(head, at);
    }
    at
}

fn field_follows(head: &[u8], at: usize) -> bool {
    field_name(&head[at..next_line(head, at)]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(head: &[u8]) -> String {
        match HeaderSection::read(head, 200) {
            Ok(section) => {
                let fields: Vec<String> =
                    section.fields().iter().map(|f| format!("{}={}", f.name, fields::unfolded(f.value))).collect();
                format!("{} | {}", fields.join(";"), String::from_utf8_lossy(&head[section.body_offset()..]))
            }
            Err(reason) => reason.code().to_owned(),
        }
    }

    #[test]
    fn sections_of_every_shape_are_read() {
        let table: &[(&[u8], &str)] = &[
            (b"A: 1\r\nB: 2\r\n\r\nbody", "A=1;B=2 | body"),
            (b"A: 1\nB : 2\n\nbody", "A=1;B=2 | body"),
            (b"A: 1\r\n 2\r\n\t3\r\nB:\r\n\r\n", "A=1 2 3;B= | "),
            (b"From x Mon Nov  2\nA: 1\n\nbody", "A=1 | body"),
            (b"\r\n\nA: 1\n\nbody", "A=1 | body"),
            (b"A: 1\nstray line\nB: 2\n\nbody", "A=1;B=2 | body"),
            (b"A: 1\nno field here\nnor here", "A=1 | no field here\nnor here"),
            (b"A: 1\n--b: x\nB: 2\n", "A=1 | --b: x\nB: 2\n"),
            (b"A: 1", "A=1 | "),
            (b"A: \xfc\n", "A=\u{fc} | "),
            (b"", "malformed"),
            (b"just text\n\nmore", "malformed"),
            (b"\r\n\r\n", "malformed"),
        ];
        for (head, want) in table {
            assert_eq!(names(head), *want, "{:?}", String::from_utf8_lossy(head));
        }
        let long = format!("A: {}\r\nB: 1\r\n", "x".repeat(300));
        assert_eq!(names(long.as_bytes()), "header_too_large");
        assert_eq!(names("A: 1\r\n".repeat(100).as_bytes()), "header_too_large");
    }

    #[test]
    fn a_strict_section_has_nothing_that_others_could_read_otherwise() {
        let table: &[(&[u8], bool)] = &[
            (b"A: 1\r\nB:\r\n 2\r\n\t\r\n\r\nany\nbody", true),
            (b"A: 1\r\nB: 2\r\n", true),
            (b"A: 1", true),
            (b"", false),
            (b"\r\n\r\n", false),
            (b"\r\nA: 1\r\n\r\n", false),
            (b" \r\nA: 1\r\n\r\n", false),
            (b"From x Mon Nov  2\r\nA: 1\r\n\r\n", false),
            (b"A: 1\r\nstray\r\nB: 2\r\n\r\n", false),
            (b"A : 1\r\n\r\n", false),
            (b": 1\r\n\r\n", false),
            (b"--A: 1\r\n\r\n", false),
            (b"A: 1\nB: 2\r\n\r\n", false),
            (b"A: 1\n\nB: 2\r\n\r\n", false),
            (b"A: 1\rB: 2\r\n\r\n", false),
            (b"A: 1\0\r\n\r\n", false),
        ];
        for (head, fine) in table {
            assert_eq!(check_strict(head).is_ok(), *fine, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn who_wrote_it_must_be_said_but_for_reports() {
        let table = [
            ("From: a@b.example", Ok(())),
            ("From:\nFrom: a@b.example", Ok(())),
            ("From: MAILER-DAEMON", Ok(())),
            ("From: Mail System <MAILER-DAEMON>", Ok(())),
            ("Sender: a@b.example", Ok(())),
            ("From: Mail Delivery System <>", Ok(())),
            ("Return-Path: <>\nTo: a@b.example", Ok(())),
            ("To: a@b.example\nContent-Type: Multipart/Report; boundary=x", Ok(())),
            ("To: a@b.example", Err(Reason::MissingFrom)),
            ("From:\nTo: a@b.example", Err(Reason::MissingFrom)),
            ("From: Only A Name", Err(Reason::MissingFrom)),
        ];
        for (head, want) in table {
            let section = HeaderSection::read(head.as_bytes(), 1000).unwrap();
            assert_eq!(check_acceptable(&section), want, "{head}");
        }
    }
}
