//! What a credential looks like to a server that asks for it, over IMAP and SMTP alike (RFC 4422 section 5).
//!
//! Pure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::Login;
use crate::net::conceal::Hidden;

/// What acknowledges OAUTHBEARER's account of a failure, encoded: the byte 0x01 (RFC 7628 section 3.2.3). XOAUTH2 wants
/// an empty line there.
pub const OAUTHBEARER_ACKNOWLEDGED: &str = "AQ==";

/// OAUTHBEARER (RFC 7628 section 3.1). The gs2 header ends in a comma; `=` and `,` have their own spelling in it (RFC
/// 5801 section 4).
pub fn oauthbearer(user: &str, token: &SecretString, host: &str, port: u16) -> SecretString {
    let (user, token) = (user.replace('=', "=3D").replace(',', "=2C"), token.expose_secret());
    format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01").into()
}

/// XOAUTH2, as Google and Microsoft document it.
pub fn xoauth2(user: &str, token: &SecretString) -> SecretString {
    format!("user={user}\x01auth=Bearer {}\x01\x01", token.expose_secret()).into()
}

/// PLAIN (RFC 4616).
pub fn plain(user: &str, password: &SecretString) -> SecretString {
    format!("\0{user}\0{}", password.expose_secret()).into()
}

/// Every form in which a credential goes to this server.
pub fn hidden(login: &Login, host: &str, port: u16) -> Hidden {
    let encoded = |text: &SecretString| SecretString::from(BASE64_STANDARD.encode(text.expose_secret()));
    Hidden::new(match login {
        Login::Password { user, password } => {
            let quoted = password.expose_secret().replace('\\', "\\\\").replace('"', "\\\"");
            vec![quoted.into(), encoded(password), encoded(&plain(user, password)), password.clone()]
        }
        Login::Bearer { user, token } => {
            let forms = [xoauth2(user, token), oauthbearer(user, token, host, port), token.clone()];
            forms.iter().map(encoded).chain([token.clone()]).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_look_as_the_standards_want_and_are_known_again() {
        let token = SecretString::from("0123456789".to_owned());
        // RFC 7628 section 4.1.
        let want = "n,a=a=3Db@c=2Cd,\x01host=h\x01port=143\x01auth=Bearer 0123456789\x01\x01";
        assert_eq!(oauthbearer("a=b@c,d", &token, "h", 143).expose_secret(), want);
        assert_eq!(xoauth2("a=b@c,d", &token).expose_secret(), "user=a=b@c,d\x01auth=Bearer 0123456789\x01\x01");
        assert_eq!(plain("u", &token).expose_secret(), "\x000123456789".replacen('\0', "\0u\0", 1));
        let bearer = Login::Bearer { user: "u".into(), token: token.clone() };
        let password = Login::Password { user: "u".into(), password: "a\"very\"long\\one".to_owned().into() };
        let table = [
            (&bearer, "0123456789".to_owned()),
            (&bearer, BASE64_STANDARD.encode(xoauth2("u", &token).expose_secret())),
            (&bearer, BASE64_STANDARD.encode(oauthbearer("u", &token, "h", 143).expose_secret())),
            (&password, "a\"very\"long\\one".to_owned()),
            (&password, "a\\\"very\\\"long\\\\one".to_owned()),
            (&password, BASE64_STANDARD.encode("a\"very\"long\\one")),
            (&password, BASE64_STANDARD.encode("\0u\0a\"very\"long\\one")),
        ];
        for (login, said) in table {
            assert_eq!(hidden(login, "h", 143).conceal(&said), "[secret]", "{said}");
        }
    }
}
