//! Accepting a mail: the instant at which we take responsibility for it.
//!
//! Every door ends here. What comes out is a receipt, given only when the mail's record stands synced in the accept
//! log, or a refusal with its reason. Must not know: which protocol the door speaks, what a ticket is, when or how
//! the mail is filed.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Deserialize;

use crate::mail::headers::{self, HeaderSection};
use crate::mail::origin::OriginKind;
use crate::mail::{Address, Envelope, MailId, Origin, Reason};
use crate::metrics::Metrics;
use crate::store::{
    Appending, Body, BodyWriter, Delivery, Incoming, OutgoingMeta, Receipt, Refused, SpoolError, Store,
};
use crate::ticket::channel::{AuthPolicy, Directory};
use crate::ticket::recipient;

/// Limits on what is accepted, for every door.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest header section, at most 1 MiB.
    #[serde(with = "crate::units::bytes")]
    pub max_header_bytes: u64,
    /// A mail with more Received fields than this is looping (RFC 5321 section 6.3 asks for at least 100).
    pub max_received: usize,
}

impl Config {
    /// `max_header_bytes` as a length in memory.
    pub fn header_limit(&self) -> usize {
        usize::try_from(self.max_header_bytes).unwrap_or(usize::MAX)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { max_header_bytes: 256 * 1024, max_received: 100 }
    }
}

/// A mail as a door has it once all its bytes are there.
#[derive(Debug)]
pub struct Arrival {
    pub id: MailId,
    pub received_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    pub body: Body,
}

/// A mail that was said no to after its data had been seen.
#[derive(Debug)]
pub struct TurnedAway {
    pub id: MailId,
    pub received_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    pub reason: Reason,
    /// How large it was, or how much of it was read.
    pub size: u64,
    /// Its first bytes, with the header section.
    pub head: Vec<u8>,
}

/// A mail that was handed in to leave, with all its bytes.
#[derive(Debug)]
pub struct Leaving {
    pub id: MailId,
    pub received_at: Timestamp,
    /// The return path, and whom it is for.
    pub envelope: Envelope,
    pub origin: Origin,
    /// The channel whose mail it is.
    pub channel: Address,
    pub outgoing: OutgoingMeta,
    pub body: Body,
}

/// Why a mail was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It will never be: the sender is told so.
    Permanent(Reason),
    /// There is no room on the disk just now.
    Full,
    /// Our own trouble, in words for the log.
    Trouble(String),
}

/// A mail on its way into the log. Dropping it takes nothing back: only nobody hears of the end.
#[derive(Debug)]
pub struct Accepting {
    appending: Appending,
    metrics: Metrics,
    end: End,
}

#[derive(Debug)]
enum End {
    Taken(Taken),
    Refused(Reason),
}

/// What is told of a mail once it is accepted.
#[derive(Debug)]
struct Taken {
    id: MailId,
    kind: OriginKind,
    peer: String,
    from: String,
    size: u64,
    started: Instant,
}

impl Accepting {
    /// Returns once the mail, or the note of its refusal, stands synced on disk.
    pub async fn done(self) -> Result<Receipt, Refusal> {
        let receipt = self.appending.done().await.map_err(refusal)?;
        match self.end {
            End::Refused(reason) => Err(Refusal::Permanent(reason)),
            End::Taken(Taken { id, kind, peer, from, size, started }) => {
                // Nobody waits for a pulled mail, and its end is looked at when it suits.
                let took = (kind != OriginKind::Imap).then(|| started.elapsed());
                self.metrics.mail_accepted(kind.as_str(), size, took);
                tracing::info!(mail = %id, door = kind.as_str(), %peer, from, size, "accepted");
                Ok(receipt)
            }
        }
    }
}

fn refusal(error: SpoolError) -> Refusal {
    match error {
        SpoolError::Full => Refusal::Full,
        SpoolError::Trouble(said) => Refusal::Trouble(said),
    }
}

/// What the doors hold; cheap to clone.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    directory: Arc<ArcSwap<Directory>>,
    config: Arc<ArcSwap<Config>>,
    metrics: Metrics,
}

impl Intake {
    /// An intake into a store, for the channels of a directory that may be exchanged at any time.
    pub fn new(
        store: Store,
        directory: Arc<ArcSwap<Directory>>,
        config: Arc<ArcSwap<Config>>,
        metrics: Metrics,
    ) -> Self {
        Self { store, directory, config, metrics }
    }

    /// Whether a mail of so many bytes would find room now, so that a door can say so before they are sent.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.store.has_room(bytes)
    }

    /// A place for the bytes of a mail to stream into. The door counts them against its own limit.
    pub fn body(&self, id: MailId) -> BodyWriter {
        self.store.body(id, u64::MAX)
    }

    /// Takes responsibility for a mail. `Ok` means that it stands synced on disk.
    pub async fn accept(&self, arrival: Arrival) -> Result<Receipt, Refusal> {
        self.begin(arrival).await?.done().await
    }

    /// The first part of `accept`: when it returns, the mail has its place in the log behind those of its door, and
    /// responsibility is taken once `Accepting::done` has returned. Whoever has many mails begins one after the other,
    /// in their order, and waits for all together.
    pub async fn begin(&self, arrival: Arrival) -> Result<Accepting, Refusal> {
        let started = Instant::now();
        let kind = arrival.origin.kind;
        let size = arrival.body.size();
        let (deliveries, review) = match self.examine(&arrival) {
            Ok(found) => found,
            Err(reason) => {
                let Arrival { id, received_at, envelope, origin, body } = arrival;
                let head = body.head().to_vec();
                let away = TurnedAway { id, received_at, envelope, origin, reason, size, head };
                if away.origin.remote.is_none() {
                    self.turned_away(away);
                    return Err(Refusal::Permanent(reason));
                }
                return self.turn_away_for_good(away);
            }
        };
        let Arrival { id, received_at, envelope, origin, body } = arrival;
        let peer = origin.peer.clone();
        let from = envelope.mail_from.as_ref().map_or_else(|| "<>".to_owned(), Address::to_string);
        let incoming = Incoming { id, received_at, envelope, origin, deliveries, review, outgoing: None, body };
        let appending = self.store.hand_over(incoming).await.map_err(refusal)?;
        let taken = Taken { id, kind, peer, from, size, started };
        Ok(Accepting { appending, metrics: self.metrics.clone(), end: End::Taken(taken) })
    }

    /// Ends the wait of pulled mails that were begun for others to share a sync with.
    pub fn hurry(&self) {
        self.store.hurry();
    }

    /// How large a header section may be.
    pub fn header_limit(&self) -> usize {
        self.config.load().header_limit()
    }

    /// Takes responsibility for a mail that leaves. `Ok` means that it stands synced on disk.
    pub async fn accept_leaving(&self, leaving: Leaving) -> Result<Receipt, Refusal> {
        let started = Instant::now();
        let Leaving { id, received_at, envelope, origin, channel, outgoing, body } = leaving;
        let config = self.config.load();
        let read = HeaderSection::read(body.head(), config.header_limit());
        let hops = read.map_err(Refusal::Permanent)?.values("Received").count();
        if hops > config.max_received {
            return Err(Refusal::Permanent(Reason::LoopHops));
        }
        let (kind, size, recipients) = (origin.kind.as_str(), body.size(), envelope.rcpt_to.len());
        let (author, said) = (outgoing.author.clone(), channel.to_string());
        let deliveries = vec![Delivery { channel, rcpt_to: Vec::new() }];
        let outgoing = Some(outgoing);
        let incoming = Incoming { id, received_at, envelope, origin, deliveries, review: false, outgoing, body };
        match self.store.spool(incoming).await {
            Ok(receipt) => {
                self.metrics.mail_accepted(kind, size, Some(started.elapsed()));
                tracing::info!(mail = %id, door = kind, author, channel = said, recipients, size, "accepted to be sent");
                Ok(receipt)
            }
            Err(error) => Err(refusal(error)),
        }
    }

    /// Everything that can be said no to, before anything is promised.
    fn examine(&self, arrival: &Arrival) -> Result<(Vec<Delivery>, bool), Reason> {
        let config = self.config.load();
        let directory = self.directory.load();
        let section = HeaderSection::read(arrival.body.head(), config.header_limit())?;
        headers::check_acceptable(&section)?;
        if section.values("Received").count() > config.max_received {
            return Err(Reason::LoopHops);
        }
        let found = recipient::resolve(&arrival.envelope.rcpt_to, &directory, &section)?;
        let failed = arrival.origin.auth.failed();
        let mut review = false;
        for delivery in &found {
            let Some(channel) = directory.by_address(&delivery.channel.key()) else { continue };
            if arrival.body.size() > channel.max_mail_bytes {
                return Err(Reason::TooLarge);
            }
            match channel.auth_policy {
                AuthPolicy::Refuse if failed => return Err(Reason::AuthFailed),
                AuthPolicy::Review if failed => review = true,
                _ => {}
            }
        }
        let deliveries = found.into_iter().map(|one| Delivery { channel: one.channel, rcpt_to: one.rcpt_to }).collect();
        Ok((deliveries, review))
    }

    /// Notes a mail that was pulled and said no to. Its mailbox is not told before the note stands synced: then
    /// `Accepting::done` gives the reason back as a permanent refusal.
    pub fn turn_away_for_good(&self, away: TurnedAway) -> Result<Accepting, Refusal> {
        let (kind, reason) = (away.origin.kind.as_str(), away.reason);
        tracing::info!(mail = %away.id, door = kind, peer = %away.origin.peer, reason = reason.code(), "refused");
        self.metrics.mail_refused(kind, reason.code());
        let appending = self.store.hand_over_refused(self.refused(away)).map_err(refusal)?;
        Ok(Accepting { appending, metrics: self.metrics.clone(), end: End::Refused(reason) })
    }

    /// Notes a mail that was said no to after it was seen, by us or by its door: the sender keeps it, we keep its
    /// header section, so that somebody who asks what became of it gets an answer.
    pub fn turned_away(&self, away: TurnedAway) {
        let (kind, reason) = (away.origin.kind.as_str(), away.reason.code());
        self.metrics.mail_refused(kind, reason);
        tracing::info!(mail = %away.id, door = kind, peer = %away.origin.peer, reason, "refused");
        self.store.refused(self.refused(away));
    }

    fn refused(&self, away: TurnedAway) -> Refused {
        let TurnedAway { id, received_at, envelope, origin, reason, size, head } = away;
        let deliveries = by_channel(&self.directory.load(), &envelope);
        Refused { id, received_at, envelope, origin, deliveries, reason, size, head }
    }
}

/// The recipients of a refused mail by channel. Where none is a channel's, the intake address that was used stands
/// for one, so that the refusal is found under it.
fn by_channel(directory: &Directory, envelope: &Envelope) -> Vec<Delivery> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    for address in &envelope.rcpt_to {
        let Some(channel) = directory.channel_for(address) else { continue };
        match deliveries.iter_mut().find(|delivery| delivery.channel == channel.address) {
            Some(delivery) => delivery.rcpt_to.push(address.clone()),
            None => {
                deliveries.push(Delivery { channel: channel.address.clone(), rcpt_to: vec![address.clone()] });
            }
        }
    }
    if let (true, Some(address)) = (deliveries.is_empty(), envelope.rcpt_to.first()) {
        deliveries.push(Delivery { channel: address.clone(), rcpt_to: envelope.rcpt_to.clone() });
    }
    deliveries
}
