//! Logging in to a server (RFC 4954), step by step.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use smtp_proto::{AUTH_LOGIN, AUTH_OAUTHBEARER, AUTH_PLAIN, AUTH_XOAUTH2};

use super::client::{Client, Peer};
use super::config::Mechanism;
use super::job::Reply;
use crate::accounts::{Login, sasl};
use crate::net::connect::is_loopback;

/// Logs in. A credential goes over TLS only, or to this machine.
pub(super) async fn log_in(
    client: &mut Client,
    login: &Login,
    wanted: Mechanism,
    peer: &Peer<'_>,
) -> Result<(), Reply> {
    if client.tls_info().is_none() && !is_loopback(peer.host) {
        return Err(Reply::trouble("4.7.11", "a credential is not sent over a connection in clear"));
    }
    let offered = client.mechanisms;
    let mechanism = candidates(login, wanted).iter().copied().find(|mechanism| offered & mechanism != 0);
    let mechanism = mechanism.ok_or_else(|| {
        let needed = named(candidates(login, wanted).iter().fold(0, |all, mechanism| all | mechanism));
        let offered = named(offered);
        let (host, user) = (peer.host, user(login));
        Reply::trouble("4.7.0", &format!("{host} offers {offered} to log in, and the login of {user} needs {needed}"))
    })?;
    let answer = match (login, mechanism) {
        (Login::Password { user, password }, AUTH_LOGIN) => by_prompts(client, user, password).await?,
        _ => at_once(client, login, mechanism, peer).await?,
    };
    if answer.code == 235 {
        return Ok(());
    }
    // A server that repeats what it cannot read repeats the credential.
    let said = sasl::hidden(login, peer.host, peer.port).conceal(&answer.text);
    // Alone, a server's words such as "authentication failed" leave open who failed to log in where.
    let said = format!("{} refuses the login of {}: {said}", peer.host, user(login));
    Err(Reply::new(answer.code, answer.enhanced.as_deref(), &said))
}

/// Mechanisms that we know, by their names (RFC 4954 section 3).
const NAMES: &[(u64, &str)] =
    &[(AUTH_PLAIN, "PLAIN"), (AUTH_LOGIN, "LOGIN"), (AUTH_XOAUTH2, "XOAUTH2"), (AUTH_OAUTHBEARER, "OAUTHBEARER")];

fn named(mechanisms: u64) -> String {
    let names: Vec<&str> =
        NAMES.iter().filter(|(mechanism, _)| mechanisms & mechanism != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "nothing that we know".into() } else { names.join(" or ") }
}

fn user(login: &Login) -> &str {
    match login {
        Login::Password { user, .. } | Login::Bearer { user, .. } => user,
    }
}

/// The mechanisms that fit, the preferred one first.
fn candidates(login: &Login, wanted: Mechanism) -> &'static [u64] {
    match (login, wanted) {
        (Login::Password { .. }, Mechanism::Auto) => &[AUTH_PLAIN, AUTH_LOGIN],
        (Login::Password { .. }, Mechanism::Plain) => &[AUTH_PLAIN],
        (Login::Password { .. }, Mechanism::Login) => &[AUTH_LOGIN],
        (Login::Bearer { .. }, Mechanism::Auto) => &[AUTH_XOAUTH2, AUTH_OAUTHBEARER],
        (Login::Bearer { .. }, Mechanism::Xoauth2) => &[AUTH_XOAUTH2],
        (Login::Bearer { .. }, Mechanism::Oauthbearer) => &[AUTH_OAUTHBEARER],
        _ => &[],
    }
}

/// PLAIN (RFC 4616), XOAUTH2 and OAUTHBEARER (RFC 7628): everything stands in the initial response.
async fn at_once(client: &mut Client, login: &Login, mechanism: u64, peer: &Peer<'_>) -> Result<Reply, Reply> {
    let initial = initial_response(login, mechanism, peer);
    let command: SecretString = format!("AUTH {} {}\r\n", initial.0, STANDARD.encode(initial.1.expose_secret())).into();
    let answer = client.command(command.expose_secret()).await?;
    if answer.code != 334 {
        return Ok(answer);
    }
    // The server tells why in a challenge, and refuses once that is acknowledged (RFC 7628 section 3.2.3).
    let why = STANDARD.decode(answer.text.trim()).unwrap_or_default();
    let acknowledged = if mechanism == AUTH_OAUTHBEARER { sasl::OAUTHBEARER_ACKNOWLEDGED } else { "" };
    let refused = client.command(&format!("{acknowledged}\r\n")).await?;
    let said = format!("{} {}", refused.text, String::from_utf8_lossy(&why));
    Ok(Reply::new(refused.code, refused.enhanced.as_deref(), &said))
}

fn initial_response(login: &Login, mechanism: u64, peer: &Peer<'_>) -> (&'static str, SecretString) {
    match login {
        Login::Password { user, password } => ("PLAIN", sasl::plain(user, password)),
        Login::Bearer { user, token } if mechanism == AUTH_XOAUTH2 => ("XOAUTH2", sasl::xoauth2(user, token)),
        Login::Bearer { user, token } => ("OAUTHBEARER", sasl::oauthbearer(user, token, peer.host, peer.port)),
    }
}

/// LOGIN: the prompts are told apart by their order, since servers word them as they like.
async fn by_prompts(client: &mut Client, user: &str, password: &SecretString) -> Result<Reply, Reply> {
    let mut answer = client.command("AUTH LOGIN\r\n").await?;
    for part in [user, password.expose_secret()] {
        if answer.code != 334 {
            return Ok(answer);
        }
        let line: SecretString = format!("{}\r\n", STANDARD.encode(part)).into();
        answer = client.command(line.expose_secret()).await?;
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::relay::config::Security;

    #[test]
    fn initial_responses() {
        let peer = Peer {
            host: "smtp.example.com",
            address: None,
            port: 587,
            security: Security::Starttls,
            hostname: "gw",
            command_timeout: Duration::from_secs(1),
            data_timeout: Duration::from_secs(1),
        };
        let bearer = Login::Bearer { user: "a=b@c,d".into(), token: "TOK".to_owned().into() };
        let password = Login::Password { user: "u".into(), password: "p".to_owned().into() };
        let table = [
            (&password, AUTH_PLAIN, "PLAIN", "\0u\0p"),
            (&bearer, AUTH_XOAUTH2, "XOAUTH2", "user=a=b@c,d\x01auth=Bearer TOK\x01\x01"),
            // RFC 7628 section 4.1.
            (
                &bearer,
                AUTH_OAUTHBEARER,
                "OAUTHBEARER",
                "n,a=a=3Db@c=2Cd,\x01host=smtp.example.com\x01port=587\x01auth=Bearer TOK\x01\x01",
            ),
        ];
        for (login, mechanism, name, text) in table {
            let (said, secret) = initial_response(login, mechanism, &peer);
            assert_eq!((said, secret.expose_secret()), (name, text));
        }
        assert_eq!(candidates(&bearer, Mechanism::Auto), [AUTH_XOAUTH2, AUTH_OAUTHBEARER]);
        assert!(candidates(&bearer, Mechanism::Plain).is_empty());
        assert!(candidates(&password, Mechanism::Xoauth2).is_empty());
    }
}
