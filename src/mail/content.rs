//! What people read of a mail: its text, from whichever parts carry it.

use super::attachment::{self, Role};
use super::message::{Content, Parsed};
use super::structure::Part;
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

/// Decodes text, HTML and attachments.
pub fn read(mail: &Parsed<'_>) -> Content {
    let passages = passages(mail);
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
        attachments: attachment::list(mail),
    }
}

/// The first text of the mail, decoded, at most `limit` bytes of its encoded form: enough to recognise a report.
pub fn first_text(mail: &Parsed<'_>, limit: usize) -> Option<String> {
    let index =
        (0..mail.parts.len()).find(|index| matches!(attachment::role(mail, *index), Role::Plain | Role::Html))?;
    let part = &mail.parts[index];
    let decoded = decoded(part, limit);
    Some(if attachment::role(mail, index) == Role::Html { html::to_text(&decoded) } else { decoded })
}

fn passages(mail: &Parsed<'_>) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
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
        if role == Role::Html { passage.html.push(text) } else { passage.plain.push(text) }
    }
    passages
}

/// The outermost multipart/alternative that a part stands in.
fn alternative_around(mail: &Parsed<'_>, part: &Part<'_>) -> Option<usize> {
    let ancestors = std::iter::successors(part.parent, |index| mail.parts[*index].parent);
    ancestors.filter(|index| mail.parts[*index].content_type.kind == "multipart/alternative").last()
}

fn decoded(part: &Part<'_>, limit: usize) -> String {
    let bytes = part.encoding.decode(&part.body[..part.body.len().min(limit)]);
    let text = text::decode(&bytes, part.content_type.param("charset"));
    if text.contains('\r') { text.replace("\r\n", "\n") } else { text }
}
