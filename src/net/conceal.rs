//! Taking secrets out of what a server says: one that repeats what it was sent shall not bring that into a status, a log
//! or the event feed. Pure.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// Secrets shorter than this are only taken out as words of their own: a part of an ordinary word would tell them.
const SHORT: usize = 6;
/// Of longer secrets a beginning of this length is taken out as well: servers cut what they repeat.
const BEGINNING: usize = 12;

/// What must not be repeated. Cheap to clone; empty by default.
#[derive(Clone, Debug, Default)]
pub struct Hidden(Arc<[SecretString]>);

impl Hidden {
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        Self(secrets.into_iter().filter(|secret| !secret.expose_secret().is_empty()).collect())
    }

    /// The text without them.
    pub fn conceal(&self, text: &str) -> String {
        let (mut told, mut rest, mut before) = (String::with_capacity(text.len()), text, None);
        while let Some(next) = rest.chars().next() {
            let found = self.0.iter().filter_map(|secret| found(secret.expose_secret(), before, rest)).max();
            match found {
                Some(_) => told.push_str("[secret]"),
                None => told.push(next),
            }
            let (taken, later) = rest.split_at(found.unwrap_or(next.len_utf8()));
            (before, rest) = (taken.chars().next_back(), later);
        }
        told
    }
}

/// How many bytes of the text, which stands behind `before`, are the secret or enough of its beginning.
fn found(secret: &str, before: Option<char>, text: &str) -> Option<usize> {
    let same = secret.chars().zip(text.chars()).take_while(|(one, other)| one == other);
    let same: usize = same.map(|(one, _)| one.len_utf8()).sum();
    if same < secret.len() {
        return (same >= BEGINNING).then_some(same);
    }
    let is_word =
        !before.is_some_and(char::is_alphanumeric) && !text[same..].chars().next().is_some_and(char::is_alphanumeric);
    (secret.len() >= SHORT || is_word).then_some(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_does_not_come_back() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiI3In0.c2ln";
        let hidden =
            Hidden::new(["hushhush", token, "pass", "", "grüße!"].map(|text| SecretString::from(text.to_owned())));
        let table = [
            ("login failed: LOGIN \"u\" \"hushhush\"", "login failed: LOGIN \"u\" \"[secret]\""),
            ("xhushhushx", "x[secret]x"),
            // Short ones only as words, or the rest of the word would tell them.
            ("a password, pass", "a password, [secret]"),
            (&format!("BAD {token}"), "BAD [secret]"),
            (&format!("BAD {}", &token[..20]), "BAD [secret]"),
            (&format!("BAD {}", &token[..8]), "BAD eyJhbGci"),
            ("grüße! grüße", "[secret] grüße"),
            ("", ""),
        ];
        for (said, want) in table {
            assert_eq!(hidden.conceal(said), want);
        }
        assert_eq!(Hidden::default().conceal("hushhush"), "hushhush");
    }
}
