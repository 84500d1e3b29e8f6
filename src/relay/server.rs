//! The kind `smtp`: everything goes to one server, on connections that are used again.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::body::Nature;
use super::client::{Client, Peer};
use super::command;
use super::config::{Mechanism, Security};
use super::job::{About, Beyond, Job, RecipientOutcome, Reply, Via};
use super::login::log_in;
use super::pool::{Held, Pool};
use crate::accounts::Login;
use crate::mail::Address;
use crate::metrics::Metrics;
use crate::net::connect::Connector;

/// Gives the login for the account that a job names, or another one than the server has refused; `None` is a server
/// that wants none, or that there is no other. A reply says why there is no login.
pub(super) type Ask = Arc<dyn Fn(Option<Address>, Option<Login>) -> Asked + Send + Sync>;
type Asked = Pin<Box<dyn Future<Output = Result<Option<Login>, Reply>> + Send>>;

/// A mail as it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<'a> {
    pub job: &'a Job,
    /// What we put in front of the mail's own bytes.
    pub front: &'a [u8],
    pub nature: Nature,
}

impl Parcel<'_> {
    pub fn size(&self) -> u64 {
        (self.front.len() + self.job.bytes.len()) as u64
    }
}

/// What became of it, and who said so.
#[derive(Debug)]
pub(super) struct Sent {
    pub recipients: Vec<RecipientOutcome>,
    pub transport: Option<Via>,
    pub beyond: Beyond,
}

impl Sent {
    /// The same for all recipients, without a server that has said so.
    pub fn all(parcel: Parcel<'_>, outcome: RecipientOutcome) -> Self {
        let recipients = vec![outcome; parcel.job.recipients.len()];
        Self { recipients, transport: None, beyond: Beyond::Silence }
    }

    /// Nobody was reached, or nobody could be told anything.
    pub fn delayed(parcel: Parcel<'_>, reply: Reply) -> Self {
        Self::all(parcel, RecipientOutcome::Delayed(reply))
    }
}

/// The connections that may be open, counted for each login: a provider counts them for each mailbox.
pub(super) struct Slots {
    each: usize,
    /// As many as there are channels at most.
    by_login: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Slots {
    pub fn new(each: usize) -> Self {
        Self { each, by_login: Mutex::default() }
    }

    fn of(&self, login: &str) -> Arc<Semaphore> {
        let mut by_login = self.by_login.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = by_login.entry(login.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Arc::clone(slots)
    }
}

/// Why there is no connection to send on, and who has said so. Where our login is at fault nobody has: the next mail
/// would fail as well, and a server that is asked with a wrong password too often locks the account.
struct Unopened {
    reply: Reply,
    transport: Option<Via>,
}

impl Unopened {
    fn ours(reply: Reply) -> Self {
        Self { reply, transport: None }
    }
}

/// One server.
pub(super) struct Server {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub mechanism: Mechanism,
    pub hostname: String,
    pub command_timeout: Duration,
    pub data_timeout: Duration,
    pub connector: Connector,
    pub ask: Ask,
    /// Whether it logs in as the account of the sending channel, so that connections are not shared between channels.
    pub per_sender: bool,
    pub pool: Arc<Pool>,
    pub slots: Slots,
    pub metrics: Metrics,
}

impl Server {
    pub async fn deliver(&self, parcel: Parcel<'_>) -> Sent {
        let account = parcel.job.account.as_ref().filter(|_| self.per_sender);
        let key = account.map(Address::key).unwrap_or_default();
        let Ok(_slot) = self.slots.of(&key).acquire_owned().await else {
            return Sent::delayed(parcel, Reply::trouble("4.3.2", "the relay is being closed"));
        };
        if let Some(held) = self.pool.take(&key)
            && let Exchange::Done(sent) = exchange(held, parcel, &self.pool, &key, self.at()).await
        {
            return sent;
        }
        // No connection waited, or the server had closed it meanwhile.
        match self.open(parcel.job).await {
            Ok(client) => {
                let fresh = Held { client, mails: 0 };
                let (Exchange::Done(sent) | Exchange::Unheard(sent)) =
                    exchange(fresh, parcel, &self.pool, &key, self.at()).await;
                sent
            }
            // A refusal to talk to us at all is about us, and not about the recipients.
            Err(Unopened { reply, transport }) => Sent { transport, ..Sent::delayed(parcel, reply) },
        }
    }

    fn at(&self) -> At<'_> {
        At { host: &self.host, port: self.port }
    }

    async fn open(&self, job: &Job) -> Result<Client, Unopened> {
        let login = (self.ask)(job.account.clone(), None).await.map_err(Unopened::ours)?;
        let client = self.connect().await.map_err(|reply| self.unreached(reply))?;
        match login {
            Some(login) => self.log_in(client, login, job).await.map_err(Unopened::ours),
            None => Ok(client),
        }
    }

    async fn log_in(&self, mut client: Client, login: Login, job: &Job) -> Result<Client, Reply> {
        let refusal = match log_in(&mut client, &login, self.mechanism, &self.peer()).await {
            Ok(()) => return Ok(client),
            Err(reply) => reply,
        };
        // A token may have been revoked before its time.
        let refused_token = matches!(login, Login::Bearer { .. }) && (500..600).contains(&refusal.code);
        if !refused_token {
            return Err(refusal);
        }
        let Some(other) = (self.ask)(job.account.clone(), Some(login)).await? else { return Err(refusal) };
        client.quit().await;
        let mut client = self.connect().await?;
        log_in(&mut client, &other, self.mechanism, &self.peer()).await?;
        Ok(client)
    }

    fn unreached(&self, reply: Reply) -> Unopened {
        // Nobody has answered where there is no connection, or where nothing came on it in time.
        let silent = matches!(reply.enhanced.as_deref(), Some("4.4.1" | "4.4.2"));
        Unopened { transport: (!silent).then(|| self.at().via(None)), reply: reply.about(About::Connection) }
    }

    fn peer(&self) -> Peer<'_> {
        Peer {
            host: &self.host,
            address: None,
            port: self.port,
            security: self.security,
            hostname: &self.hostname,
            command_timeout: self.command_timeout,
            data_timeout: self.data_timeout,
        }
    }

    async fn connect(&self) -> Result<Client, Reply> {
        let opened = Client::open(&self.connector, &self.peer()).await;
        let protection = match (&opened, self.security) {
            (Err(_), _) => "failed",
            (Ok(client), _) if client.tls_info().is_none() => "clear",
            (Ok(_), Security::Opportunistic) => "unverified",
            (Ok(_), _) => "verified",
        };
        self.metrics.relay_connected(&self.name, protection);
        opened
    }
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub host: &'a str,
    pub port: u16,
}

impl At<'_> {
    fn via(self, protection: Option<&str>) -> Via {
        let Self { host, port } = self;
        let protection = protection.map(|protection| format!(" {protection}")).unwrap_or_default();
        Via { host: host.to_owned(), said: format!("{host}:{port}{protection}") }
    }
}

/// How a mail went on one connection.
pub(super) enum Exchange {
    Done(Sent),
    /// The server had closed the connection before it heard anything of this mail: another one may do.
    Unheard(Sent),
}

/// Sends a mail on a connection and gives it back to the pool.
pub(super) async fn exchange(mut held: Held, parcel: Parcel<'_>, pool: &Arc<Pool>, key: &str, at: At<'_>) -> Exchange {
    let protection = held.client.tls_info().unwrap_or_else(|| "in clear".into());
    let transport = Some(at.via(Some(&protection)));
    let beyond = if held.client.extensions.dsn { Beyond::Reports } else { Beyond::Silence };
    let plan = match command::plan(parcel.job, parcel.nature, parcel.size(), &held.client.extensions) {
        Ok(plan) => plan,
        Err(refusal) => {
            pool.put(key, held);
            return Exchange::Done(Sent { transport, beyond, ..Sent::all(parcel, RecipientOutcome::Failed(refusal)) });
        }
    };
    if !held.client.clean && !held.client.reset().await {
        let reply = Reply::trouble("4.4.2", "the server closed the connection");
        return Exchange::Unheard(Sent { transport, ..Sent::delayed(parcel, reply) });
    }
    let recipients = held.client.send(&plan, &[parcel.front, &parcel.job.bytes]).await;
    let unheard = held.client.closed_before;
    held.mails += 1;
    pool.put(key, held);
    let sent = Sent { recipients, transport, beyond };
    if unheard { Exchange::Unheard(sent) } else { Exchange::Done(sent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_one_login_are_not_those_of_another() {
        let slots = Slots::new(1);
        let held = slots.of("busy@example.com").try_acquire_owned().unwrap();
        assert!(slots.of("busy@example.com").try_acquire_owned().is_err());
        assert!(slots.of("quiet@example.com").try_acquire_owned().is_ok());
        drop(held);
        assert!(slots.of("busy@example.com").try_acquire_owned().is_ok());
    }
}
