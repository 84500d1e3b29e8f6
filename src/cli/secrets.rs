//! `ticketgate secrets`: the keys of what is kept encrypted.

use serde_json::json;

use super::CliError;
use super::args::SecretCommand;
use super::client::{Client, author};
use super::output::Output;
use super::table::Table;
use super::tickets::print;
use crate::admin::secrets::{RotatedJson, SecretsJson};
use crate::units::count;

pub(super) fn execute(command: SecretCommand, client: &Client, out: &mut Output) -> Result<(), CliError> {
    match command {
        SecretCommand::Show => show(client, out),
        SecretCommand::Rotate { prune } => rotate(client, out, prune),
    }
}

fn show(client: &Client, out: &mut Output) -> Result<(), CliError> {
    let secrets: SecretsJson = client.get("/v1/secrets")?;
    if out.wants_json() {
        return out.json(&secrets);
    }
    let whose = if secrets.writable { "" } else { ", which the daemon does not write" };
    out.line(&format!("{} in {}{whose}", count(secrets.keys.len(), "key", "keys"), secrets.key_file))?;
    let mut table = Table::new(&["KEY", "SECRETS", "USE"]);
    for (index, key) in secrets.keys.iter().enumerate() {
        let used = match (index, key.secrets) {
            (0, _) => "encrypts",
            (_, 0) => "no longer needed",
            _ => "decrypts",
        };
        table.row(vec![key.id.clone(), key.secrets.to_string(), used.into()]);
    }
    print(out, &table)?;
    if secrets.unreadable > 0 {
        let what = count(secrets.unreadable, "secret is", "secrets are");
        out.line(&format!("{what} under a key that is not there: put it back, or reconnect their accounts"))?;
    }
    Ok(())
}

fn rotate(client: &Client, out: &mut Output, prune: bool) -> Result<(), CliError> {
    let done: RotatedJson = client.post("/v1/secrets/rotate", &json!({ "prune": prune, "author": author() }))?;
    if out.wants_json() {
        return out.json(&done);
    }
    let key = if done.added { "a fresh key" } else { "the first key" };
    out.line(&format!(
        "{} encrypted with {key} of {} now",
        count(done.secrets, "secret is", "secrets are"),
        done.key_file
    ))?;
    if done.dropped > 0 {
        out.line(&format!(
            "{} taken out; backups from before need what is gone",
            count(done.dropped, "old key was", "old keys were")
        ))?;
    }
    if done.left > 0 {
        let left = count(done.left, "secret", "secrets");
        out.line(&format!("not encrypted anew, for their accounts are not known any more: {left}"))?;
    }
    Ok(())
}
