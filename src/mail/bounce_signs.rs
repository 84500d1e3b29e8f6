//! By what a letter from a mail system is known: no sign alone will do, since people write of failed mail as well.

use super::automated;
use super::bounce_phrases::{FAILED, NAMES, SUBJECTS, SYSTEMS};
use super::fields;
use super::message::{Automatic, Parsed};

/// Within how many lines with text a letter that comes from no mail system must say what it is.
const OPENING_LINES: usize = 4;

/// What the header fields say.
pub struct HeadSigns {
    /// A mail system names itself as who writes.
    daemon: bool,
    /// Nobody is to be told if the letter fails itself.
    null: bool,
    /// The subject speaks of a delivery.
    subject: bool,
    /// It is handed on: whatever it says, somebody else says it.
    handed_on: bool,
    /// Its structure is that of a report.
    report: bool,
}

impl HeadSigns {
    pub fn of(mail: &Parsed<'_>) -> Self {
        let head = mail.headers();
        // An absence note has a null sender as well, and its subject repeats ours.
        let absent = || automated::is_absence(head);
        let subject = head.text("Subject").unwrap_or_default().to_lowercase();
        let structure = &mail.parts[0].content_type;
        let forwards = ["fw:", "fwd:", "wg:", "tr:", "rv:", "enc:"];
        Self {
            daemon: from_daemon(mail),
            null: head.values("Return-Path").any(|value| value.trim() == "<>") && !absent(),
            subject: SUBJECTS.iter().any(|words| subject.contains(words)) && !absent(),
            handed_on: forwards.iter().any(|start| subject.starts_with(start)),
            report: structure.kind == "multipart/report"
                && matches!(structure.param("report-type"), None | Some("delivery-status")),
        }
    }

    /// Whether the text is worth a look.
    pub fn any(&self) -> bool {
        self.daemon || self.null || self.subject || self.report
    }
}

/// What header fields and text say.
pub struct Signs {
    head: HeadSigns,
    /// Some machine writes.
    machine: bool,
    /// The text says somewhere that a mail failed.
    words: bool,
    /// It says so at its beginning.
    opening: bool,
    /// The mail that came back is with it.
    copy: bool,
}

impl Signs {
    pub fn of(head: HeadSigns, mail: &Parsed<'_>, letter: &str, copy_in_text: bool) -> Self {
        let lower = letter.to_lowercase();
        let written = |line: &&str| line.chars().any(char::is_alphanumeric);
        let opening: Vec<&str> = lower.lines().filter(written).take(OPENING_LINES).map(str::trim).collect();
        let fails = |text: &str| FAILED.iter().any(|words| text.contains(words));
        let answers = ["rcpt to:<", "remote host said", "final-recipient:"].iter().any(|words| lower.contains(words));
        let returned = |kind: &str| matches!(kind, "message/rfc822" | "text/rfc822-headers" | "message/rfc822-headers");
        Self {
            machine: automated::judge(mail.headers(), None) != Automatic::No,
            words: answers || fails(&lower),
            opening: fails(&opening.join(" ")),
            copy: copy_in_text || mail.parts.iter().any(|part| returned(&part.content_type.kind)),
            head,
        }
    }

    /// Whether they say together that the letter is a report, if it names somebody or nobody.
    pub fn report(&self, names_somebody: bool) -> bool {
        let head = &self.head;
        let system = head.daemon && (head.subject || self.words);
        let null = head.null && (head.subject || (self.words && names_somebody));
        let report = head.report && (head.subject || self.words);
        // Whoever writes: no person does, and it says at once that a mail failed, and whose.
        let said = self.opening && names_somebody && head.subject && !head.handed_on;
        system || null || report || (said && (self.copy || self.machine))
    }
}

fn from_daemon(mail: &Parsed<'_>) -> bool {
    let head = mail.headers();
    let fields = ["From", "Sender", "Return-Path"].into_iter().flat_map(|name| head.raw(name));
    fields.flat_map(fields::mailboxes).any(|mailbox| {
        let local = mailbox.address.rsplit_once('@').map_or(mailbox.address.as_str(), |(local, _)| local);
        let local: String =
            local.to_lowercase().chars().filter(|c| !matches!(c, '-' | '_' | '.' | '"' | ' ')).collect();
        let name = mailbox.name.to_lowercase();
        SYSTEMS.iter().any(|system| local.starts_with(system)) || NAMES.iter().any(|part| name.contains(part))
    })
}
