//! The chain of mails that an answer belongs to (RFC 5322 section 3.6.4).

use super::super::message::Summary;

/// Identifiers in the chain, and bytes of all of them, at most: some servers refuse longer fields.
const MOST: usize = 100;
const MOST_BYTES: usize = 6 << 10;

/// The longest identifier that is repeated; no longer one fits a line with its brackets.
const LONGEST: usize = 900;

/// The chain of an answer to a mail, the oldest first: that mail's own chain, then the mail itself.
pub fn chain(parent: &Summary) -> Vec<String> {
    let before = if parent.references.is_empty() { &parent.in_reply_to } else { &parent.references };
    bounded(before.iter().chain(&parent.message_id).map(String::as_str))
}

/// Identifiers that can be repeated, each once. Of a chain that is too long the first one, by which many programs know
/// a conversation, and the last ones are kept.
pub fn bounded<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for id in ids.filter(|id| is_sound(id)) {
        if !kept.iter().any(|known| known == id) {
            kept.push(id.to_owned());
        }
    }
    while kept.len() > MOST || (kept.len() > 2 && kept.iter().map(|id| id.len() + 3).sum::<usize>() > MOST_BYTES) {
        kept.remove(1);
    }
    kept
}

/// Whether it can stand between angle brackets without doing harm.
pub fn is_sound(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>');
    !id.is_empty() && id.len() <= LONGEST && id.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_whole_sound_and_bounded() {
        let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let parent = |references: &[&str], in_reply_to: &[&str], id: Option<&str>| Summary {
            references: ids(references),
            in_reply_to: ids(in_reply_to),
            message_id: id.map(str::to_owned),
            ..Summary::default()
        };
        let table: &[(Summary, &[&str])] = &[
            (parent(&[], &[], Some("c@x")), &["c@x"]),
            (parent(&["a@x", "b@x"], &["b@x"], Some("c@x")), &["a@x", "b@x", "c@x"]),
            (parent(&[], &["b@x"], Some("c@x")), &["b@x", "c@x"]),
            (parent(&["a@x", "a@x", "c@x"], &[], Some("c@x")), &["a@x", "c@x"]),
            (parent(&["a b@x", "ü@x", "<@x", "a\r\nBcc:@x", ""], &[], Some("c@x")), &["c@x"]),
            (parent(&["a@x"], &[], None), &["a@x"]),
        ];
        for (summary, want) in table {
            assert_eq!(chain(summary), *want);
        }
        let many: Vec<String> = (0..500).map(|n| format!("{n}.{}@x", "y".repeat(50))).collect();
        let kept = bounded(many.iter().map(String::as_str));
        assert_eq!((kept.first(), kept.last()), (many.first(), many.last()));
        assert!(kept.len() <= MOST && kept.iter().map(String::len).sum::<usize>() <= MOST_BYTES);
    }
}
