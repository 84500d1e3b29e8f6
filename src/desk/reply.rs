//! An answer to a ticket: checked, composed, accepted into the log, and awaited until it is filed.
//!
//! Owns everything between what a person asked for and the spool. Must not know: HTTP, relays, what the outbox does
//! with it. An answer stands from the moment it is accepted: filing ties it to its ticket and puts it into the outbox.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Desk, DeskError, EntryView, checked_author};
use crate::mail::compose::{Body, Correspondent, Enclosure, Words, subject};
use crate::mail::{Address, Class, MailId};
use crate::store::rows::{TicketRow, TicketState};
use crate::ticket::letter::Letters;
use crate::ticket::token::TokenKeys;
use crate::ticket::{Channel, Directory};
use crate::units::show_bytes;

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

/// What a person asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub ticket: u64,
    /// Who does it, for the trace.
    pub author: String,
    /// The name that the recipients see; that of the channel unless it is given.
    pub from_name: Option<String>,
    /// By which way the order came, for the record.
    pub peer: String,
    pub words: Words,
    /// `local@domain` or `Name <local@domain>`; the requester where there is none.
    pub to: Vec<String>,
    pub cc: Vec<String>,
    /// Everybody who takes part gets a copy.
    pub everybody: bool,
    /// `Re: ` and the ticket's title unless it is given.
    pub subject: Option<String>,
    pub attachments: Vec<Enclosure>,
    /// The last mail of the other side is quoted below.
    pub quote: bool,
    /// The ticket is closed with it.
    pub close: bool,
    /// The same order with the same key is carried out once.
    pub key: Option<String>,
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
    pub ticket: TicketRow,
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
            let said = format!("an answer with the key \"{key}\" is being accepted right now; ask again in a moment");
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
        let checked = self.check(&order)?;
        Ok(Begun::Now(Box::new(self.compose(order, checked, fingerprint)?)))
    }

    /// What was done under the same key before.
    fn before(&self, key: Option<&str>, fingerprint: Option<&str>) -> Result<Option<EntryView>, DeskError> {
        let Some(key) = key else { return Ok(None) };
        let Some(row) = self.desk.store.ordered(key)? else { return Ok(None) };
        if row.fingerprint.as_deref() != fingerprint {
            let key = key.strip_prefix(KEYS).unwrap_or(key);
            let said = format!(
                "the key \"{key}\" was used for another answer, entry {}; give a new order a new key",
                row.entry
            );
            return Err(DeskError::NotPossible(said));
        }
        self.desk.entry(&row.entry).map(Some)
    }

    fn check(&self, order: &Order) -> Result<Checked, DeskError> {
        let config = self.config.load();
        let directory = self.directory.load();
        let ticket = self.followed(order.ticket)?;
        let channel = directory.by_address(&ticket.channel).ok_or_else(|| {
            DeskError::NotPossible(format!(
                "ticket {} belongs to {}, which is no longer configured",
                ticket.number, ticket.channel
            ))
        })?;
        if order.attachments.len() > config.max_attachments {
            let (has, most) = (order.attachments.len(), config.max_attachments);
            return Err(DeskError::Unusable(format!("{has} attachments; replies.max_attachments is {most}")));
        }
        let bytes: u64 = order.attachments.iter().map(|one| one.bytes.len() as u64).sum();
        too_large(bytes, &config)?;
        let (to, cc) = recipients(order, &ticket, &directory)?;
        if to.len() + cc.len() > config.max_recipients {
            let (has, most) = (to.len() + cc.len(), config.max_recipients);
            return Err(DeskError::Unusable(format!("{has} recipients; replies.max_recipients is {most}")));
        }
        let given = order.subject.as_deref().map(str::trim).filter(|subject| !subject.is_empty());
        let subject = given.map_or_else(|| subject::answer(&ticket.title), str::to_owned);
        Ok(Checked { channel: channel.clone(), ticket, to, cc, subject })
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

/// Who gets it: nobody twice, and none of our own addresses, for that would be a loop.
fn recipients(
    order: &Order,
    ticket: &TicketRow,
    directory: &Directory,
) -> Result<(Vec<Correspondent>, Vec<Correspondent>), DeskError> {
    let mut seen: Vec<Address> = Vec::new();
    let mut take = |field: &str, text: &str| -> Result<Option<Correspondent>, DeskError> {
        let who = Correspondent::parse(text)
            .map_err(|error| DeskError::Unusable(format!("{field}: \"{text}\" is not an address: {error}")))?;
        if let Some(channel) = directory.channel_for(&who.address) {
            let said =
                format!("{field}: {} is the support address {}, and mail to it would loop", text, channel.address);
            return Err(DeskError::Unusable(said));
        }
        if seen.contains(&who.address) {
            return Ok(None);
        }
        seen.push(who.address.clone());
        Ok(Some(who))
    };
    let mut to = Vec::new();
    for text in &order.to {
        to.extend(take("to", text)?);
    }
    if to.is_empty() {
        let requester = &ticket.requester;
        if requester.address.is_empty() {
            let said = format!("ticket {} has no requester with an address; say whom to send it to", ticket.number);
            return Err(DeskError::Unusable(said));
        }
        let found = take("the requester", &requester.address)?;
        to.extend(found.map(|who| Correspondent { name: requester.name.clone(), ..who }));
    }
    let mut cc = Vec::new();
    for text in &order.cc {
        cc.extend(take("cc", text)?);
    }
    if order.everybody {
        // What takes part and cannot be written to, such as a robot without a domain, is left out.
        let people = ticket
            .participants
            .iter()
            .filter(|text| Address::parse(text).is_ok_and(|address| directory.channel_for(&address).is_none()));
        for text in people {
            cc.extend(take("cc", text)?);
        }
    }
    Ok((to, cc))
}

/// Stands for everything that was asked for, but the key.
fn fingerprint(order: &Order) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(&order.ticket.to_be_bytes());
    let (kind, body) = match &order.words.body {
        Body::Text(body) => ("text", body),
        Body::Markdown(body) => ("markdown", body),
    };
    let none = String::new();
    let html = order.words.html.as_ref().unwrap_or(&none);
    let (name, subject) = (order.from_name.as_ref().unwrap_or(&none), order.subject.as_ref().unwrap_or(&none));
    for text in [kind, body, html, name, subject] {
        add(text.as_bytes());
    }
    add(&[u8::from(order.everybody), u8::from(order.quote), u8::from(order.close)]);
    for list in [&order.to, &order.cc] {
        add(&(list.len() as u64).to_be_bytes());
        list.iter().for_each(|text| add(text.as_bytes()));
    }
    for one in &order.attachments {
        let id = one.content_id.as_ref().unwrap_or(&none);
        for bytes in [one.name.as_bytes(), one.content_type.as_bytes(), id.as_bytes(), &one.bytes] {
            add(bytes);
        }
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Closes a ticket with an answer, unless somebody has said something since.
pub(super) fn close_with(desk: &Desk, ticket: &TicketRow, author: &str) -> Result<(), DeskError> {
    if ticket.state == TicketState::Open { desk.close(ticket.number, author).map(drop) } else { Ok(()) }
}

/// The class of what people write.
pub(super) const CLASS: Class = Class::Person;
