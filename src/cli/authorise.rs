//! Leads somebody through an authorisation: what to open, what to type, how it ended.

use std::io::{BufRead, IsTerminal, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::json;

use super::CliError;
use super::client::{Client, escape};
use super::output::{Output, harmless};
use super::tickets::short_time;
use crate::admin::credential::AuthorisationJson;

/// How often the daemon is asked how far it is.
const EVERY: Duration = Duration::from_secs(1);
/// The longest line that is taken from a terminal.
const LONGEST: u64 = 16 << 10;

/// How far somebody is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Until they know what to open.
    Begun,
    /// Until it was granted or refused.
    Ended,
}

pub(super) fn lead(client: &Client, out: &mut Output, begun: &AuthorisationJson, until: Until) -> Result<(), CliError> {
    let path = format!("/v1/channels/{}/authorisations/{}", escape(&begun.channel), escape(&begun.id));
    if out.wants_json() {
        line(out, &json!({"authorisation": begun}))?;
    } else {
        instruct(out, begun)?;
    }
    if until == Until::Begun {
        return if out.wants_json() { Ok(()) } else { out.line(&format!("The authorisation is {}.", begun.id)) };
    }
    let (typed, keep) = typed(begun);
    let ended = loop {
        match typed.recv_timeout(EVERY) {
            Ok(pasted) => {
                // A wrong paste ends nothing: it is told, and the next one is waited for.
                let told: Result<AuthorisationJson, CliError> =
                    client.post(&format!("{path}/answer"), &json!({"redirected_to": pasted}));
                match told {
                    Err(error) if out.wants_json() => line(out, &json!({"said": error.to_string()}))?,
                    Err(error) => out.line(&error.to_string())?,
                    Ok(_) => {}
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let now: AuthorisationJson = client.get(&path)?;
        if now.state != "waiting" {
            break now;
        }
    };
    drop(keep);
    finish(out, &ended)
}

fn line<T: serde::Serialize>(out: &mut Output, value: &T) -> Result<(), CliError> {
    out.json_line(value)?;
    out.flush()
}

fn instruct(out: &mut Output, begun: &AuthorisationJson) -> Result<(), CliError> {
    let until = short_time(&begun.expires_at);
    let fit = |text: &Option<String>| harmless(text.as_deref().unwrap_or_default(), false);
    match begun.flow.as_str() {
        "code" => {
            out.line("Open this address in a browser, and sign in as the mailbox's account:")?;
            out.line(&format!("\n  {}\n", fit(&begun.url)))?;
            if std::io::stdin().is_terminal() {
                out.line("If the browser then cannot show its last page, paste that page's address here.")?;
            }
        }
        "device" => {
            out.line("Open this address in a browser, on any machine, and sign in as the mailbox's account:")?;
            out.line(&format!("\n  {}\n", fit(&begun.verification_url)))?;
            out.line(&format!("and type this code there:\n\n  {}\n", fit(&begun.user_code)))?;
            if begun.verification_url_complete.is_some() {
                out.line(&format!("Or open {}", fit(&begun.verification_url_complete)))?;
            }
        }
        _ => return out.line(&format!("Trying the application's own access to {} …", begun.channel)),
    }
    out.line(&format!("Waiting for the consent until {until} …"))
}

/// Lines that are typed on a terminal. Elsewhere nothing comes, and the sender is kept so that waiting is quiet.
fn typed(begun: &AuthorisationJson) -> (Receiver<String>, Option<mpsc::Sender<String>>) {
    let (sender, receiver) = mpsc::channel();
    if begun.flow != "code" || !std::io::stdin().is_terminal() {
        return (receiver, Some(sender));
    }
    let keep = sender.clone();
    // It ends with the process, or with the terminal.
    std::thread::spawn(move || {
        loop {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(LONGEST).read_line(&mut text);
            let end = !matches!(read, Ok(1..));
            if end || (!text.trim().is_empty() && sender.send(text.trim().to_owned()).is_err()) {
                return;
            }
        }
    });
    (receiver, Some(keep))
}

fn finish(out: &mut Output, ended: &AuthorisationJson) -> Result<(), CliError> {
    if out.wants_json() {
        line(out, &json!({"authorisation": ended}))?;
    }
    if ended.state != "granted" {
        let said = ended.said.clone().unwrap_or_else(|| "it was refused".into());
        let said = format!("{} was not connected: {}", ended.channel, harmless(&said, false));
        return Err(CliError::new(said, ended.action.as_deref().unwrap_or("try again")));
    }
    if out.wants_json() {
        return Ok(());
    }
    let who = ended.account.as_deref().unwrap_or("the application itself");
    out.line(&format!("Granted by  {}", harmless(who, false)))?;
    out.line(&format!("Scopes      {}", harmless(&ended.scopes.join(" "), false)))?;
    let until = match (&ended.refresh_expires_at, ended.flow.as_str()) {
        (Some(at), _) => format!("{at}, unless it is renewed before"),
        (None, "app") => "as long as the application is allowed to".into(),
        (None, _) => "until it is withdrawn".into(),
    };
    out.line(&format!("Lasts       {until}"))?;
    out.line(&format!("{} is connected; new unread mail becomes tickets from now on", ended.channel))
}
