//! An answer to a ticket, or the first mail of one: checked, composed, accepted into the log, awaited until it is filed.
//!
//! Owns everything between what a person asked for and the spool. Must not know: HTTP, relays, what the outbox does
//! with it. An answer stands from the moment it is accepted: filing ties it to its ticket and puts it into the outbox.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Deserialize;

pub use super::order::{About, Order};
use super::order::{fingerprint, recipients, subject_of};
use super::{Desk, DeskError, EntryView, checked_author};
use crate::mail::compose::{self, Correspondent};
use crate::mail::{Class, MailId};
use crate::store::rows::{PersonRow, TicketRow, TicketState};
use crate::ticket::letter::Letters;
use crate::ticket::token::TokenKeys;
use crate::ticket::{Channel, Directory};
use crate::units::{count, show_bytes};

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 200;

/// In front of every key that a person gives.
const KEYS: &str = "api ";

/// How many merges are followed from the ticket that was named.
const MERGE_HOPS: usize = 16;

/// `[replies]`: limits of answers and how long one is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest request that brings an answer, its attachments in base64.
    #[serde(with = "crate::units::bytes")]
    pub max_request_bytes: u64,
    /// The largest mail that is written, in bytes as it leaves.
    #[serde(with = "crate::units::bytes")]
    pub max_mail_bytes: u64,
    pub max_recipients: usize,
    pub max_attachments: usize,
    /// How long an answer is waited for until it is filed; then it is acknowledged as accepted.
    #[serde(with = "crate::units::duration")]
    pub wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_request_bytes: 36 << 20,
            max_mail_bytes: 25 << 20,
            max_recipients: 50,
            max_attachments: 50,
            wait: Duration::from_secs(10),
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Replied {
    /// It is an entry of the ticket, and in the outbox.
    Filed(Box<EntryView>),
    /// It is accepted and will be filed; the entry will have this id.
    Accepted(String),
}

/// Writes answers; a cheap handle.
#[derive(Clone, Debug)]
pub struct Replies {
    pub(super) desk: Desk,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) keys: TokenKeys,
    pub(super) letters: Arc<ArcSwap<Letters>>,
    pub(super) config: Arc<ArcSwap<Config>>,
    /// Idempotency keys of the orders that are being carried out.
    under_way: Arc<Mutex<HashSet<String>>>,
}

/// An order that was found to be possible.
pub(super) struct Checked {
    /// Of a ticket that is to be opened what filing will make of it, without a number yet.
    pub ticket: TicketRow,
    pub opens: bool,
    pub channel: Channel,
    pub to: Vec<Correspondent>,
    pub cc: Vec<Correspondent>,
    pub subject: String,
}

/// Takes a key while an order with it is carried out.
struct UnderWay {
    keys: Arc<Mutex<HashSet<String>>>,
    key: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Replies {
    /// Answers are written with what the directory, the letters and the limits say at that moment.
    pub fn new(
        desk: Desk,
        directory: Arc<ArcSwap<Directory>>,
        keys: TokenKeys,
        letters: Arc<ArcSwap<Letters>>,
        config: Arc<ArcSwap<Config>>,
    ) -> Self {
        Self { desk, directory, keys, letters, config, under_way: Arc::default() }
    }

    /// The largest request that an answer may take.
    pub fn max_request_bytes(&self) -> usize {
        usize::try_from(self.config.load().max_request_bytes).unwrap_or(usize::MAX)
    }

    /// Carries out an order. What comes back as `Ok` stands synced on disk.
    pub async fn reply(&self, mut order: Order) -> Result<Replied, DeskError> {
        let _under_way = order.key.as_deref().map(|key| self.begin(key)).transpose()?;
        // Keys of people have a name space of their own among those of acknowledgements and submissions.
        order.key = order.key.map(|key| format!("{KEYS}{key}"));
        let me = self.clone();
        let mail = match blocking(move || me.carry_out(order)).await? {
            Begun::Before(view) => return Ok(Replied::Filed(view)),
            Begun::Now(mail) => mail,
        };
        let order = mail.meta.key.clone().zip(mail.meta.fingerprint.clone());
        let id = self.accept(*mail).await?;
        self.wait_for(id, order).await
    }

    fn begin(&self, key: &str) -> Result<UnderWay, DeskError> {
        if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
            let said = format!("an idempotency key has 1 to {MAX_KEY} bytes without control characters");
            return Err(DeskError::Unusable(said));
        }
        let fresh = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        if !fresh {
            let said = format!("a mail with the key \"{key}\" is being accepted right now; ask again in a moment");
            return Err(DeskError::NotPossible(said));
        }
        Ok(UnderWay { keys: Arc::clone(&self.under_way), key: key.to_owned() })
    }

    /// Everything up to the spool. Blocks on the disk, and on the processor while the mail is composed.
    fn carry_out(&self, order: Order) -> Result<Begun, DeskError> {
        checked_author(&order.author)?;
        let fingerprint = order.key.as_ref().map(|_| fingerprint(&order));
        if let Some(view) = self.before(order.key.as_deref(), fingerprint.as_deref())? {
            return Ok(Begun::Before(Box::new(view)));
        }
        let mut checked = self.check(&order)?;
        if checked.opens {
            // The mail names its ticket (B16), so the number comes first; nothing else is written before the mail is.
            checked.ticket.number =
                self.desk.store.step(|step| step.set_ticket_number_aside().map_err(DeskError::from))?;
        }
        Ok(Begun::Now(Box::new(self.compose(order, checked, fingerprint)?)))
    }

    /// What was done under the same key before.
    fn before(&self, key: Option<&str>, fingerprint: Option<&str>) -> Result<Option<EntryView>, DeskError> {
        let Some(key) = key else { return Ok(None) };
        let Some(row) = self.desk.store.ordered(key)? else { return Ok(None) };
        if row.fingerprint.as_deref() != fingerprint {
            let key = key.strip_prefix(KEYS).unwrap_or(key);
            let said =
                format!("the key \"{key}\" was used for another mail, entry {}; give a new order a new key", row.entry);
            return Err(DeskError::NotPossible(said));
        }
        self.desk.entry(&row.entry).map(Some)
    }

    fn check(&self, order: &Order) -> Result<Checked, DeskError> {
        let config = self.config.load();
        let directory = self.directory.load();
        let (ticket, channel) = self.concerned(&order.about, &directory)?;
        if order.close && ticket.is_none() {
            return Err(DeskError::Unusable("close: a ticket is not closed by the mail that opens it".into()));
        }
        if order.attachments.len() > config.max_attachments {
            let has = count(order.attachments.len(), "attachment", "attachments");
            let most = config.max_attachments;
            return Err(DeskError::Unusable(format!("{has}; replies.max_attachments is {most}")));
        }
        let bytes: u64 = order.attachments.iter().map(|one| one.bytes.len() as u64).sum();
        too_large(bytes, &config)?;
        let (to, cc) = recipients(order, ticket.as_ref(), &directory)?;
        if to.len() + cc.len() > config.max_recipients {
            let has = count(to.len() + cc.len(), "recipient", "recipients");
            let most = config.max_recipients;
            return Err(DeskError::Unusable(format!("{has}; replies.max_recipients is {most}")));
        }
        compose::check_words(&order.words, &order.attachments)?;
        let subject = subject_of(order, ticket.as_ref())?;
        let opens = ticket.is_none();
        let ticket = ticket.unwrap_or_else(|| {
            let requester =
                to.first().map(|who| PersonRow { name: who.name.clone(), address: who.address.to_string() });
            let (address, now) = (channel.address.to_string(), self.desk.clock.now());
            TicketRow::open(0, &subject, &address, &channel.queue, requester.unwrap_or_default(), now)
        });
        Ok(Checked { ticket, opens, channel: channel.clone(), to, cc, subject })
    }

    /// The ticket that a mail belongs to, if it is there already, and the channel that sends it.
    fn concerned<'a>(
        &self,
        about: &About,
        directory: &'a Directory,
    ) -> Result<(Option<TicketRow>, &'a Channel), DeskError> {
        match about {
            About::Ticket(number) => {
                let ticket = self.followed(*number)?;
                let channel = directory.by_address(&ticket.channel).ok_or_else(|| {
                    let (number, channel) = (ticket.number, &ticket.channel);
                    DeskError::NotPossible(format!(
                        "ticket {number} belongs to {channel}, which is no longer configured"
                    ))
                })?;
                Ok((Some(ticket), channel))
            }
            About::New(address) => {
                let channel = directory.by_address(address).ok_or_else(|| {
                    let said = "is no support address of this gateway; \"ticketgate channels list\" shows them";
                    DeskError::Unusable(format!("channel: \"{address}\" {said}"))
                })?;
                Ok((None, channel))
            }
        }
    }

    /// The ticket, or the one that it was merged into.
    pub(super) fn followed(&self, number: u64) -> Result<TicketRow, DeskError> {
        let missing = |number: u64| DeskError::NotFound(format!("ticket {number}"));
        let mut row = self.desk.store.ticket(number)?.ok_or_else(|| missing(number))?;
        for _ in 0..MERGE_HOPS {
            let Some(next) = row.merged_into else { return Ok(row) };
            row = self.desk.store.ticket(next)?.ok_or_else(|| missing(next))?;
        }
        Err(DeskError::NotPossible(format!("ticket {number} was merged too often to be followed")))
    }

    /// The entry that a mail has become: its own, or that of an earlier mail with the same key, which was under way
    /// when this one was accepted.
    fn filed(&self, id: MailId, order: Option<(String, String)>) -> Result<Option<EntryView>, DeskError> {
        let Some(row) = self.desk.store.entry(&id.to_string())? else { return Ok(None) };
        match order {
            Some((key, print)) if row.duplicate_of.is_some() => self.before(Some(&key), Some(&print)),
            _ => self.desk.view(row).map(Some),
        }
    }

    /// Waits until the mail is an entry, but no longer than the configuration allows.
    pub(super) async fn wait_for(&self, id: MailId, order: Option<(String, String)>) -> Result<Replied, DeskError> {
        let deadline = tokio::time::Instant::now() + self.config.load().wait;
        let mut progress = self.desk.store.watch();
        loop {
            progress.mark_unchanged();
            let (me, order) = (self.clone(), order.clone());
            let filed = blocking(move || me.filed(id, order)).await?;
            if let Some(view) = filed {
                return Ok(Replied::Filed(Box::new(view)));
            }
            let broken = progress.borrow().broken;
            match tokio::time::timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) if !broken => {}
                // It stands in the log, and will be filed sooner or later.
                _ => return Ok(Replied::Accepted(id.to_string())),
            }
        }
    }
}

/// An order that was carried out before, or a mail that is to be accepted.
enum Begun {
    Before(Box<EntryView>),
    Now(Box<super::outgoing::Outgoing>),
}

/// Runs what blocks away from the async threads.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, DeskError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, DeskError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(trouble) => Err(DeskError::Trouble(format!("the answer was broken off: {trouble}"))),
    }
}

/// Refuses a mail that no relay would take.
pub(super) fn too_large(bytes: u64, config: &Config) -> Result<(), DeskError> {
    if bytes <= config.max_mail_bytes {
        return Ok(());
    }
    Err(DeskError::Unusable(format!(
        "the mail would have {bytes} bytes; replies.max_mail_bytes is {}: send a link to what is larger",
        show_bytes(config.max_mail_bytes)
    )))
}

/// Closes a ticket with an answer, unless somebody has said something since.
pub(super) fn close_with(desk: &Desk, ticket: &TicketRow, author: &str) -> Result<(), DeskError> {
    if ticket.state == TicketState::Open { desk.close(ticket.number, author).map(drop) } else { Ok(()) }
}

/// The class of what people write.
pub(super) const CLASS: Class = Class::Person;
