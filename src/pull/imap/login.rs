//! Getting from a fresh connection to a session: greeting, STARTTLS, the best way to log in, who we are.

use async_imap::imap_proto::{Response, Status};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::wire::{Wire, cut, quoted, told};
use super::{ImapError, Mechanism, Security, Settings};
use crate::accounts::{Login, sasl};
use crate::net::conceal::Hidden;
use crate::net::connect::Connector;

/// Connects and logs in; returns the session's wire and what the server can do.
pub async fn open(connector: &Connector, settings: &Settings, login: &Login) -> Result<(Wire, Vec<String>), ImapError> {
    let (host, port) = (settings.host.as_str(), settings.port);
    let stream = match settings.security {
        Security::Tls => connector.tls(host, port).await,
        Security::Starttls | Security::None => connector.plain(host, port).await,
    };
    let mut wire = Wire::new(stream.map_err(ImapError::Connect)?, settings.command_timeout);
    let pre_authenticated = greeting(&mut wire).await?;
    if settings.security == Security::Starttls {
        // PREAUTH would skip the login, and TLS with it (RFC 3501 section 6.2.1 forbids STARTTLS then).
        if pre_authenticated {
            return Err(ImapError::Protocol("the server skips the login, so TLS cannot begin".into()));
        }
        wire = begin_tls(wire, connector, settings).await?;
    }
    let capabilities = wire.capabilities().await?;
    if !pre_authenticated {
        // A server that repeats what it cannot read repeats the credential.
        wire.hidden = sasl::hidden(login, host, port);
        authenticate(&mut wire, settings, login, &capabilities).await?;
    }
    // A server may offer more, or less, once it knows who asks.
    let capabilities = wire.capabilities().await?;
    if has(&capabilities, "ID") {
        let id = format!("ID (\"name\" \"ticketgate\" \"version\" \"{}\")", env!("CARGO_PKG_VERSION"));
        // Nobody depends on the answer.
        match wire.command("ID", &id, |_| {}).await {
            Ok(_) | Err(ImapError::Refused { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    wire.hidden = Hidden::default();
    Ok((wire, capabilities))
}

/// Whether a capability is offered.
pub fn has(capabilities: &[String], name: &str) -> bool {
    capabilities.iter().any(|one| one == name)
}

async fn greeting(wire: &mut Wire) -> Result<bool, ImapError> {
    wire.read("greeting", |response| match response {
        Response::Data { status: Status::Ok, .. } => Ok(false),
        Response::Data { status: Status::PreAuth, .. } => Ok(true),
        Response::Data { outcome, .. } => {
            Err(ImapError::Refused { command: "greeting", said: told(outcome, &Hidden::default()) })
        }
        _ => Err(ImapError::Protocol("the server did not greet".into())),
    })
    .await?
}

async fn begin_tls(mut wire: Wire, connector: &Connector, settings: &Settings) -> Result<Wire, ImapError> {
    wire.command("STARTTLS", "STARTTLS", |_| {}).await?;
    // Bytes that come in clear from here on reach the handshake, which fails on them.
    let stream = wire.into_stream()?;
    let stream = connector.upgrade(stream, &settings.host, settings.port).await.map_err(ImapError::Connect)?;
    Ok(Wire::new(stream, settings.command_timeout))
}

async fn authenticate(
    wire: &mut Wire,
    settings: &Settings,
    login: &Login,
    capabilities: &[String],
) -> Result<(), ImapError> {
    let offered = |name: &str| has(capabilities, &format!("AUTH={name}"));
    let outcome = match (login, settings.mechanism) {
        (Login::Bearer { user, token }, chosen) => {
            let modern = match chosen {
                Mechanism::Oauthbearer => true,
                Mechanism::Xoauth2 => false,
                _ => offered("OAUTHBEARER") && !offered("XOAUTH2"),
            };
            let (name, text) = if modern {
                ("OAUTHBEARER", sasl::oauthbearer(user, token, &settings.host, settings.port))
            } else {
                ("XOAUTH2", sasl::xoauth2(user, token))
            };
            challenge(wire, name, &text).await
        }
        (Login::Password { user, password }, Mechanism::Login) => {
            plain_login(wire, user, password.expose_secret()).await
        }
        (Login::Password { user, password }, chosen) if chosen == Mechanism::Plain || offered("PLAIN") => {
            challenge(wire, "PLAIN", &sasl::plain(user, password)).await
        }
        (Login::Password { .. }, _) if has(capabilities, "LOGINDISABLED") => {
            let said = match settings.security {
                Security::None => "the server takes no password on this connection; use TLS",
                Security::Tls | Security::Starttls => {
                    "the server takes no passwords from anybody (LOGINDISABLED): connect with OAuth, or allow them there"
                }
            };
            return Err(ImapError::LoginRefused(said.into()));
        }
        (Login::Password { user, password }, _) => plain_login(wire, user, password.expose_secret()).await,
    };
    match outcome {
        Err(ImapError::Refused { said, .. }) => Err(ImapError::LoginRefused(said)),
        other => other,
    }
}

/// AUTHENTICATE with one answer. A second challenge is the server's account of a failure (RFC 7628 section 3.2.3, and
/// XOAUTH2 alike): its acknowledgement gets the tagged NO.
async fn challenge(wire: &mut Wire, mechanism: &'static str, answer: &SecretString) -> Result<(), ImapError> {
    let acknowledged = if mechanism == "OAUTHBEARER" { sasl::OAUTHBEARER_ACKNOWLEDGED } else { "" };
    let tag = wire.send("AUTHENTICATE", &format!("AUTHENTICATE {mechanism}")).await?;
    wire.go_ahead("AUTHENTICATE", &tag).await?;
    wire.line("AUTHENTICATE", &BASE64_STANDARD.encode(answer.expose_secret())).await?;
    let mut account = None;
    for _ in 0..1000 {
        let mut failed = None;
        let mut look = |response: &Response<'_>| {
            if let Response::Continue(outcome) = response {
                failed = Some(outcome.information.as_deref().unwrap_or_default().to_owned());
            }
        };
        match wire.step("AUTHENTICATE", &tag, &mut look).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(ImapError::Refused { command, said }) => {
                let said = account.map_or(said.clone(), |account| cut(&format!("{said} {account}")));
                return Err(ImapError::Refused { command, said });
            }
            Err(other) => return Err(other),
        }
        if let Some(text) = failed {
            let decoded = BASE64_STANDARD.decode(text.trim()).unwrap_or_default();
            account = Some(cut(&wire.hidden.conceal(&String::from_utf8_lossy(&decoded))));
            wire.line("AUTHENTICATE", acknowledged).await?;
        }
    }
    Err(ImapError::Protocol("AUTHENTICATE never ended".into()))
}

/// LOGIN, with literals where a quoted string cannot say it.
async fn plain_login(wire: &mut Wire, user: &str, password: &str) -> Result<(), ImapError> {
    if let (Some(user), Some(password)) = (quoted(user), quoted(password)) {
        return wire.command("LOGIN", &format!("LOGIN {user} {password}"), |_| {}).await.map(drop);
    }
    let tag = wire.send("LOGIN", &format!("LOGIN {{{}}}", user.len())).await?;
    wire.go_ahead("LOGIN", &tag).await?;
    wire.bytes("LOGIN", format!("{user} {{{}}}\r\n", password.len()).as_bytes()).await?;
    wire.go_ahead("LOGIN", &tag).await?;
    wire.line("LOGIN", password).await?;
    wire.finish("LOGIN", &tag, &mut |_| {}).await.map(drop)
}
