//! What a person asks for, an answer or the first mail of a ticket: who gets it, and what stands for the whole of it.
//!
//! Must not know: how a mail is written, the store.

use sha2::{Digest, Sha256};

use super::DeskError;
use crate::mail::Address;
use crate::mail::compose::{Body, Correspondent, Enclosure, Words, subject};
use crate::store::rows::TicketRow;
use crate::ticket::Directory;
use crate::units;

/// What a mail of ours belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// It answers the ticket of this number.
    Ticket(u64),
    /// It opens a ticket of this channel, given by its support address.
    New(String),
}

impl Default for About {
    /// No ticket has this number.
    fn default() -> Self {
        Self::Ticket(0)
    }
}

/// What a person asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub about: About,
    /// Who does it, for the trace.
    pub author: String,
    /// The name that the recipients see; that of the channel unless it is given.
    pub from_name: Option<String>,
    /// By which way the order came, for the record.
    pub peer: String,
    pub words: Words,
    /// `local@domain` or `Name <local@domain>`; of an answer the requester where there is none.
    pub to: Vec<String>,
    pub cc: Vec<String>,
    /// Everybody who takes part gets a copy.
    pub everybody: bool,
    /// Of an answer `Re: ` and the ticket's title unless it is given.
    pub subject: Option<String>,
    pub attachments: Vec<Enclosure>,
    /// The last mail of the other side is quoted below.
    pub quote: bool,
    /// The ticket is closed with it.
    pub close: bool,
    /// The same order with the same key is carried out once.
    pub key: Option<String>,
}

/// Who gets it: nobody twice, and none of our own addresses, for that would be a loop.
pub(super) fn recipients(
    order: &Order,
    ticket: Option<&TicketRow>,
    directory: &Directory,
) -> Result<(Vec<Correspondent>, Vec<Correspondent>), DeskError> {
    let mut seen: Vec<Address> = Vec::new();
    let mut take = |field: &str, text: &str| -> Result<Option<Correspondent>, DeskError> {
        let who = Correspondent::parse(text).map_err(|error| {
            let several = if text.contains(',') { "; give each address by itself" } else { "" };
            DeskError::Unusable(format!("{field}: \"{text}\" is not an address: {error}{several}"))
        })?;
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
        let Some(ticket) = ticket else {
            let said = "to: nobody is named; the mail that opens a ticket goes to one address at least";
            return Err(DeskError::Unusable(said.into()));
        };
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
            .iter()
            .flat_map(|ticket| &ticket.participants)
            .filter(|text| Address::parse(text).is_ok_and(|address| directory.channel_for(&address).is_none()));
        for text in people {
            cc.extend(take("cc", text)?);
        }
    }
    Ok((to, cc))
}

/// The subject: of an answer that of the ticket unless it is given.
pub(super) fn subject_of(order: &Order, ticket: Option<&TicketRow>) -> Result<String, DeskError> {
    let given = order.subject.as_deref().map(str::trim).filter(|subject| !subject.is_empty());
    match (given, ticket) {
        (Some(given), _) => Ok(given.to_owned()),
        (None, Some(ticket)) => Ok(subject::answer(&ticket.title)),
        (None, None) => {
            let said = "subject: there is none; a new ticket needs one, which becomes its title";
            Err(DeskError::Unusable(said.into()))
        }
    }
}

/// Stands for everything that was asked for, but the key.
pub(super) fn fingerprint(order: &Order) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    match &order.about {
        About::Ticket(number) => add(&number.to_be_bytes()),
        About::New(channel) => {
            add(b"new");
            add(channel.to_lowercase().as_bytes());
        }
    }
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
    units::hex(&hash.finalize()[..16])
}
