//! What people read of a mail: its text, from whichever parts carry it.

use super::attachment::{self, Role};
use super::message::{Content, Parsed};
use super::structure::Part;
use super::uuencode::{self, File};
use super::{html, quoted, text};

/// The longest encoded text part that is decoded; what is beyond stays in the original bytes.
const MAX_TEXT_PART: usize = 10 << 20;

/// The parts that say one thing in several ways, or one part alone.
#[derive(Default)]
struct Passage {
    /// The index of the multipart/alternative, or of the part.
    of: usize,
    plain: Vec<String>,
    html: Vec<String>,
}

/// In how many texts a report is looked for: the first may be empty.
const FIRST_TEXTS: usize = 5;

/// Decodes text, HTML and attachments.
pub fn read(mail: &Parsed<'_>) -> Content {
    let (passages, files) = passages(mail);
    let mut texts: Vec<String> = Vec::new();
    for passage in &passages {
        let has_plain = passage.plain.iter().any(|plain| !plain.trim().is_empty());
        if has_plain {
            texts.extend(passage.plain.iter().cloned());
        } else {
            texts.extend(passage.html.iter().map(|html| html::to_marked_text(html)));
        }
    }
    texts.retain(|text| !text.trim().is_empty());
    let html: Vec<String> = passages.into_iter().flat_map(|passage| passage.html).collect();
    let marked = texts.join("\n");
    let subject = mail.headers().text("Subject").unwrap_or_default();
    Content {
        new_text: quoted::new_text(&marked, &subject),
        text: html::without_marks(marked),
        html: (!html.is_empty()).then(|| html.join("\n")),
        attachments: attachment::list(mail, &files),
    }
}

/// The first text of the mail that is not empty, decoded, at most `limit` bytes of its encoded form: enough to recognise a
/// report.
pub fn first_text(mail: &Parsed<'_>, limit: usize) -> Option<String> {
    let texts = (0..mail.parts.len()).filter_map(|index| match attachment::role(mail, index) {
        Role::Html => Some(html::to_text(&decoded(&mail.parts[index], limit))),
        Role::Plain => Some(decoded(&mail.parts[index], limit)),
        _ => None,
    });
    texts.take(FIRST_TEXTS).find(|text| !text.trim().is_empty())
}

/// The bytes of the files that stand in texts, in order.
pub fn files(mail: &Parsed<'_>) -> Vec<File> {
    passages(mail).1
}

/// The passages, and the files that stood in their texts.
fn passages(mail: &Parsed<'_>) -> (Vec<Passage>, Vec<File>) {
    let mut passages: Vec<Passage> = Vec::new();
    let mut files = Vec::new();
    for (index, part) in mail.parts.iter().enumerate() {
        let role = attachment::role(mail, index);
        if !matches!(role, Role::Plain | Role::Html) {
            continue;
        }
        let of = alternative_around(mail, part).unwrap_or(index);
        if passages.last().is_none_or(|last| last.of != of) {
            passages.push(Passage { of, ..Passage::default() });
        }
        let Some(passage) = passages.last_mut() else { continue };
        let text = decoded(part, MAX_TEXT_PART);
        if role == Role::Html {
            passage.html.push(text);
        } else {
            let (text, found) = uuencode::take_out(text);
            passage.plain.push(text);
            files.extend(found);
        }
    }
    (passages, files)
}

/// The outermost multipart/alternative that a part stands in.
fn alternative_around(mail: &Parsed<'_>, part: &Part<'_>) -> Option<usize> {
    let ancestors = std::iter::successors(part.parent, |index| mail.parts[*index].parent);
    ancestors.filter(|index| mail.parts[*index].content_type.kind == "multipart/alternative").last()
}

fn decoded(part: &Part<'_>, limit: usize) -> String {
    let bytes = part.encoding.decode(&part.body[..part.body.len().min(limit)]);
    let text = text::decode(&bytes, part.content_type.param("charset"));
    if !text.contains('\r') {
        return text;
    }
    // Old systems end lines with CR alone.
    if text.contains('\n') { text.replace("\r\n", "\n") } else { text.replace('\r', "\n") }
}
