//! The words for people: what happened, why, and what they can do.

use super::super::one_line;
use super::{Recipient, Report};
use crate::mail::date;
use crate::mail::notify::Action;

/// The most of the subject that is repeated, in characters.
const MAX_SUBJECT: usize = 200;

/// The length of a line, in octets.
const WIDTH: usize = 76;

/// The beginnings of statuses of failure and what to do about them; the first that fits counts. Of the pairs, the first is
/// for what a server said, the second for what we say ourselves.
const ADVICE: &[(&str, &str, &str)] = &[
    ("4.4.7", EXPIRED, EXPIRED),
    ("5.1.2", DOMAIN, DOMAIN),
    ("5.4.4", DOMAIN, DOMAIN),
    ("5.1.", ADDRESS, ADDRESS),
    ("5.2.1", ADDRESS, ADDRESS),
    ("5.2.2", "The mailbox is full. Try again later, or reach the recipient another way.", OTHER),
    ("5.2.3", LARGE, LARGE),
    ("5.3.4", LARGE, LARGE),
    (
        "5.7.",
        "That server refuses the mail by its own rules. Ask the recipient, or whoever looks after your mail.",
        HELD,
    ),
];
const ADDRESS: &str =
    "The address does not exist, or takes no mail. Check its spelling, or ask the recipient for another.";
const DOMAIN: &str = "What stands behind the @ is no domain that takes mail. Check its spelling.";
const LARGE: &str = "The mail is too large. Send it with smaller attachments, or without.";
const EXPIRED: &str = "It was tried again and again, and given up. If the address is right, send the mail again later.";
const HELD: &str = "Nothing is sent to this address from here. Ask whoever looks after your mail to allow it again.";
const OTHER: &str = "If the reason does not tell you what to do, ask whoever looks after your mail.";

/// The subject of the report.
pub fn subject(recipients: &[Recipient], of: &str) -> String {
    let has = |action: &Action| recipients.iter().any(|one| one.action == *action);
    let word = match Action::ALL.into_iter().find(has) {
        Some(Action::Failed) | None => "Not delivered",
        Some(Action::Delayed) => "Delayed",
        Some(Action::Relayed) => "Relayed",
        Some(Action::Delivered) => "Delivered",
    };
    let of = one_line(of, MAX_SUBJECT);
    if of.is_empty() { word.to_owned() } else { format!("{word}: {of}") }
}

/// The text; `returned` is the type of the part that holds what came back of the mail.
pub fn text(report: &Report<'_>, subject: &str, returned: Option<&str>) -> String {
    let subject = one_line(subject, MAX_SUBJECT);
    let of = if subject.is_empty() { "your mail".to_owned() } else { format!("your mail \"{subject}\"") };
    let mut out = format!("This is the mail server {}.\r\n\r\n", report.reporter);
    wrapped(&mut out, "", &format!("This is about {of}, handed in on {}.", date::written(report.arrived)));
    for action in Action::ALL {
        let about: Vec<&Recipient> = report.recipients.iter().filter(|one| one.action == action).collect();
        let Some(first) = about.first() else { continue };
        happened(&mut out, action, first);
        about.into_iter().for_each(|one| of_recipient(&mut out, one));
    }
    out.push_str("\r\nBelow stands the same for programs");
    out.push_str(match returned {
        Some("message/rfc822") => ", then your mail.\r\n",
        Some(_) => ", then the header section of your mail.\r\n",
        None => ".\r\n",
    });
    out
}

fn happened(out: &mut String, action: Action, first: &Recipient) {
    let said = match action {
        Action::Failed => "It could not be delivered to the following, and will not be tried again:".to_owned(),
        Action::Delayed => {
            let until = first.until.map(|until| format!(" until {}", date::written(until))).unwrap_or_default();
            format!(
                "It is not delivered yet to the following, and is still being tried{until}. \
                 You need not send it again:"
            )
        }
        Action::Relayed => "For the following it was handed on to a server that does not tell when it is delivered, \
             so that you will hear no more of it unless that server cannot deliver it:"
            .to_owned(),
        Action::Delivered => "It was delivered to:".to_owned(),
    };
    out.push_str("\r\n");
    wrapped(out, "", &said);
}

fn of_recipient(out: &mut String, one: &Recipient) {
    out.push_str("\r\n");
    wrapped(out, "    ", &one.address);
    match &one.remote {
        Some(remote) => wrapped(out, "        ", &format!("{remote} said: {}", one.said)),
        None => wrapped(out, "        ", &one.said),
    }
    if one.action == Action::Failed {
        let advice = ADVICE.iter().find(|(status, ..)| one.status.starts_with(status));
        let (theirs, ours) = advice.map_or((OTHER, OTHER), |(_, theirs, ours)| (theirs, ours));
        wrapped(out, "        ", if one.remote.is_some() { theirs } else { ours });
    }
}

/// A paragraph in lines that any mail program shows as they are, and that need no encoding.
fn wrapped(out: &mut String, indent: &str, text: &str) {
    let mut line = String::from(indent);
    for word in one_line(text, usize::MAX).split(' ') {
        if line.len() > indent.len() && line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push_str("\r\n");
            indent.clone_into(&mut line);
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push_str("\r\n");
}
