//! The second half of the demo: an answer, and its way out into the sandbox.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::CliError;
use super::super::client::Client;
use super::super::output::{Output, harmless};
use crate::admin::entry::EntryJson;

/// How long the demo waits for the answer to leave.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most lines of the mail that are shown.
const SHOWN: usize = 60;

/// Header fields that are worth a look.
const FIELDS: &[&str] = &["from:", "to:", "reply-to:", "subject:", "message-id:", "in-reply-to:", "references:", "x-"];

/// Answers the ticket, and shows the mail that leaves. `outbound` is the Maildir of the sandbox.
pub(super) fn show(client: &Client, number: u64, outbound: &Path, out: &mut Output) -> Result<(), CliError> {
    let text = "Hello,\n\nit means that the **paper** is missing. Do not add *water*.\n\nEve";
    let body = json!({ "markdown": text, "quote": true, "close": true, "author": "eve" });
    let entry: EntryJson = client.post(&format!("/v1/tickets/{number}/replies"), &body)?;
    out.line(&format!(
        "\nAn answer (as \"ticketgate tickets reply {number} --markdown --quote --close\" sends it) became entry {}.",
        entry.id
    ))?;
    let Some(file) = wait_for(outbound) else {
        return out.line(&format!("It waits in the outbox; \"ticketgate outbox show {}\" tells why.", entry.id));
    };
    out.line("In the sandbox nothing reaches people; this is what has left, as a file of a Maildir:\n")?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    out.line(&harmless(&format!("  outbound/new/{name}"), false))?;
    let bytes = std::fs::read(&file).map_err(|trouble| CliError::new(trouble, "try again"))?;
    for line in worth_seeing(&String::from_utf8_lossy(&bytes)) {
        out.line(&harmless(&format!("  | {line}"), false))?;
    }
    Ok(())
}

/// The header fields that matter, and the text.
fn worth_seeing(mail: &str) -> Vec<&str> {
    let mut shown = Vec::new();
    let (mut matters, mut in_header, mut boundaries) = (false, true, 0);
    for line in mail.lines() {
        if in_header {
            let folded = line.starts_with([' ', '\t']);
            let lower = line.to_ascii_lowercase();
            matters = if folded { matters } else { FIELDS.iter().any(|field| lower.starts_with(field)) };
            in_header = !line.is_empty();
        } else {
            boundaries += usize::from(line.starts_with("--="));
            // The text comes first; its HTML says the same.
            matters = boundaries < 2;
        }
        if matters && shown.len() < SHOWN {
            shown.push(line);
        }
    }
    shown
}

/// Waits until a mail has left.
fn wait_for(outbound: &Path) -> Option<PathBuf> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let found = std::fs::read_dir(outbound.join("new")).ok().and_then(|mut files| files.find_map(Result::ok));
        if let Some(file) = found {
            return Some(file.path());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    None
}
