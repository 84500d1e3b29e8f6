//! Acknowledgements: who opened a ticket hears that it has arrived, once, from a machine that says that it is one.
//!
//! Filing leaves word of each ticket that is owed one; this worker writes the mail, or finds that nobody may be
//! answered (RFC 3834 section 2) and takes the word back. Once the acknowledgement is filed the word is gone, and its
//! key keeps a second one from leaving however often the process dies in between.

use std::borrow::Cow;
use std::collections::HashSet;

use jiff::SignedDuration;

use super::outgoing::{Outgoing, envelope_recipients};
use super::owed::{Turn, Turns};
use super::reply::{Replies, blocking};
use super::{DeskError, EntryView};
use crate::mail::compose::{self, Body, Correspondent, Draft, Words, subject, thread};
use crate::mail::message::Automatic;
use crate::mail::{Class, MailId};
use crate::shutdown::Shutdown;
use crate::store::OutgoingMeta;
use crate::store::rows::AcknowledgementRow;

/// Who writes them, for the trace.
const AUTHOR: &str = "ticketgate";

/// How many are written at once.
const BATCH: usize = 100;

/// An acknowledgement that comes later than this confuses more than it helps: the daemon was down for that long.
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// What becomes of one that is owed.
enum Due {
    Write(Box<Outgoing>),
    /// It is not owed after all, for this reason.
    Waive(Cow<'static, str>),
}

impl Replies {
    /// Writes acknowledgements until it is told to stop.
    pub async fn run_acknowledgements(self, shutdown: Shutdown) {
        let mut turns =
            Turns::new(&self.desk.store, shutdown, "acknowledgements", |progress| progress.acknowledgements);
        // Accepted, but perhaps not filed yet, so that its word still stands.
        let mut accepted = HashSet::new();
        loop {
            let last = self.acknowledge(&mut accepted).await;
            if turns.next(last).await == Turn::Over {
                return;
            }
        }
    }

    /// Writes what is owed now.
    async fn acknowledge(&self, accepted: &mut HashSet<u64>) -> Result<(), DeskError> {
        let store = self.desk.store.clone();
        let owed = blocking(move || Ok(store.acknowledgements(BATCH)?)).await?;
        accepted.retain(|seq| owed.iter().any(|row| row.seq == *seq));
        for row in owed {
            if accepted.contains(&row.seq) {
                continue;
            }
            let (me, seq, entry) = (self.clone(), row.seq, row.entry.clone());
            let written = match blocking(move || me.due(&row)).await {
                Ok(Due::Write(mail)) => self.accept(*mail).await.map(|_| None),
                Ok(Due::Waive(why)) => Ok(Some(why)),
                Err(trouble) => Err(trouble),
            };
            match written.or_else(hopeless)? {
                None => drop(accepted.insert(seq)),
                Some(why) => {
                    tracing::info!(%entry, %why, "a ticket is not acknowledged");
                    self.waive(seq).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes back the word that a ticket is owed an acknowledgement.
    async fn waive(&self, seq: u64) -> Result<(), DeskError> {
        let store = self.desk.store.clone();
        let waive = move || {
            store.step(|step| {
                step.waive_acknowledgement(seq);
                Ok::<_, DeskError>(())
            })
        };
        blocking(waive).await
    }

    /// The acknowledgement of one ticket, or why there is none.
    fn due(&self, owed: &AcknowledgementRow) -> Result<Due, DeskError> {
        let now = self.desk.clock.now();
        let view = match self.desk.entry(&owed.entry) {
            Ok(view) => view,
            Err(DeskError::NotFound(_)) => return Ok(Due::Waive("its entry is gone".into())),
            Err(trouble) => return Err(trouble),
        };
        let key = format!("ack-{}", owed.entry);
        if self.desk.store.ordered(&key)?.is_some() {
            return Ok(Due::Waive("it was written before".into()));
        }
        if let Some(why) = unanswerable(&view) {
            return Ok(Due::Waive(why.into()));
        }
        if now.duration_since(owed.at) > LATEST {
            return Ok(Due::Waive("it is too late for one".into()));
        }
        let directory = self.directory.load();
        let ticket = self.followed(owed.ticket)?;
        let Some(channel) = directory.by_address(&owed.channel).filter(|channel| channel.acknowledge) else {
            return Ok(Due::Waive("its channel acknowledges nothing any more".into()));
        };
        let Ok(requester) = Correspondent::parse(&ticket.requester.address) else {
            return Ok(Due::Waive("its requester has no address".into()));
        };
        if directory.channel_for(&requester.address).is_some() {
            return Ok(Due::Waive("its requester is a support address of ours".into()));
        }
        let letters = self.letters.load();
        let values = self.values(&ticket, channel, &channel.name);
        let Some(text) = letters.acknowledgement(&channel.address, &values) else {
            return Ok(Due::Waive("there is no template for it".into()));
        };
        let id = MailId::fresh(now);
        let head = letters.letterhead(channel, ticket.number, &self.keys, id, Class::Automatic, now);
        let summary = view.mail.as_ref().map(|mail| &mail.summary);
        let draft = Draft {
            words: Words { body: Body::Text(text.text), html: None },
            to: vec![Correspondent { name: ticket.requester.name.clone(), ..requester }],
            subject: text.subject.map_or_else(|| subject::answer(&ticket.title), |given| subject::chosen(&given)),
            in_reply_to: summary.and_then(|summary| summary.message_id.clone()),
            references: summary.map(thread::chain).unwrap_or_default(),
            ..Draft::default()
        };
        let composed = compose::compose(&draft, &head.identity)?;
        let meta = OutgoingMeta {
            class: Class::Automatic,
            ticket: Some(ticket.number),
            author: AUTHOR.into(),
            key: Some(key),
            recipients: envelope_recipients(&draft),
            answers: Some(owed.entry.clone()),
            smtputf8: composed.smtputf8,
            ..OutgoingMeta::default()
        };
        let (channel, return_path) = (channel.address.clone(), head.return_path);
        let peer = AUTHOR.to_owned();
        Ok(Due::Write(Box::new(Outgoing { id, ticket, channel, return_path, peer, composed, meta, close: false })))
    }
}

/// Why one can never be written, so that it must not keep back those behind it; an error that is over in time stays one.
fn hopeless(error: DeskError) -> Result<Option<Cow<'static, str>>, DeskError> {
    match error {
        DeskError::Full | DeskError::Trouble(_) => Err(error),
        DeskError::NotFound(_)
        | DeskError::NotPossible(_)
        | DeskError::MayComeTwice(_)
        | DeskError::Unusable(_)
        | DeskError::Gone(_) => Ok(Some(format!("it cannot be written: {error}").into())),
    }
}

/// Why a mail may not be answered by a machine; filing has asked the same, and a mail may have been filed by an older
/// version that had not.
fn unanswerable(view: &EntryView) -> Option<&'static str> {
    let Some(mail) = &view.mail else { return Some("its mail is gone") };
    if view.row.filing != "opened" {
        return Some("its mail opened no ticket");
    }
    if view.row.backfill {
        return Some("its mail is from before the mailbox was connected");
    }
    if mail.meta.envelope.mail_from.is_none() || mail.summary.automatic != Automatic::No {
        return Some("its mail was written by a machine, or came by a list");
    }
    // Whoever forged the sender would have us write to a stranger.
    view.row.needs_review.then_some("a person has to look at its mail first")
}
