//! Which parts of a mail are attachments, what they are called, and their bytes.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::fields::{self, Typed};
use super::message::{Attachment, Parsed};
use super::structure::Part;
use super::uuencode::File;
use crate::units::hex;

/// The longest name that is kept.
const MAX_NAME: usize = 255;

/// What a part is to the reader of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A container, or a part of an attached message.
    Hidden,
    /// Text to be read.
    Plain,
    Html,
    Attached,
}

/// What the part with that index is.
pub fn role(mail: &Parsed<'_>, index: usize) -> Role {
    let part = &mail.parts[index];
    if part.in_messages > 0 || (part.is_multipart() && part.has_parts) {
        return Role::Hidden;
    }
    let text = match part.content_type.kind.as_str() {
        "text/html" => Role::Html,
        "text/plain" | "text" | "text/enriched" | "text/markdown" => Role::Plain,
        // A multipart without parts is text that was labelled wrongly.
        kind if kind.starts_with("multipart/") => Role::Plain,
        _ => return Role::Attached,
    };
    let disposition = disposition(part);
    let named = name_in(&disposition, &part.content_type).is_some();
    match disposition.kind.as_str() {
        "attachment" if index > 0 || named => Role::Attached,
        "inline" | "" | "attachment" if index == 0 => text,
        _ if named => Role::Attached,
        _ => text,
    }
}

/// The attachments, in order.
pub fn parts<'m, 'a>(mail: &'m Parsed<'a>) -> impl Iterator<Item = &'m Part<'a>> {
    mail.parts.iter().enumerate().filter(|(index, _)| role(mail, *index) == Role::Attached).map(|(_, part)| part)
}

/// The decoded bytes of a part.
pub fn bytes<'a>(part: &Part<'a>) -> Cow<'a, [u8]> {
    part.encoding.decode(part.body)
}

/// Whether some attachment does not belong into the text.
pub fn any_beside_text(mail: &Parsed<'_>) -> bool {
    parts(mail).any(|part| !belongs_into_text(part))
}

fn belongs_into_text(part: &Part<'_>) -> bool {
    let kind = disposition(part).kind;
    kind == "inline" || (kind != "attachment" && part.head.raw("Content-ID").next().is_some())
}

/// Describes every attachment: the parts first, then the files that stood in texts.
pub fn list(mail: &Parsed<'_>, files: &[File]) -> Vec<Attachment> {
    let describe = |(n, part): (usize, &Part<'_>)| {
        let disposition = disposition(part);
        let content_id = part.head.raw("Content-ID").next().and_then(|raw| fields::ids(raw).into_iter().next());
        let bytes = bytes(part);
        Attachment {
            n,
            name: name_in(&disposition, &part.content_type).or_else(|| subject_of(mail, part)),
            content_type: part.content_type.kind.clone(),
            size: bytes.len() as u64,
            inline: disposition.kind == "inline" || (content_id.is_some() && disposition.kind != "attachment"),
            content_id,
            sha256: hex(&Sha256::digest(&bytes)),
        }
    };
    let mut list: Vec<Attachment> = parts(mail).enumerate().map(describe).collect();
    for file in files {
        list.push(Attachment {
            n: list.len(),
            name: Some(file.name.clone()),
            content_type: "application/octet-stream".to_owned(),
            size: file.bytes.len() as u64,
            inline: false,
            content_id: None,
            sha256: hex(&Sha256::digest(&file.bytes)),
        });
    }
    list
}

fn disposition(part: &Part<'_>) -> Typed {
    part.head.raw("Content-Disposition").next().map(fields::typed).unwrap_or_default()
}

/// The name from Content-Disposition, else from Content-Type, where old programs put it.
fn name_in(disposition: &Typed, content_type: &Typed) -> Option<String> {
    let name = disposition.param("filename").or_else(|| content_type.param("name"))?;
    let name: String = name.chars().map(|c| if c.is_control() { '_' } else { c }).take(MAX_NAME).collect();
    (!name.trim().is_empty()).then(|| name.trim().to_owned())
}

/// An attached message is called by its subject.
fn subject_of(mail: &Parsed<'_>, part: &Part<'_>) -> Option<String> {
    if !part.is_message() {
        return None;
    }
    let inner = mail.parts.iter().find(|inner| inner.parent.is_some_and(|at| std::ptr::eq(&mail.parts[at], part)))?;
    let subject = inner.head.text("Subject").filter(|subject| !subject.is_empty())?;
    let plain = |c: char| if matches!(c, '/' | '\\' | ':') { '_' } else { c };
    Some(format!("{}.eml", subject.chars().map(plain).take(MAX_NAME - 4).collect::<String>()))
}
