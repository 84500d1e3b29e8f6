//! `ticketgate tickets reply` and `ticketgate tickets new`.

use std::io::{ErrorKind, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::CliError;
use super::args::{NewTicket, Reply, Writing};
use super::client::{Client, author};
use super::output::{Output, harmless};
use super::tickets::person;
use crate::admin::entry::EntryJson;
use crate::admin::replies::{self, AcceptedReply, NewAttachment, NewReply};
use crate::files;
use crate::units::{count, show_bytes};

/// Texts and files are read up to these sizes; the daemon has limits of its own, which it names.
const MAX_TEXT: u64 = 1 << 20;
const MAX_FILE: u64 = 256 << 20;

/// Types that programs know by the ending of a file's name; others are sent as plain files.
const TYPES: &[(&str, &str)] = &[
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ics", "text/calendar"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("md", "text/markdown"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

/// What the daemon answers: the entry, or that there will be one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Filed(Box<EntryJson>),
    Accepted(AcceptedReply),
}

/// What was asked for, as far as the answer is told by it.
enum Asked {
    Answer { ticket: u64, close: bool },
    Ticket,
}

pub(super) fn reply(client: &Client, out: &mut Output, order: Reply) -> Result<(), CliError> {
    let (ticket, close) = (order.number, order.close);
    let written = written(order.writing)?;
    let body = NewReply {
        to: order.to,
        everybody: order.everybody,
        subject: order.subject,
        quote: order.quote,
        close,
        ..written
    };
    send(client, out, &format!("/v1/tickets/{ticket}/replies"), &body, &Asked::Answer { ticket, close })
}

/// `ticketgate tickets new`.
pub(super) fn open(client: &Client, out: &mut Output, order: NewTicket) -> Result<(), CliError> {
    let NewReply { text, markdown, html, cc, attachments, author, from_name, idempotency_key, .. } =
        written(order.writing)?;
    let (channel, to, subject) = (order.channel, order.to, order.subject);
    let body = replies::NewTicket {
        channel,
        to,
        cc,
        subject,
        text,
        markdown,
        html,
        attachments,
        author,
        from_name,
        idempotency_key,
    };
    send(client, out, "/v1/tickets", &body, &Asked::Ticket)
}

fn send(client: &Client, out: &mut Output, path: &str, body: &impl Serialize, asked: &Asked) -> Result<(), CliError> {
    let body = serde_json::to_value(body).map_err(|error| CliError::new(error, "report this"))?;
    match client.post(path, &body)? {
        Answer::Filed(entry) if out.wants_json() => out.json(&entry),
        Answer::Accepted(accepted) if out.wants_json() => out.json(&accepted),
        Answer::Filed(entry) => tell(out, asked, &entry),
        Answer::Accepted(AcceptedReply { id, said }) => {
            out.line(&format!("accepted as {id}: {said}"))?;
            out.line(&format!("follow it with: ticketgate outbox show {id}"))
        }
    }
}

fn tell(out: &mut Output, asked: &Asked, entry: &EntryJson) -> Result<(), CliError> {
    let ticket = entry.ticket.map_or_else(|| "without a number".into(), |ticket| ticket.to_string());
    match asked {
        Asked::Ticket => out.line(&format!("opened ticket {ticket}, entry {}", entry.id))?,
        Asked::Answer { ticket: named, .. } => {
            let same = ticket == named.to_string();
            let merged = if same { String::new() } else { format!(", into which {named} was merged") };
            out.line(&format!("answered ticket {ticket}{merged}, entry {}", entry.id))?;
        }
    }
    let people = |list: &[crate::admin::types::Person]| list.iter().map(person).collect::<Vec<_>>().join(", ");
    if let Some(from) = &entry.from {
        out.line(&harmless(&format!("  from     {}", person(from)), false))?;
    }
    out.line(&harmless(&format!("  to       {}", people(&entry.to)), false))?;
    if !entry.cc.is_empty() {
        out.line(&harmless(&format!("  cc       {}", people(&entry.cc)), false))?;
    }
    out.line(&harmless(&format!("  subject  {}", entry.subject), false))?;
    for file in &entry.attachments {
        let name = file.name.as_deref().unwrap_or("without a name");
        out.line(&harmless(&format!("  file     {name}, {}", count(file.size, "byte", "bytes")), false))?;
    }
    if let Asked::Answer { close: true, .. } = asked {
        out.line(&format!("  ticket {ticket} is closed; an answer of the customer opens it again"))?;
    }
    out.line(&format!("it waits in the outbox; follow it with: ticketgate outbox show {}", entry.id))
}

/// What was written, without what it is about.
fn written(writing: Writing) -> Result<NewReply, CliError> {
    let text = match (writing.text, &writing.file) {
        (Some(text), _) => text,
        (None, Some(file)) if file != Path::new("-") => text_of(file)?,
        _ => standard_input()?,
    };
    if text.trim().is_empty() && writing.attach.is_empty() {
        return Err(CliError::new("there is nothing to send", "give --text, --file, or text on standard input"));
    }
    let (text, markdown) = if writing.markdown { (None, Some(text)) } else { (Some(text), None) };
    Ok(NewReply {
        text,
        markdown,
        cc: writing.cc,
        attachments: writing.attach.iter().map(|file| attachment(file)).collect::<Result<_, _>>()?,
        author: author(),
        from_name: writing.from_name,
        idempotency_key: writing.key,
        ..NewReply::default()
    })
}

fn attachment(file: &Path) -> Result<NewAttachment, CliError> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let known = TYPES.iter().find(|(known, _)| *known == ending).map(|(_, kind)| (*kind).to_owned());
    let bytes = read(file, MAX_FILE, "send a link to it")?;
    Ok(NewAttachment { name, content_type: known, content_base64: STANDARD.encode(bytes), content_id: None })
}

fn text_of(file: &Path) -> Result<String, CliError> {
    let not_text = |_| CliError::new(format!("{} is not UTF-8", file.display()), "attach it with --attach");
    String::from_utf8(read(file, MAX_TEXT, "attach it with --attach")?).map_err(not_text)
}

/// The bytes of a file, but no endless ones.
fn read(file: &Path, most: u64, otherwise: &str) -> Result<Vec<u8>, CliError> {
    let read = files::read(file, most).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => {
            CliError::new(format!("{} is larger than {}", file.display(), show_bytes(most)), otherwise)
        }
        _ => {
            CliError::new(format!("{} cannot be read ({error})", file.display()), "check its name and who may read it")
        }
    });
    read.map(|mut bytes| std::mem::take(&mut *bytes))
}

fn standard_input() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_TEXT + 1).read_to_string(&mut text);
    read.map_err(|error| CliError::new(format!("standard input cannot be read ({error})"), "give UTF-8 text"))?;
    Ok(text)
}
