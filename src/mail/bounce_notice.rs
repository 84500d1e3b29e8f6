//! Delivery reports that a provider writes for programs in a text of its own: notifications of Amazon SES, sent as mail by
//! Amazon SNS, which are JSON.

use super::bounce::{self, Recognised};
use super::bounce_fields::{self, MAX_RECIPIENTS, cut, nearest, status_in, status_said};
use super::content;
use super::message::{Bounce, BounceKind, BounceRecipient, Parsed};

/// How much of a notification is read.
const MAX_NOTICE: usize = 256 << 10;

/// How deep a notification may be nested.
const MAX_DEPTH: usize = 20;

/// How many strings of one are looked at: a recipient has four, and the header fields of the mail two each.
const MAX_LEAVES: usize = 10_000;

/// How many characters of a key are looked at: those that are known are shorter, and every string below has it in its path.
const MAX_KEY: usize = 40;

/// A string in the JSON text: where it stands, as keys and indexes, and what it says.
type Leaf = (Vec<String>, String);

/// Reads a notification.
pub fn recognise(mail: &Parsed<'_>) -> Recognised {
    if !mail.headers().has("x-amz-sns-message-id") {
        return Recognised::Unknown;
    }
    let text = content::first_text(mail, MAX_NOTICE).unwrap_or_default();
    let Some(leaves) = leaves(&unfolded(&text)) else { return Recognised::Unknown };
    // A notification may stand in another one as a string.
    let inner = leaves.iter().find(|(path, text)| path.len() == 1 && path[0] == "Message" && text.starts_with('{'));
    let leaves = match inner {
        Some((_, text)) => self::leaves(text).unwrap_or_default(),
        None => leaves,
    };
    let kind = match said(&leaves, &["notificationType"]).or_else(|| said(&leaves, &["eventType"])) {
        Some("Bounce") => BounceKind::Failed,
        Some("Complaint") => BounceKind::Complaint,
        Some("Delivery") => BounceKind::Delivered,
        _ => return Recognised::Unknown,
    };
    let recipients = recipients(&leaves, kind);
    let kind = if kind == BounceKind::Failed { bounce::kind(&recipients).unwrap_or(kind) } else { kind };
    Recognised::Report(Bounce { kind, recipients, original_message_id: message_id(&leaves) })
}

/// The JSON text on one line: long lines were folded on the way, and a footer follows it.
fn unfolded(text: &str) -> String {
    let body = text.trim_start().split("\n--\n").next().unwrap_or_default();
    body.replace("!\n ", "").replace('\n', "")
}

fn said<'l>(leaves: &'l [Leaf], path: &[&str]) -> Option<&'l str> {
    leaves.iter().find(|(keys, _)| keys == path).map(|(_, text)| text.as_str())
}

fn recipients(leaves: &[Leaf], kind: BounceKind) -> Vec<BounceRecipient> {
    let mut found: Vec<(&[String], BounceRecipient)> = Vec::new();
    for (path, text) in leaves {
        let [_, list, index @ ..] = path.as_slice() else { continue };
        let named = matches!(list.as_str(), "bouncedRecipients" | "complainedRecipients") || list == "recipients";
        if !named || index.is_empty() {
            continue;
        }
        let of = &path[..3];
        let known = found.iter().position(|(other, _)| *other == of);
        if known.is_none() && found.len() >= MAX_RECIPIENTS {
            break;
        }
        let at = known.unwrap_or_else(|| {
            found.push((of, BounceRecipient::default()));
            found.len() - 1
        });
        let one = &mut found[at].1;
        match index.get(1).map_or("emailAddress", String::as_str) {
            "emailAddress" => one.address = text.trim_matches(['<', '>', ' ']).to_owned(),
            "action" => one.action = bounce_fields::action(text),
            "status" => one.status = status_in(text),
            "diagnosticCode" => {
                one.diagnostic = Some(cut(text.split_once("; ").map_or(text.as_str(), |(_, said)| said)))
            }
            _ => {}
        }
    }
    let delivered = said(leaves, &["delivery", "smtpResponse"]);
    let finish = |mut one: BounceRecipient| {
        let said = one.diagnostic.as_deref().and_then(status_said);
        one.status = nearest(one.status, said, one.action.as_deref());
        if kind == BounceKind::Delivered {
            one.action = Some("delivered".to_owned());
            one.status = delivered.and_then(status_in);
            one.diagnostic = delivered.map(cut);
        }
        one
    };
    found.into_iter().map(|(_, one)| finish(one)).filter(|one| !one.address.is_empty()).collect()
}

/// The Message-ID that we gave: SES gives the mail another one and tells both.
fn message_id(leaves: &[Leaf]) -> Option<String> {
    let name = leaves.iter().find(|(path, text)| {
        matches!(path.as_slice(), [mail, headers, _, name] if mail == "mail" && headers == "headers" && name == "name")
            && text.eq_ignore_ascii_case("message-id")
    });
    let value = name.and_then(|(path, _)| said(leaves, &["mail", "headers", &path[2], "value"]));
    let value = value.or_else(|| said(leaves, &["mail", "commonHeaders", "messageId"]))?;
    super::fields::ids(value.as_bytes()).into_iter().next()
}

/// Every string of a JSON object (RFC 8259), in order; `None` for what is none.
fn leaves(text: &str) -> Option<Vec<Leaf>> {
    let mut rest = text.trim_start();
    if !rest.starts_with('{') {
        return None;
    }
    let mut leaves = Vec::new();
    // For each level whether it is an object, and its key or index at hand.
    let mut levels: Vec<(bool, String)> = Vec::new();
    let mut expects_key = false;
    while let Some(c) = rest.chars().next().filter(|_| leaves.len() < MAX_LEAVES) {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '{' | '[' if levels.len() >= MAX_DEPTH => return None,
            '{' => {
                levels.push((true, String::new()));
                expects_key = true;
                after
            }
            '[' => {
                levels.push((false, "0".to_owned()));
                expects_key = false;
                after
            }
            '}' | ']' => {
                levels.pop();
                if levels.is_empty() {
                    break;
                }
                after
            }
            ',' => {
                if let Some((object, key)) = levels.last_mut() {
                    expects_key = *object;
                    if !*object {
                        *key = key.parse::<usize>().map_or(0, |index| index + 1).to_string();
                    }
                }
                after
            }
            '"' => {
                let (string, after) = string(after)?;
                match levels.last_mut() {
                    Some((_, key)) if expects_key => {
                        (*key, expects_key) = (string.chars().take(MAX_KEY).collect(), false);
                    }
                    _ => leaves.push((levels.iter().map(|(_, key)| key.clone()).collect(), string)),
                }
                after
            }
            _ => after,
        };
    }
    Some(leaves)
}

/// A string behind its first quote, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' | 'r' | 't' | 'b' | 'f' => out.push(' '),
                'u' => {
                    let digits: String = chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                    let code = u32::from_str_radix(&digits, 16).ok()?;
                    out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                escaped => out.push(escaped),
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{MAX_KEY, MAX_LEAVES, leaves};

    #[test]
    fn strings_are_found_where_they_stand() {
        let text = r#"{"a":{"b":[{"c":"1"},{"c":"\u00fc\"\\"}],"n":3,"t":true},"d":"2"} "x""#;
        let found: Vec<String> =
            leaves(text).unwrap().into_iter().map(|(path, text)| format!("{}={text}", path.join("."))).collect();
        assert_eq!(found.join(" "), "a.b.0.c=1 a.b.1.c=ü\"\\ d=2");
        for text in ["", "[1]", "{\"a", "{\"a\":\"\\", "{\"\\u12"] {
            assert!(leaves(text).is_none(), "{text}");
        }
        assert!(leaves(&"{\"a\":".repeat(30)).is_none(), "too deep");
    }

    #[test]
    fn a_long_key_above_many_strings_takes_no_room_for_each() {
        let strings = vec![r#""a""#; 60_000].join(",");
        let found = leaves(&format!(r#"{{"{}":[{strings}]}}"#, "k".repeat(60_000))).unwrap();
        assert_eq!(found.len(), MAX_LEAVES);
        assert!(found.iter().flat_map(|(path, _)| path).all(|key| key.len() <= MAX_KEY));
    }
}
