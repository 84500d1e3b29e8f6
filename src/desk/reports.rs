//! Reports to the senders of mail (RFC 3461): who handed a mail in hears what became of it.
//!
//! The commit that decides what became of a mail leaves word of what its sender is owed; this worker writes the report,
//! or finds that nobody is to have it and takes the word back. The commit that files the report takes the word as well,
//! and its key keeps a second one from leaving however often the process dies in between. A sender that is a support
//! address of ours is not written to: its report is filed like one that came from another server. Must not know:
//! relays, when a report is sent, what lies on disk.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Deserialize;

use super::outgoing::Written;
use super::owed::{Turn, Turns};
use super::reply::blocking;
use super::{Desk, DeskError};
use crate::mail::compose::report::{Back, Original, Recipient, Report, report};
use crate::mail::compose::{Correspondent, Identity, ascii};
use crate::mail::notify::Action;
use crate::mail::{Address, Class, Envelope, MailId};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::store::rows::{OutboxRow, ReportRow, report_order};
use crate::store::{Delivery, MailBytes, OutgoingMeta, OutgoingRecipient};
use crate::ticket::Directory;
use crate::ticket::channel::Match;
use crate::ticket::letter::Letters;

/// Who writes them, for the trace.
const AUTHOR: &str = "ticketgate";
/// The display name in their From field.
const NAME: &str = "Mail Delivery System";
/// Recipients that are looked at in one turn; a report has at most 100.
const BATCH: usize = 500;
/// Reports that share a sync at most, and their bytes, but for the last one.
const TOGETHER: usize = 64;
const TOGETHER_BYTES: usize = 1 << 20;

/// `[reports]`: what the sender of a mail hears of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a sender hears of that has asked for nothing (no NOTIFY).
    pub default_notify: Vec<Unasked>,
    /// The largest mail that comes back whole with a report of its failure, where RET=FULL asks for that.
    #[serde(with = "crate::units::bytes")]
    pub max_returned_bytes: u64,
}

/// What may be told to a sender that has not asked (RFC 3461 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unasked {
    Failure,
    Delay,
}

impl Default for Config {
    fn default() -> Self {
        Self { default_notify: vec![Unasked::Failure, Unasked::Delay], max_returned_bytes: 64 << 10 }
    }
}

impl Config {
    /// Whether a sender that has not asked hears of something.
    fn tells(&self, action: Action) -> bool {
        match action {
            Action::Failed => self.default_notify.contains(&Unasked::Failure),
            Action::Delayed => self.default_notify.contains(&Unasked::Delay),
            Action::Relayed | Action::Delivered => false,
        }
    }
}

/// Writes reports; a cheap handle.
#[derive(Clone)]
pub struct Reporter {
    pub desk: Desk,
    pub directory: Arc<ArcSwap<Directory>>,
    pub letters: Arc<ArcSwap<Letters>>,
    pub config: Arc<ArcSwap<Config>>,
    /// Our own name.
    pub host: String,
    pub metrics: Metrics,
}

/// One report that is owed: the mail and the event, and what is to be said of its recipients.
struct Owed {
    seq: u64,
    event: u64,
    rows: Vec<ReportRow>,
}

/// What becomes of one.
enum Due {
    Write(Box<Written>, Vec<Action>),
    /// It is not owed after all, for this reason.
    Waive(&'static str),
}

/// A report of a mail and an event, or why there is none.
type Made = ((u64, u64), Due);

/// Reports that were accepted and may not be filed yet, so that their word still stands.
pub type Accepted = HashMap<(u64, u64), Word>;

/// Who takes back the word of a report that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The commit that files it among mail that leaves.
    GoesWithFiling,
    /// We do, since it is filed like mail that came in; after trouble in the next turn.
    IsOurs,
}

impl Reporter {
    /// Writes reports until it is told to stop.
    pub async fn run(self, shutdown: Shutdown) {
        let mut turns = Turns::new(&self.desk.store, shutdown, "reports to senders", |progress| progress.reports);
        let mut accepted = Accepted::new();
        loop {
            let last = self.write(&mut accepted).await;
            if turns.next(last).await == Turn::Over {
                return;
            }
        }
    }

    /// Writes what is owed now.
    pub async fn write(&self, accepted: &mut Accepted) -> Result<(), DeskError> {
        let store = self.desk.store.clone();
        let owed = together(blocking(move || Ok(store.reports(BATCH)?)).await?);
        accepted.retain(|known, _| owed.iter().any(|one| (one.seq, one.event) == *known));
        let (mut ended, mut left) = (Vec::new(), VecDeque::new());
        for one in owed {
            match accepted.get(&(one.seq, one.event)) {
                Some(Word::GoesWithFiling) => {}
                Some(Word::IsOurs) => ended.push((one.seq, one.event)),
                None => left.push_back(one),
            }
        }
        self.end(ended).await?;
        while !left.is_empty() {
            let me = self.clone();
            let (some, rest) = blocking(move || me.some(left)).await?;
            left = rest;
            self.keep(some, accepted).await?;
        }
        Ok(())
    }

    /// As many of the first reports as fit into one batch, and the others.
    fn some(&self, mut left: VecDeque<Owed>) -> Result<(Vec<Made>, VecDeque<Owed>), DeskError> {
        let (mut made, mut bytes) = (Vec::new(), 0);
        while made.len() < TOGETHER && bytes < TOGETHER_BYTES {
            let Some(one) = left.pop_front() else { break };
            let key = (one.seq, one.event);
            let due = self.due(one)?;
            bytes += if let Due::Write(mail, _) = &due { mail.bytes.len() } else { 0 };
            made.push((key, due));
        }
        Ok((made, left))
    }

    /// Hands a batch over, so that one sync serves all of it, and takes back in one commit what is not owed any more.
    async fn keep(&self, made: Vec<Made>, accepted: &mut Accepted) -> Result<(), DeskError> {
        let (mut ended, mut on_their_way, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
        for (key, due) in made {
            match due {
                Due::Write(mail, actions) => {
                    let word = if mail.meta.is_some() { Word::GoesWithFiling } else { Word::IsOurs };
                    match self.desk.hand_over(*mail).await {
                        Ok(appending) => on_their_way.push((key, word, actions, appending)),
                        Err(trouble) => {
                            outcome = Err(trouble);
                            break;
                        }
                    }
                }
                Due::Waive(why) => {
                    tracing::debug!(seq = key.0, why, "a sender is not told");
                    ended.push(key);
                }
            }
        }
        for (key, word, actions, appending) in on_their_way {
            match self.desk.kept(appending).await {
                Ok(()) => {
                    actions.iter().for_each(|action| self.metrics.sender_told(action.as_str()));
                    accepted.insert(key, word);
                    ended.extend((word == Word::IsOurs).then_some(key));
                }
                Err(trouble) => outcome = Err(trouble),
            }
        }
        self.end(ended).await?;
        outcome
    }

    /// Takes back the word of reports that are not owed any more.
    async fn end(&self, ended: Vec<(u64, u64)>) -> Result<(), DeskError> {
        if ended.is_empty() {
            return Ok(());
        }
        let store = self.desk.store.clone();
        let end = move || {
            store.step(|step| ended.iter().try_for_each(|(seq, event)| step.end_report(*seq, *event)))?;
            Ok(())
        };
        blocking(end).await
    }

    /// One report, or why there is none.
    fn due(&self, owed: Owed) -> Result<Due, DeskError> {
        let store = &self.desk.store;
        let Some(row) = store.outbox_row(owed.seq)? else { return Ok(Due::Waive("its mail is gone")) };
        if store.ordered(&report_order(owed.seq, owed.event))?.is_some() {
            return Ok(Due::Waive("it was written before"));
        }
        let Some(sender) = row.sender.as_deref().and_then(|sender| Address::parse(sender).ok()) else {
            return Ok(Due::Waive("the sender is null, or no address"));
        };
        let directory = self.directory.load();
        let ours = directory.find(&sender);
        if ours.is_some() && row.ticket.is_some() {
            return Ok(Due::Waive("its ticket tells"));
        }
        let config = self.config.load();
        // People who look after a support address are not told that mail is late: it would be a ticket each time.
        let tells = |action: Action| config.tells(action) && (ours.is_none() || action == Action::Failed);
        let told = owed.rows.iter().filter_map(recipient);
        let told: Vec<Recipient> =
            told.filter(|(asked, one)| *asked || tells(one.action)).map(|(_, one)| one).collect();
        if told.is_empty() {
            return Ok(Due::Waive("its sender has not asked for it"));
        }
        let channel = match ours {
            Some(Match::Channel(channel)) => Some(channel.address.clone()),
            Some(Match::Intake) => Address::parse(&row.channel).ok(),
            None => None,
        };
        let actions = told.iter().map(|one| one.action).collect();
        Ok(match self.written(&owed, &row, &sender, channel, &told) {
            Some(mail) => Due::Write(Box::new(mail), actions),
            None => Due::Waive("its channel is no address"),
        })
    }

    /// The report as a mail: to the sender, or into the channel `home` that the sender is.
    fn written(
        &self,
        owed: &Owed,
        row: &OutboxRow,
        sender: &Address,
        home: Option<Address>,
        told: &[Recipient],
    ) -> Option<Written> {
        let channel = Address::parse(&row.channel).ok()?;
        let id = MailId::fresh(self.desk.clock.now());
        let stored = self.desk.store.mail(row.mail).ok();
        let whole = row.ret.as_deref().is_some_and(|ret| ret.eq_ignore_ascii_case("FULL"));
        let most = self.config.load().max_returned_bytes;
        let back = if whole { Back::Whole(most) } else { Back::Headers };
        let bytes = stored.as_ref().and_then(|stored| beginning(&stored.body, back.wants()));
        let text = report(
            &Report {
                reporter: &self.host,
                mail_id: &row.id,
                arrived: row.created_at,
                envelope_id: row.envid.as_deref(),
                recipients: told,
                original: bytes.as_deref().map(|bytes| Original { bytes, back }),
            },
            sender,
            &self.identity(owed, row, &channel, home.is_none().then_some(id)),
        );
        let to = ascii(sender);
        let (peer, bytes) = (AUTHOR.to_owned(), text.bytes);
        if let Some(home) = home {
            let envelope = Envelope { mail_from: None, rcpt_to: vec![to.clone()] };
            let delivery = Delivery { channel: home, rcpt_to: vec![to] };
            return Some(Written { id, envelope, peer, delivery, meta: None, bytes });
        }
        let meta = OutgoingMeta {
            class: Class::Automatic,
            author: AUTHOR.into(),
            key: Some(report_order(owed.seq, owed.event)),
            // A report is about no report (RFC 3461 section 6.2).
            recipients: vec![OutgoingRecipient { address: to, notify: Some("NEVER".into()), orcpt: None }],
            smtputf8: text.smtputf8,
            report: Some((owed.seq, owed.event)),
            ..OutgoingMeta::default()
        };
        Some(Written::leaving(id, channel, None, peer, meta, bytes))
    }

    /// Who writes it: the address of the channel, since relays let no other one through, and it is read by people
    /// (RFC 3464 section 2). The same report has the same Message-ID and date, so that one which is filed here and is
    /// written twice around a crash is recognised.
    fn identity(&self, owed: &Owed, row: &OutboxRow, channel: &Address, leaves: Option<MailId>) -> Identity {
        let unique = format!("{}.{}", row.id, owed.event);
        let fields = leaves.map(|id| self.letters.load().fields_of(channel, id, Class::Automatic));
        let own = ("Auto-Submitted".to_owned(), "auto-replied".to_owned());
        let others = fields.unwrap_or_default().into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case(&own.0));
        Identity {
            from: Correspondent { name: NAME.into(), address: channel.clone() },
            reply_to: None,
            message_id: format!("{unique}.report@{}", ascii(channel).domain()),
            date: owed.rows.first().map_or(row.created_at, |first| first.at),
            fields: std::iter::once(own.clone()).chain(others).collect(),
            boundary: unique,
        }
    }
}

/// The first bytes of a mail; `None` where it was erased, or its file is cut: then nothing of it comes back.
fn beginning(body: &MailBytes, most: usize) -> Option<Cow<'_, [u8]>> {
    body.head(most).ok().filter(|head| head.len() as u64 == body.len().min(most as u64))
}

/// What is owed, report by report; the last one may not be complete where there is more.
fn together(rows: Vec<ReportRow>) -> Vec<Owed> {
    let full = rows.len() == BATCH;
    let mut owed: Vec<Owed> = Vec::new();
    for row in rows {
        match owed.last_mut() {
            Some(last) if (last.seq, last.event) == (row.seq, row.event) => last.rows.push(row),
            _ => owed.push(Owed { seq: row.seq, event: row.event, rows: vec![row] }),
        }
    }
    if full && owed.len() > 1 {
        owed.pop();
    }
    owed
}

/// A recipient as the report names it, and whether the sender has asked.
fn recipient(row: &ReportRow) -> Option<(bool, Recipient)> {
    let recipient = Recipient {
        address: row.address.clone(),
        orcpt: row.orcpt.clone(),
        action: Action::from_word(&row.action)?,
        status: row.status.clone(),
        said: row.said.clone(),
        remote: row.remote.clone(),
        at: row.at,
        until: row.until,
    };
    Some((row.asked, recipient))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_when_all_of_it_is_there() {
        let row = |seq: u64, event: u64, n: usize| ReportRow {
            seq,
            event,
            n: n as u32,
            address: "ann@example.net".into(),
            orcpt: None,
            asked: false,
            action: "failed".into(),
            status: "5.1.1".into(),
            said: "550 no".into(),
            remote: None,
            until: None,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let shape = |rows: Vec<ReportRow>| -> Vec<(u64, u64, usize)> {
            together(rows).iter().map(|one| (one.seq, one.event, one.rows.len())).collect()
        };
        let some = vec![row(1, 5, 0), row(1, 5, 1), row(1, 6, 0), row(2, 5, 0)];
        assert_eq!(shape(some), [(1, 5, 2), (1, 6, 1), (2, 5, 1)]);
        // As many as one look gives: the last one may go on behind them.
        let many = (0..BATCH).map(|n| row(1 + n as u64 / 100, 5, n)).collect();
        assert_eq!(shape(many), [(1, 5, 100), (2, 5, 100), (3, 5, 100), (4, 5, 100)]);
        assert_eq!(shape(vec![]), []);
    }

    #[test]
    fn the_operator_says_what_is_told_unasked() {
        let table: [(&[Unasked], [bool; 4]); 3] = [
            (&[], [false; 4]),
            (&[Unasked::Failure], [true, false, false, false]),
            (&[Unasked::Delay, Unasked::Failure], [true, true, false, false]),
        ];
        for (unasked, want) in table {
            let config = Config { default_notify: unasked.to_vec(), ..Config::default() };
            assert_eq!(Action::ALL.map(|action| config.tells(action)), want, "{unasked:?}");
        }
    }
}
