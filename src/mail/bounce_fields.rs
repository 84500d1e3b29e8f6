//! The fields of delivery reports for programs (RFC 3464), wherever they stand: in a part of their own, or in a text.

use super::message::{BounceRecipient, SUCCESS};

/// How many recipients of one report are taken, whatever its form.
pub const MAX_RECIPIENTS: usize = 500;

/// The longest diagnostic text that is kept, in characters.
pub const MAX_DIAGNOSTIC: usize = 1000;

/// Words for what became of a mail that RFC 3464 section 2.3.3 does not know, with those that it does.
const ACTIONS: &[(&str, &[&str])] = &[
    (
        "failed",
        &["failed", "failure", "fail", "expired", "undeliverable", "undelivered", "error", "rejected", "bounced"],
    ),
    ("delayed", &["delayed", "delay", "deferred", "transient-failure", "warning"]),
];

/// Fields of one group, in order: names in lower case, values unfolded.
pub type Group = Vec<(String, String)>;

/// The groups of fields, which empty lines divide.
pub fn groups(text: &str) -> Vec<Group> {
    let mut groups = vec![Group::new()];
    for line in text.lines() {
        let Some(group) = groups.last_mut() else { break };
        if line.trim().is_empty() {
            if !group.is_empty() {
                groups.push(Group::new());
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = group.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let field = (name.trim().to_lowercase(), value.trim().to_owned());
            // Some leave out the empty line: a recipient named anew begins a group all the same.
            let names = matches!(field.0.as_str(), "final-recipient" | "original-recipient");
            let anew = names && group.iter().any(|(key, _)| *key == field.0);
            if anew {
                groups.push(vec![field]);
            } else {
                group.push(field);
            }
        }
    }
    groups
}

/// The recipient that a group is about (RFC 3464 section 2.3); the first group is about the whole mail and has none.
pub fn recipient(group: &Group) -> Option<BounceRecipient> {
    let value = |name: &str| group.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value);
    let named = ["final-recipient", "original-recipient", "x-actual-recipient"].into_iter().filter_map(value);
    let named: Vec<String> = named.map(|text| address(text)).collect();
    // What is no address, such as a program or an X.400 name, says less than the address that the mail was sent to.
    let address = named.iter().find(|text| is_address(text)).or(named.first())?.clone();
    let original = value("original-recipient").map(|text| self::address(text));
    let original = original.filter(|original| !original.eq_ignore_ascii_case(&address));
    let diagnostic = value("diagnostic-code").map(|text| cut(after_type(text)));
    let action = value("action").and_then(|text| action(text));
    let stated = value("status").and_then(|text| status_in(text));
    let said = diagnostic.as_deref().and_then(status_said);
    // Only what begins with the type `smtp` was said by another server (section 2.3.6).
    let remote = value("diagnostic-code").is_some_and(|text| !text.trim_start().to_lowercase().starts_with("x-"));
    let status = if remote { nearest(stated, said, action.as_deref()) } else { stated.or(said) };
    Some(BounceRecipient { address, original, status, action, diagnostic })
}

/// What a reporting server states and what it says that the remote one has said: that one knows why, so its word counts,
/// unless it says only the class. Of a mail that is merely late nobody can have said that it failed.
pub fn nearest(stated: Option<String>, said: Option<String>, action: Option<&str>) -> Option<String> {
    match (stated, said) {
        (Some(stated), Some(said)) => {
            let vague = said.ends_with(".0.0") || (said.starts_with('5') && action == Some("delayed"));
            let success = said.starts_with('2') != stated.starts_with('2');
            Some(if vague || success { stated } else { said })
        }
        (stated, said) => stated.or(said),
    }
}

/// As much of a diagnostic text as is kept.
pub fn cut(said: &str) -> String {
    said.chars().take(MAX_DIAGNOSTIC).collect()
}

/// What became of the mail, in a word of RFC 3464; `None` for words that say nothing of a delivery.
pub fn action(text: &str) -> Option<String> {
    let word = text.split([' ', '(', ';']).next().unwrap_or_default().to_lowercase();
    let known = ACTIONS.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(known, _)| (*known).to_owned());
    known.or_else(|| SUCCESS.contains(&word.as_str()).then_some(word))
}

/// The address in `rfc822; <a@b>`.
pub fn address(value: &str) -> String {
    let bare = after_type(value).trim_matches(['<', '>', '\'', ' ']);
    let quoted = bare.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(bare);
    quoted.trim_matches(['<', '>', ' ']).to_owned()
}

/// Whether a text is an address that mail can be sent to, and no route (RFC 5321 appendix C).
pub fn is_address(text: &str) -> bool {
    !text.starts_with('@') && super::Address::parse(text).is_ok()
}

/// What follows the type of a typed value, such as `smtp; 550 no`.
fn after_type(value: &str) -> &str {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.trim().contains([' ', '@']) => rest.trim(),
        _ => value.trim(),
    }
}

/// Finds an enhanced status code: a class of 2, 4 or 5, a subject and a detail (RFC 3463 section 2).
pub fn status_in(text: &str) -> Option<String> {
    statuses(text).next().map(|(_, code)| code.to_owned())
}

/// The status code that a remote server gave: the one right behind a reply code of the same class, else the first.
pub fn status_said(text: &str) -> Option<String> {
    let replied = statuses(text).find(|(at, code)| {
        let before = text[..*at].trim_end_matches([' ', '-', '\'', '"', '#', '(']);
        let reply = before.get(before.len().saturating_sub(3)..).unwrap_or_default();
        reply.len() == 3 && reply.bytes().all(|byte| byte.is_ascii_digit()) && reply.starts_with(&code[..1])
    });
    replied.or_else(|| statuses(text).next()).map(|(_, code)| code.to_owned())
}

/// Every status code in a text, and where it stands.
fn statuses(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let mut at = 0;
    text.split_inclusive(move |c: char| !is_part(c)).filter_map(move |word| {
        let start = at;
        at += word.len();
        let word = word.trim_end_matches(|c: char| !is_part(c)).trim_end_matches('.');
        let code = word.trim_start_matches('.');
        let mut numbers = code.split('.');
        let (class, subject, detail) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let fits = matches!(class, "2" | "4" | "5")
            && (1..=3).contains(&subject.len())
            && (1..=3).contains(&detail.len())
            && numbers.next().is_none();
        fits.then_some((start + word.len() - code.len(), code))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_remote_server_said_counts() {
        let table = [
            // Status, diagnostic, action; what counts.
            ("5.1.1", "smtp; 550 5.7.1 blocked", "failed", Some("5.7.1")),
            ("5.0.0", "smtp; 550 5.1.1 no such user", "failed", Some("5.1.1")),
            ("4.4.7", "smtp; 452 4.3.1 disk full", "failed", Some("4.3.1")),
            ("5.0.0", "smtp; 5.1.0 - Unknown address error 550-'5.2.2 full'", "failed", Some("5.2.2")),
            ("4.4.7", "smtp; 554 4.4.7 expired <421 4.4.2 timed out>", "failed", Some("4.4.2")),
            ("4.4.1", "smtp; 550 5.1.1 no such user", "delayed", Some("4.4.1")),
            ("5.1.1", "smtp; 550 no such user", "failed", Some("5.1.1")),
            ("5.1.1", "smtp; 550 5.0.0 no such user", "failed", Some("5.1.1")),
            ("", "smtp; 550 5.1.1 no such user at 192.0.2.1", "failed", Some("5.1.1")),
            ("", "x-unix; 5.2 is no code, nor 5.1.1.1", "failed", None),
        ];
        for (status, diagnostic, action, want) in table {
            let fields = [
                ("final-recipient", "rfc822; a@b.example"),
                ("status", status),
                ("diagnostic-code", diagnostic),
                ("action", action),
            ];
            let group = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            assert_eq!(recipient(&group).unwrap().status.as_deref(), want, "{status} {diagnostic}");
        }
    }

    #[test]
    fn groups_end_with_empty_lines_or_a_recipient() {
        let fields = "Original-Recipient: rfc822; a@b\nFinal-Recipient: rfc822; a@b\nAction: failed\n";
        assert_eq!(groups(&format!("Reporting-MTA: dns; x\n\n{fields}\n{fields}")).len(), 3);
        assert_eq!(groups(&fields.repeat(3)).len(), 3);
    }

    #[test]
    fn recipients_are_addresses_where_there_is_one() {
        let table = [
            ("rfc822; <a@b.example>", "", "a@b.example"),
            ("rfc822; \"a b\"@b.example", "", "\"a b\"@b.example"),
            ("RFC822;a@b.example", "rfc822;c@b.example", "a@b.example"),
            ("x400; /S=a/OU=b/", "rfc822; a@b.example", "a@b.example"),
            ("rfc822; @relay.example:a@inside", "rfc822;a@b.example", "a@b.example"),
            ("rfc822;|/bin/filter a@b.example", "", "|/bin/filter a@b.example"),
        ];
        for (last, original, want) in table {
            let fields = [("final-recipient", last), ("original-recipient", original), ("action", "expired")];
            let group = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            let found = recipient(&group).unwrap();
            assert_eq!((found.address.as_str(), found.action.as_deref()), (want, Some("failed")), "{last}");
        }
    }
}
