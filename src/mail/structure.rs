//! The parts of a mail, found in one linear pass over the received bytes (RFC 2046 section 5.1).
//!
//! A boundary counts only where it stands alone at the start of a line, and the innermost multipart that knows it is
//! the one that it divides. Nothing is decoded here. Depth and number of parts are checked while going.

use memchr::memmem;

use super::fields::{self, Typed};
use super::headers::{self, HeaderSection};
use super::message::Limits;
use super::reason::Reason;
use super::text::TransferEncoding;

/// One part: the mail itself is the first.
#[derive(Debug)]
pub struct Part<'a> {
    pub head: HeaderSection<'a>,
    /// The body as received, still encoded.
    pub body: &'a [u8],
    pub content_type: Typed,
    pub encoding: TransferEncoding,
    /// The index of the multipart or message that it stands in; always smaller than its own.
    pub parent: Option<usize>,
    /// How many attached messages it stands in.
    pub in_messages: usize,
    /// Whether parts were found in it.
    pub has_parts: bool,
}

impl Part<'_> {
    pub fn is_multipart(&self) -> bool {
        self.content_type.kind.starts_with("multipart/")
    }

    /// Whether it is an attached message whose own parts are known.
    pub fn is_message(&self) -> bool {
        self.has_parts && !self.is_multipart()
    }
}

/// A multipart whose parts are being read.
struct Open {
    boundary: Vec<u8>,
    /// How many parts were being read when it began, itself included.
    reading: usize,
}

/// A line that divides or ends a multipart.
struct Delimiter {
    level: usize,
    /// Where the body before it ends, and where the next part begins.
    before: usize,
    after: usize,
    closes: bool,
}

struct Walk<'a, 'l> {
    raw: &'a [u8],
    limits: &'l Limits,
    parts: Vec<Part<'a>>,
    /// The parts being read, from the mail down to the leaf, and where their bodies begin.
    reading: Vec<(usize, usize)>,
    open: Vec<Open>,
}

/// Finds all parts; the first is the mail itself.
pub fn parts<'a>(raw: &'a [u8], limits: &Limits) -> Result<Vec<Part<'a>>, Reason> {
    let mut walk = Walk { raw, limits, parts: Vec::new(), reading: Vec::new(), open: Vec::new() };
    let head = HeaderSection::read(raw, limits.max_header_bytes)?;
    let mut at = walk.begin(0, head)?;
    while let Some(found) = walk.next_delimiter(at) {
        let depth = walk.open[found.level].reading;
        walk.end_parts(depth, found.before);
        at = found.after;
        if found.closes {
            walk.open.truncate(found.level);
        } else {
            walk.open.truncate(found.level + 1);
            let head = HeaderSection::read_part(&raw[at..], limits.max_header_bytes)?;
            at = walk.begin(at, head)?;
        }
    }
    walk.end_parts(0, raw.len());
    Ok(walk.parts)
}

impl<'a> Walk<'a, '_> {
    /// Begins the part whose header section starts at `at`, and the message in it if it is one. Returns where to go on.
    fn begin(&mut self, mut at: usize, mut head: HeaderSection<'a>) -> Result<usize, Reason> {
        loop {
            if self.parts.len() >= self.limits.max_parts {
                return Err(Reason::TooManyParts);
            }
            if self.reading.len() > self.limits.max_depth {
                return Err(Reason::TooDeep);
            }
            let body = at + head.body_offset();
            let part = self.part(head);
            let index = self.parts.len();
            let holds_message = part.encoding == TransferEncoding::Identity
                && matches!(part.content_type.kind.as_str(), "message/rfc822" | "message/global");
            if part.is_multipart()
                && let Some(boundary) = self.boundary(&part, body)
            {
                self.open.push(Open { boundary, reading: self.reading.len() + 1 });
            }
            self.parts.push(part);
            self.reading.push((index, body));
            if !holds_message {
                return Ok(body);
            }
            let start = body + blank_lines(&self.raw[body..]);
            // The header section of an attached message may be missing, when a report returned only a body.
            head = HeaderSection::read_part(&self.raw[start..], self.limits.max_header_bytes)?;
            if head.fields().is_empty() {
                return Ok(body);
            }
            at = start;
        }
    }

    fn part(&mut self, head: HeaderSection<'a>) -> Part<'a> {
        let parent = self.reading.last().map(|(index, _)| *index);
        let mut in_messages = 0;
        if let Some(parent) = parent.and_then(|index| self.parts.get_mut(index)) {
            parent.has_parts = true;
            in_messages = parent.in_messages + usize::from(!parent.is_multipart());
        }
        let in_digest = parent.is_some_and(|index| self.parts[index].content_type.kind == "multipart/digest");
        let mut content_type = head.raw("Content-Type").next().map(fields::typed).unwrap_or_default();
        if !content_type.kind.contains('/') {
            // What says nothing of its type is plain text, in a digest a message (RFC 2046 section 5.1.5).
            content_type.kind = if in_digest { "message/rfc822" } else { "text/plain" }.to_owned();
        }
        let encoding = head.values("Content-Transfer-Encoding").next();
        let encoding = encoding.map(|value| TransferEncoding::from_value(&value)).unwrap_or_default();
        Part { head, body: &[], content_type, encoding, parent, in_messages, has_parts: false }
    }

    /// The declared boundary, or the one that the body seems to use.
    fn boundary(&self, part: &Part<'_>, body: usize) -> Option<Vec<u8>> {
        if let Some(boundary) = part.content_type.param("boundary").filter(|boundary| !boundary.is_empty()) {
            return Some(boundary.trim_end().as_bytes().to_vec());
        }
        let (_, end, line) = dashed_line(self.raw, body)?;
        let follows = headers::next_line(self.raw, end);
        let next = &self.raw[end..follows];
        (!line.is_empty() && line.len() <= 200 && next.contains(&b':')).then(|| line.to_vec())
    }

    fn next_delimiter(&self, mut at: usize) -> Option<Delimiter> {
        if self.open.is_empty() {
            return None;
        }
        while let Some((start, end, line)) = dashed_line(self.raw, at) {
            for (level, open) in self.open.iter().enumerate().rev() {
                let Some(rest) = line.strip_prefix(open.boundary.as_slice()) else { continue };
                let closes = rest.starts_with(b"--");
                if rest.is_empty() || closes {
                    return Some(Delimiter { level, before: before_line(self.raw, start), after: end, closes });
                }
            }
            at = end;
        }
        None
    }

    /// Ends all parts being read but for the outermost `keep`.
    fn end_parts(&mut self, keep: usize, end: usize) {
        for (index, body) in self.reading.drain(keep.min(self.reading.len())..) {
            self.parts[index].body = &self.raw[body.min(end)..end];
        }
    }
}

/// The next line that begins with two dashes: where it starts, where the following starts, and what stands behind the
/// dashes but for space at its end.
fn dashed_line(raw: &[u8], at: usize) -> Option<(usize, usize, &[u8])> {
    let starts_here = raw[at..].starts_with(b"--") && (at == 0 || raw[at - 1] == b'\n');
    let start = if starts_here { at } else { memmem::find(&raw[at..], b"\n--").map(|lf| at + lf + 1)? };
    let end = headers::next_line(raw, start);
    Some((start, end, raw[start + 2..end].trim_ascii_end()))
}

/// The line end before a delimiter belongs to it, not to the body (RFC 2046 section 5.1.1).
fn before_line(raw: &[u8], start: usize) -> usize {
    match &raw[..start] {
        [.., b'\r', b'\n'] => start - 2,
        [.., b'\n'] => start - 1,
        _ => start,
    }
}

/// How many bytes of empty lines stand at the start.
fn blank_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}
