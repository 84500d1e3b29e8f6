//! Who granted access: the claims of an ID token (OpenID Connect Core 1.0 sections 2 and 3.1.3.7) and of userinfo.
//!
//! The token's signature is not checked: it is taken from nowhere but the token endpoint, over a TLS connection whose
//! server was verified, and section 3.1.3.7 item 6 accepts that in the signature's place.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::Identity;
use super::endpoints::Issuer;
use super::error::OAuthError;

/// How far the provider's clock may be behind ours.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The most addresses that are taken over.
const MOST: usize = 16;

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    aud: Option<OneOrMore>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nonce: Option<String>,
    /// The directory of a Microsoft account.
    #[serde(default)]
    tid: Option<String>,
    #[serde(flatten)]
    person: Person,
}

/// The claims that say who it is.
#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: Option<serde_json::Value>,
    #[serde(default)]
    preferred_username: Option<String>,
    #[serde(default)]
    upn: Option<String>,
}

impl Person {
    fn identity(self) -> Identity {
        // An address that the provider itself does not vouch for proves nothing. Some write the flag as text.
        let unverified = self.email_verified.is_some_and(|flag| flag == false || flag == "false");
        let email = self.email.filter(|_| !unverified);
        let mut addresses: Vec<String> = Vec::new();
        for text in [email, self.preferred_username, self.upn].into_iter().flatten() {
            let text = text.trim().to_lowercase();
            if text.contains('@') && text.len() <= 320 && !text.contains(char::is_control) && !addresses.contains(&text)
            {
                addresses.push(text);
            }
        }
        addresses.truncate(MOST);
        Identity { subject: self.sub.map(|sub| super::classify::clean(&sub)), addresses }
    }
}

/// What an ID token must fit.
pub(super) struct Expected<'a> {
    pub client_id: &'a str,
    pub issuer: &'a Issuer,
    /// The nonce of the request; other flows than that of the browser have none.
    pub nonce: Option<&'a str>,
    pub now: Timestamp,
}

/// Who an ID token names, once it has proven to be made by this provider, for us, for this request, and not long ago.
pub(super) fn from_token(token: &str, expected: &Expected<'_>) -> Result<Identity, OAuthError> {
    let wrong = |said: &str| OAuthError::Protocol(format!("its id_token {said}"));
    let claims = token.split('.').nth(1).and_then(|part| BASE64_URL.decode(part.trim_end_matches('=')).ok());
    // The reader's own words could show a part of the token.
    let claims = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
    let claims = claims.ok_or_else(|| wrong("cannot be read"))?;
    let issuer = claims.iss.unwrap_or_default();
    if !expected.issuer.is(&issuer, claims.tid.as_deref()) {
        return Err(wrong(&format!("was issued by \"{}\"", super::classify::clean(&issuer))));
    }
    let audience = match claims.aud {
        Some(OneOrMore::One(one)) => vec![one],
        Some(OneOrMore::More(more)) => more,
        None => Vec::new(),
    };
    let party = claims.azp.as_deref();
    let for_us = audience.iter().any(|to| to == expected.client_id) && party.is_none_or(|to| to == expected.client_id);
    if !for_us || (audience.len() > 1 && party.is_none()) {
        return Err(wrong("was issued for another application"));
    }
    let latest = expected.now.checked_sub(SKEW).unwrap_or(expected.now).as_second();
    let end = claims.exp.ok_or_else(|| wrong("does not say when it expires"))?;
    // An end in the future is all that is asked; fractions do not matter. It has come from the provider just now.
    if end < latest as f64 {
        return Err(OAuthError::Clock("its id_token has expired before it came".into()));
    }
    if let Some(nonce) = expected.nonce {
        let theirs = claims.nonce.unwrap_or_default();
        if !bool::from(theirs.as_bytes().ct_eq(nonce.as_bytes())) {
            return Err(OAuthError::NonceMismatch);
        }
    }
    Ok(claims.person.identity())
}

/// Who the answer of a userinfo endpoint names. It must be the one whom the ID token names, if there was one (OpenID
/// Connect Core section 5.3.2).
pub(super) fn from_userinfo(body: &[u8], known: &Identity) -> Result<Identity, OAuthError> {
    let person: Person =
        serde_json::from_slice(body).map_err(|_| OAuthError::Protocol("its userinfo cannot be read".into()))?;
    let found = person.identity();
    if known.subject.is_some() && known.subject != found.subject {
        return Err(OAuthError::Protocol("its userinfo is about somebody else than its id_token".into()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_for_us_from_them_counts() {
        let issuer = Issuer::Exactly(vec!["https://i".into()]);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let end = now.as_second() + 60;
        let expected = Expected { client_id: "me", issuer: &issuer, nonce: Some("n"), now };
        let good = format!(r#""iss":"https://i","aud":"me","exp":{end},"nonce":"n","sub":"7""#);
        let table: [(String, Result<&[&str], &str>); 14] = [
            (good.clone(), Ok(&[])),
            (format!(r#"{good},"email":"A@B.c","preferred_username":"a@b.c","upn":"x@y""#), Ok(&["a@b.c", "x@y"])),
            (format!(r#"{good},"email":"a@b","email_verified":false,"upn":"no address""#), Ok(&[])),
            (format!(r#"{good},"email":"a@b","email_verified":"true""#), Ok(&["a@b"])),
            (good.replace("\"me\"", r#"["me","you"],"azp":"me""#), Ok(&[])),
            (good.replace("\"me\"", r#"["me","you"]"#), Err("another application")),
            (good.replace("\"me\"", r#""me","azp":"you""#), Err("another application")),
            (good.replace("\"me\"", "\"you\""), Err("another application")),
            (good.replace(r#""aud":"me","#, ""), Err("another application")),
            (good.replace("https://i", "https://j"), Err("issued by \"https://j\"")),
            (good.replace(&end.to_string(), &(end - 3600).to_string()), Err("clock and ours disagree")),
            (good.replace(&format!(r#""exp":{end},"#), ""), Err("does not say when it expires")),
            (good.replace(r#""nonce":"n""#, r#""nonce":"m""#), Err("nonce differs")),
            (good.replace(r#","nonce":"n""#, ""), Err("nonce differs")),
        ];
        for (claims, want) in table {
            let token = format!("e30.{}.sig", BASE64_URL.encode(format!("{{{claims}}}")));
            match (from_token(&token, &expected), want) {
                (Ok(got), Ok(addresses)) => {
                    assert_eq!(got.subject.as_deref(), Some("7"));
                    assert_eq!(got.addresses, addresses, "{claims}");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{claims}: {error}"),
                (got, want) => panic!("{claims}: {got:?} instead of {want:?}"),
            }
        }
        for token in ["", "a.b", "a.!.c", "e30.e30"] {
            assert!(from_token(token, &expected).is_err(), "{token}");
        }
        let known = Identity { subject: Some("7".into()), addresses: Vec::new() };
        assert_eq!(from_userinfo(br#"{"sub":"7","email":"a@b"}"#, &known).unwrap().addresses, ["a@b"]);
        assert!(from_userinfo(br#"{"sub":"8","email":"a@b"}"#, &known).is_err());
        assert!(from_userinfo(b"[]", &known).is_err());
    }
}
