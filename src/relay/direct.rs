//! The kind `direct`: mail goes to the servers of each recipient's domain (RFC 5321 section 5).
//!
//! TLS is used where it is offered, with whatever certificate. Where the domain says more, that holds: DANE first
//! (RFC 7672), which only answers that DNSSEC vouches for can ask for, then MTA-STS (RFC 8461 section 2).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::client::{Client, Peer};
use super::config::Security;
use super::job::{Beyond, Job, RecipientOutcome, Reply};
use super::pool::{Held, Pool};
use super::rest::Resting;
use super::route;
use super::server::{At, Exchange, Parcel, Sent, exchange};
use super::sts::{Mode, Policies, Policy};
use crate::metrics::Metrics;
use crate::net::connect::Connector;
use crate::net::names::{Dane, Mx, Names, NoAnswer};
use crate::net::trust::Trust;

/// No more addresses of one server are tried in one attempt.
const MOST_ADDRESSES: usize = 4;

/// Delivery to the servers of domains.
pub(super) struct Direct {
    pub name: String,
    pub port: u16,
    pub hostname: String,
    pub command_timeout: Duration,
    pub data_timeout: Duration,
    pub ipv6: bool,
    pub dane: bool,
    /// Attempts at the same time for one domain.
    pub concurrency: usize,
    pub names: Names,
    pub connector: Connector,
    pub policies: Option<Policies>,
    pub pool: Arc<Pool>,
    pub resting: Resting,
    pub places: Mutex<HashMap<String, Weak<Semaphore>>>,
    pub metrics: Metrics,
}

/// Where a domain's mail goes, and what it says of the way.
struct Route {
    hosts: Vec<String>,
    /// DNSSEC vouches for the hosts.
    secure: bool,
    policy: Option<Policy>,
}

/// How a connection to one server must be protected.
struct Guard {
    word: &'static str,
    security: Security,
    connector: Connector,
    /// The name by which TLS asks for the server.
    name: String,
}

impl Direct {
    pub async fn deliver(&self, parcel: Parcel<'_>) -> Sent {
        let mut outcomes: Vec<Option<RecipientOutcome>> = vec![None; parcel.job.recipients.len()];
        // The outbox gives a job the recipients of one domain, so that one server answers for all of them.
        let (mut transport, mut beyond) = (None, Beyond::Silence);
        for (domain, members) in by_domain(parcel.job) {
            let recipients = members.iter().map(|at| parcel.job.recipients[*at].clone()).collect();
            let job = Job { recipients, ..parcel.job.clone() };
            let sent = Box::pin(self.domain(&domain, Parcel { job: &job, ..parcel })).await;
            for (at, outcome) in members.into_iter().zip(sent.recipients) {
                outcomes[at] = Some(outcome);
            }
            (transport, beyond) = (sent.transport.or(transport), sent.beyond);
        }
        let missing = || RecipientOutcome::Delayed(Reply::trouble("4.3.0", "nothing was tried"));
        let recipients = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect();
        Sent { recipients, transport, beyond }
    }

    async fn domain(&self, domain: &str, parcel: Parcel<'_>) -> Sent {
        let place = self.place(domain);
        let Ok(_place) = place.acquire().await else {
            return Sent::delayed(parcel, Reply::trouble("4.3.2", "the relay is being closed"));
        };
        let route = match self.route(domain).await {
            Ok(route) => route,
            Err(outcome) => return Sent::all(parcel, outcome),
        };
        let mut why = None;
        for host in &route.hosts {
            match self.host(domain, host, &route, parcel).await {
                Ok(sent) => return sent,
                Err(outcome) => why = Some(worse(why, outcome)),
            }
        }
        let none = || RecipientOutcome::Delayed(Reply::trouble("4.4.4", "the domain has no server"));
        Sent::all(parcel, why.unwrap_or_else(none))
    }

    /// The places of a domain; they go away with the last attempt that holds one.
    fn place(&self, domain: &str) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get(domain).and_then(Weak::upgrade) {
            return known;
        }
        places.retain(|_, place| place.strong_count() > 0);
        let place = Arc::new(Semaphore::new(self.concurrency));
        places.insert(domain.to_owned(), Arc::downgrade(&place));
        place
    }

    async fn route(&self, domain: &str) -> Result<Route, RecipientOutcome> {
        if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address = literal.strip_prefix("ipv6:").unwrap_or(literal);
            return Ok(Route { hosts: vec![address.to_owned()], secure: false, policy: None });
        }
        let failed = |code, enhanced, said: String| RecipientOutcome::Failed(Reply::new(code, Some(enhanced), &said));
        let (hosts, secure) = match self.names.mx(domain).await.map_err(|error| unanswered(&error))? {
            Mx::Hosts { hosts, secure } => (hosts, secure),
            Mx::Implicit { secure } => (vec![(0, domain.to_owned())], secure),
            Mx::Null => return Err(failed(556, "5.1.10", format!("{domain} takes no mail (null MX)"))),
            Mx::NoDomain => return Err(failed(550, "5.1.2", format!("the domain {domain} does not exist"))),
        };
        let chance = || getrandom::u64().unwrap_or_default();
        let hosts = route::order(&hosts, &self.hostname, chance)
            .ok_or_else(|| failed(554, "5.4.6", format!("mail for {domain} would come back to this host")))?;
        let policy = match &self.policies {
            Some(policies) => policies.of(domain, &self.names).await,
            None => None,
        };
        Ok(Route { hosts, secure, policy })
    }

    /// One server. An error is why the next one is tried.
    async fn host(
        &self,
        domain: &str,
        host: &str,
        route: &Route,
        parcel: Parcel<'_>,
    ) -> Result<Sent, RecipientOutcome> {
        let delayed = |enhanced, said: String| RecipientOutcome::Delayed(Reply::trouble(enhanced, &said));
        let now = Instant::now();
        if let Some(left) = self.resting.left(host, now) {
            return Err(delayed(
                "4.4.1",
                format!("{host} could not be reached, and rests for {} s", left.as_secs() + 1),
            ));
        }
        let guard = self.guard(domain, host, route).await?;
        let (key, at) = (format!("{} {host}", guard.word), At { host, port: self.port });
        if let Some(held) = self.pool.take(&key)
            && let Exchange::Done(sent) = exchange(held, parcel, &self.pool, &key, at).await
        {
            return Ok(sent);
        }
        let mut why = None;
        for address in self.addresses(host).await?.into_iter().take(MOST_ADDRESSES) {
            let reply = match self.open(address, &guard).await {
                Ok(client) => {
                    self.resting.answered(host);
                    match exchange(Held { client, mails: 0 }, parcel, &self.pool, &key, at).await {
                        Exchange::Done(sent) => return Ok(sent),
                        Exchange::Unheard(sent) => sent.recipients.first().map(|outcome| outcome.reply().clone()),
                    }
                }
                Err(reply) => Some(reply),
            };
            why = reply.or(why);
        }
        let chance = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        self.resting.failed(host, now, chance);
        // A server that refuses to talk to us says nothing about the recipients.
        Err(RecipientOutcome::Delayed(why.unwrap_or_else(|| Reply::trouble("4.4.1", "no address answered"))))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, RecipientOutcome> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let found = self.names.addresses(host, self.ipv6).await.map_err(|error| unanswered(&error))?;
        if found.is_empty() {
            let said = format!("the mail server {host} has no address");
            return Err(RecipientOutcome::Failed(Reply::new(550, Some("5.4.4"), &said)));
        }
        Ok(found)
    }

    /// What the domain asks of a connection to one of its servers.
    async fn guard(&self, domain: &str, host: &str, route: &Route) -> Result<Guard, RecipientOutcome> {
        let delayed = |enhanced, said: String| RecipientOutcome::Delayed(Reply::trouble(enhanced, &said));
        let trust = |trust: Trust| self.connector.trusting(trust).map_err(|error| delayed("4.3.0", error.to_string()));
        if self.dane && route.secure {
            // An answer that does not come may have been held back: nothing is sent without it (RFC 7672 section 2.1).
            let found = self.names.tlsa(host, self.port).await.map_err(|error| unanswered(&error))?;
            if let Some(Dane { base, records }) = found {
                let connector = trust(Trust::Dane { records, names: vec![domain.to_owned()] })?;
                return Ok(Guard { word: "dane", security: Security::Starttls, connector, name: base });
            }
        }
        match &route.policy {
            Some(policy) if policy.mode == Mode::Enforce && !policy.allows(host) => {
                Err(delayed("4.7.5", format!("the MTA-STS policy of {domain} does not name its mail server {host}")))
            }
            Some(policy) if policy.mode == Mode::Enforce => {
                let (connector, name) = (self.connector.clone(), host.to_owned());
                Ok(Guard { word: "mta-sts", security: Security::Starttls, connector, name })
            }
            _ => {
                let connector = trust(Trust::Anybody)?;
                let name = host.to_owned();
                Ok(Guard { word: "opportunistic", security: Security::Opportunistic, connector, name })
            }
        }
    }

    async fn open(&self, address: IpAddr, guard: &Guard) -> Result<Client, Reply> {
        let (host, address) = (guard.name.as_str(), address.to_string());
        let peer = Peer {
            host,
            address: Some(&address),
            port: self.port,
            security: guard.security,
            hostname: &self.hostname,
            command_timeout: self.command_timeout,
            data_timeout: self.data_timeout,
        };
        let mut opened = Client::open(&guard.connector, &peer).await;
        if let Err(reply) = &opened
            && guard.security == Security::Opportunistic
            && reply.enhanced.as_deref() == Some("4.7.5")
        {
            tracing::debug!(host, %reply, "TLS failed; trying in clear, since nothing asks for TLS");
            opened = Client::open(&guard.connector, &Peer { security: Security::None, ..peer }).await;
        }
        let protection = match &opened {
            Err(_) => "failed",
            Ok(client) if client.tls_info().is_none() => "clear",
            Ok(_) if guard.security == Security::Opportunistic => "unverified",
            Ok(_) => "verified",
        };
        self.metrics.relay_connected(&self.name, protection);
        opened
    }
}

/// The recipients by their domains in ASCII, in the order of the job.
fn by_domain(job: &Job) -> Vec<(String, Vec<usize>)> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for (at, recipient) in job.recipients.iter().enumerate() {
        let domain = recipient.address.ascii_domain().into_owned();
        match groups.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, members)) => members.push(at),
            None => groups.push((domain, vec![at])),
        }
    }
    groups
}

fn unanswered(error: &NoAnswer) -> RecipientOutcome {
    RecipientOutcome::Delayed(Reply::trouble("4.4.3", &error.to_string()))
}

/// A refusal for good counts only if every server gives one.
fn worse(before: Option<RecipientOutcome>, now: RecipientOutcome) -> RecipientOutcome {
    match (before, now) {
        (Some(before @ RecipientOutcome::Delayed(_)), RecipientOutcome::Failed(_)) => before,
        (_, now) => now,
    }
}

#[cfg(test)]
mod tests;
