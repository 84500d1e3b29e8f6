//! Signed tokens that tie a reply to its ticket: in our Message-IDs and in plus-addresses.
//!
//! A token reads `t12-` and 16 letters and digits: the ticket's number in the open, and 80 bits of an HMAC-SHA256 over
//! it, so that nobody can write into a ticket by counting. It has one case only, because local parts lose theirs on
//! the way. Several keys are known at once: the first signs, all verify, so that a key can be changed.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::mail::{Address, MailId};

/// What a signature is for; none holds for another purpose.
const TICKET: &[u8] = b"ticketgate ticket token 1\0";
const PROBE: &[u8] = b"ticketgate probe token 1\0";
const PROBE_ANSWER: &[u8] = b"ticketgate probe answer token 1\0";

/// The alphabet of the signature: Crockford's base 32 in lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Letters of a signature, five bits each.
const SIGNATURE: usize = 16;

/// The keys that sign and verify tokens. Its `Debug` shows none of them.
#[derive(Clone)]
pub struct TokenKeys(Vec<[u8; 32]>);

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeys({} keys)", self.0.len())
    }
}

impl TokenKeys {
    /// Keys, the signing one first.
    pub fn new(keys: Vec<[u8; 32]>) -> Self {
        Self(keys)
    }

    /// The token of a ticket; `None` when there is no key.
    pub fn sign(&self, ticket: u64) -> Option<String> {
        let key = self.0.first()?;
        Some(format!("t{ticket}-{}", signature(key, TICKET, ticket)))
    }

    /// The ticket that a text's leading token names, if a key of ours signed it. What follows the token must begin
    /// with a character that cannot belong to it: `t12-….0a1b` in a Message-ID, nothing in a plus-address.
    pub fn verify(&self, text: &str) -> Option<u64> {
        let text = behind('t', text)?;
        let (number, rest) = text.split_once('-')?;
        let canonical = !number.is_empty() && number.len() <= 19 && !number.starts_with('0');
        if !canonical || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let ticket: u64 = number.parse().ok()?;
        self.is_signed(TICKET, ticket, rest).then_some(ticket)
    }

    /// The token of a probe, by the id of its mail: it reads `p`, the id, and a signature.
    pub fn sign_probe(&self, id: MailId) -> Option<String> {
        Some(format!("p{id}-{}", signature(self.0.first()?, PROBE, id.0)))
    }

    /// The token under which answers and reports about a probe come back: it reads `q`, the id, and a signature.
    pub fn sign_probe_answer(&self, id: MailId) -> Option<String> {
        Some(format!("q{id}-{}", signature(self.0.first()?, PROBE_ANSWER, id.0)))
    }

    /// The probe that a text's leading token names, as `verify` does it for a ticket.
    pub fn verify_probe(&self, text: &str) -> Option<MailId> {
        self.verify_id('p', PROBE, text)
    }

    /// The probe that is answered, by a text's leading token.
    pub fn verify_probe_answer(&self, text: &str) -> Option<MailId> {
        self.verify_id('q', PROBE_ANSWER, text)
    }

    fn verify_id(&self, letter: char, purpose: &[u8], text: &str) -> Option<MailId> {
        let text = behind(letter, text)?;
        let (id, rest) = text.split_once('-')?;
        let id = MailId::parse(id)?;
        self.is_signed(purpose, id.0, rest).then_some(id)
    }

    /// Whether a text begins with our signature of a number. Every key is tried in full, so that the time taken says
    /// nothing about which one was near.
    fn is_signed(&self, purpose: &[u8], number: u64, text: &str) -> bool {
        let Some(claimed) = text.get(..SIGNATURE) else { return false };
        if text.as_bytes().get(SIGNATURE).is_some_and(u8::is_ascii_alphanumeric) {
            return false;
        }
        let same = |key| signature(key, purpose, number).as_bytes().ct_eq(claimed.as_bytes()).unwrap_u8();
        self.0.iter().fold(0u8, |hit, key| hit | same(key)) == 1
    }

    /// The ticket that an address names in its plus detail.
    pub fn verify_address(&self, address: &Address) -> Option<u64> {
        address.split_detail().1.and_then(|detail| self.verify(detail))
    }
}

/// What stands behind the letter that begins a token, in lower case and as far as any token goes. Nearly every text that
/// is asked about begins with another letter, and is not copied.
fn behind(letter: char, text: &str) -> Option<String> {
    let text = text.get(..text.len().min(64)).unwrap_or(text);
    text.strip_prefix([letter, letter.to_ascii_uppercase()]).map(str::to_ascii_lowercase)
}

/// 80 bits of HMAC-SHA256 over the purpose and the number.
fn signature(key: &[u8; 32], purpose: &[u8], number: u64) -> String {
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(purpose);
    mac.update(&number.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let mut bits = digest.iter().take(10).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let mut text = [0u8; SIGNATURE];
    for slot in text.iter_mut().rev() {
        *slot = ALPHABET[(bits % 32) as usize];
        bits /= 32;
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> TokenKeys {
        TokenKeys::new(vec![[1; 32], [2; 32]])
    }

    #[test]
    fn a_token_verifies_under_every_known_key_and_under_no_other() {
        let old = TokenKeys::new(vec![[2; 32]]).sign(12).unwrap();
        assert_eq!(keys().verify(&old), Some(12));
        assert_eq!(keys().verify(&keys().sign(12).unwrap()), Some(12));
        assert_eq!(TokenKeys::new(vec![[3; 32]]).verify(&old), None);
        assert_eq!(TokenKeys::new(vec![]).sign(12), None);
    }

    #[test]
    fn tokens_are_found_where_mail_carries_them_and_forgeries_are_not() {
        let token = keys().sign(12).unwrap();
        let other = keys().sign(13).unwrap();
        let table = [
            (token.clone(), Some(12)),
            (token.to_uppercase(), Some(12)),
            (format!("{token}.0a1b2c@gw.example.com"), Some(12)),
            (format!("{token}x"), None),
            (token.replace("t12", "t13"), None),
            (token.replace("t12", "t012"), None),
            (format!("t12-{}", &other[4..]), None),
            ("t12-".into(), None),
            ("t-".into(), None),
            ("customer=x".into(), None),
            ("t99999999999999999999-0000000000000000".into(), None),
            ("t1-é000000000000000000000000000000000000000000000000000000000é".into(), None),
        ];
        for (text, want) in table {
            assert_eq!(keys().verify(&text), want, "{text}");
        }
        let reply = Address::parse(&format!("support+{token}@example.com")).unwrap();
        assert_eq!(keys().verify_address(&reply), Some(12));
        assert!(!format!("{:?}", keys()).contains('1'), "Debug must not show a key");
    }

    #[test]
    fn tokens_of_probes_hold_for_probes_only() {
        let id = MailId(1 << 58);
        let (probe, answer) = (keys().sign_probe(id).unwrap(), keys().sign_probe_answer(id).unwrap());
        let table = [
            (probe.clone(), Some(id), None),
            (format!("{}.1@x", probe.to_uppercase()), Some(id), None),
            (answer.clone(), None, Some(id)),
            (format!("q{}", &probe[1..]), None, None),
            (format!("p{}", &answer[1..]), None, None),
            (probe.replace(&id.to_string(), &MailId(7).to_string()), None, None),
            (format!("{probe}x"), None, None),
            ("p-".into(), None, None),
            (keys().sign(12).unwrap(), None, None),
        ];
        for (text, is_probe, is_answer) in table {
            assert_eq!(
                (keys().verify_probe(&text), keys().verify_probe_answer(&text)),
                (is_probe, is_answer),
                "{text}"
            );
            assert!(text.starts_with('t') || keys().verify(&text).is_none());
        }
        assert_eq!(TokenKeys::new(vec![[3; 32]]).verify_probe(&probe), None);
        assert!(probe.len() < 40, "it finds room in a local part");
    }
}
