//! Probes of relays (B7): a mail of our own to one of our own channels, with every header field that mail must keep.
//!
//! It leaves by the outbox like any other, so that it is durable and counted; filing recognises it when it comes home. Must
//! not know: how it is compared, HTTP, when another mail is sent.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::outgoing::{Written, envelope_recipients};
use super::reply::{Replied, Replies, blocking};
use super::{Desk, DeskError, checked_author};
use crate::mail::compose::{self, Body, Correspondent, Draft, Words};
use crate::mail::{Class, MailId};
use crate::relay::{Kind, RelayConfig, Relays};
use crate::shutdown::Shutdown;
use crate::store::OutgoingMeta;
use crate::store::rows::{DeliveryState, ProbeRow, RecipientRow};
use crate::ticket::letter::ProbeHead;
use crate::ticket::{Channel, Directory};
use crate::units::show_duration;

/// Who sends those that nobody asked for, for the trace.
const AUTHOR: &str = "ticketgate";

/// How often it is looked which relays are to be probed.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeOrder {
    /// The channel that it leaves from and comes home to, instead of the configured one.
    pub channel: Option<String>,
    pub author: String,
    /// By which way the order came, for the record.
    pub peer: String,
}

/// How the latest probe of a relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeState {
    UnderWay,
    Home,
    /// It has not come home in its time.
    Late,
    /// It will not come home.
    Failed,
}

impl ProbeState {
    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnderWay => "under_way",
            Self::Home => "home",
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

/// What probes have shown of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeView {
    pub row: ProbeRow,
    pub state: ProbeState,
    /// Why it is not home.
    pub said: Option<String>,
}

impl Desk {
    /// What probes have shown of a relay; `None` before the first.
    pub fn probe(&self, relay: &RelayConfig) -> Result<Option<ProbeView>, DeskError> {
        let Some(row) = self.store.probe(&relay.name)? else { return Ok(None) };
        let entry = self.store.entry(&row.sent.entry)?;
        let to = entry.map(|entry| self.store.recipients(entry.seq, 0, 1)).transpose()?.and_then(|mut to| to.pop());
        let (state, said) = judge(&row, to.as_ref(), relay.probe_patience, self.clock.now());
        Ok(Some(ProbeView { row, state, said }))
    }
}

/// How a probe stands, by what is known of its only recipient.
fn judge(
    row: &ProbeRow,
    to: Option<&RecipientRow>,
    patience: Duration,
    now: Timestamp,
) -> (ProbeState, Option<String>) {
    if row.home.as_ref().is_some_and(|home| home.entry == row.sent.entry) {
        return (ProbeState::Home, None);
    }
    if let Some(why) = &row.sent.failed {
        return (ProbeState::Failed, Some(why.clone()));
    }
    let reply = to.and_then(|to| to.reply.clone());
    let ended = to.filter(|to| !to.state.waits() && to.state != DeliveryState::Relayed);
    if let Some(ended) = ended {
        let why = reply.unwrap_or_else(|| "without a reason".into());
        return (ProbeState::Failed, Some(format!("{}: {why}", ended.state.as_str())));
    }
    let late = SignedDuration::try_from(patience).is_ok_and(|patience| now.duration_since(row.sent.at) > patience);
    if !late {
        return (ProbeState::UnderWay, reply);
    }
    let so_far = match to {
        Some(to) if to.state == DeliveryState::Relayed => "the relay has taken it".to_owned(),
        _ => reply.unwrap_or_else(|| "it still waits in the outbox".into()),
    };
    (ProbeState::Late, Some(format!("it has not come home after {}; {so_far}", show_duration(patience))))
}

impl Replies {
    /// The names of all fields that a mail which has them must not lose on its way.
    pub fn required_fields(&self) -> Vec<String> {
        self.letters.load().required()
    }

    /// Sends a probe by a relay; it stands synced on disk when this returns.
    pub async fn probe(&self, relay: &RelayConfig, order: ProbeOrder) -> Result<Replied, DeskError> {
        checked_author(&order.author)?;
        let named = order.channel.as_ref().or(relay.probe_channel.as_ref());
        let channel = home(relay, named, &self.directory.load())?;
        let now = self.desk.clock.now();
        let id = MailId::fresh(now);
        let head = self.letters.load().probe(&channel, &self.keys, id, now);
        let head = head.ok_or_else(|| DeskError::Trouble("there is no key to sign the probe with".into()))?;
        let written = written(relay, &channel, id, head, order)?;
        tracing::info!(mail = %id, relay = relay.name, channel = %channel.address, "a probe is sent");
        self.desk.keep(written).await?;
        self.wait_for(id, None).await
    }

    /// Probes relays as often as they want it, until it is told to stop.
    pub async fn run_probes(self, relays: Relays, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.wait() => return,
            }
            self.probe_due(&relays).await;
        }
    }

    /// Probes the relays whose next probe is due now.
    pub async fn probe_due(&self, relays: &Relays) {
        for relay in relays.all().into_iter().filter(|relay| !relay.config().probe_every.is_zero()) {
            let (me, config) = (self.clone(), relay.config().clone());
            let probed = match blocking(move || me.is_due(&config)).await {
                Ok(false) => continue,
                Ok(true) => {
                    let order = ProbeOrder { channel: None, author: AUTHOR.into(), peer: AUTHOR.into() };
                    self.probe(relay.config(), order).await.map(drop)
                }
                Err(trouble) => Err(trouble),
            };
            if let Err(trouble) = probed {
                tracing::warn!(relay = relay.name(), %trouble, "a relay is not probed");
            }
        }
    }

    /// Whether the next probe of a relay is due that wants them.
    fn is_due(&self, relay: &RelayConfig) -> Result<bool, DeskError> {
        let Ok(every) = SignedDuration::try_from(relay.probe_every) else { return Ok(false) };
        let row = self.desk.store.probe(&relay.name)?;
        Ok(row.is_none_or(|row| self.desk.clock.now().duration_since(row.sent.at) >= every))
    }
}

/// The channel that a probe leaves from and comes home to: the one that is named, one that has the relay, the default one.
fn home(relay: &RelayConfig, named: Option<&String>, directory: &Directory) -> Result<Channel, DeskError> {
    if relay.kind == Kind::Maildir {
        let said = format!("relay \"{}\" is a Maildir: nothing that leaves by it comes home", relay.name);
        return Err(DeskError::NotPossible(said));
    }
    if let Some(named) = named {
        let found = directory.by_address(&named.to_lowercase()).cloned();
        return found.ok_or_else(|| DeskError::NotFound(format!("channel {named}")));
    }
    let has = |name: &Option<String>| name.as_ref() == Some(&relay.name);
    let own = directory.channels().iter().find(|channel| has(&channel.relay) || has(&channel.attachments_relay));
    let found = own.or_else(|| directory.default_channel()).cloned();
    found.ok_or_else(|| DeskError::NotPossible("there is no channel that a probe could come home to".into()))
}

/// The mail and its record.
fn written(
    relay: &RelayConfig,
    channel: &Channel,
    id: MailId,
    probe: ProbeHead,
    order: ProbeOrder,
) -> Result<Written, DeskError> {
    let ProbeHead { head, to, subject, references } = probe;
    let text = format!(
        "This mail finds out which header fields survive the way by the relay \"{}\". ticketgate sent it to itself, and \
         recognises it when it comes home. Nobody has to do anything with it.\n",
        relay.name
    );
    let draft = Draft {
        words: Words { body: Body::Text(text), html: None },
        to: vec![Correspondent { name: String::new(), address: to }],
        subject,
        in_reply_to: references.last().cloned(),
        references,
        ..Draft::default()
    };
    let composed = compose::compose(&draft, &head.identity)?;
    let meta = OutgoingMeta {
        class: Class::Automatic,
        author: order.author,
        relay: Some(relay.name.clone()),
        recipients: envelope_recipients(&draft),
        smtputf8: composed.smtputf8,
        ..OutgoingMeta::default()
    };
    let (from, back) = (channel.address.clone(), Some(&head.return_path));
    Ok(Written::leaving(id, from, back, order.peer, meta, composed.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows::{ProbeHome, ProbeSent};
    use crate::ticket::channel::tests::channel;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_probe_is_under_way_home_late_or_failed() {
        use DeliveryState::{Cancelled, Delayed, Failed, Queued, Relayed};
        let to = |state, reply: &str| RecipientRow { state, reply: Some(reply.into()), ..RecipientRow::default() };
        let nothing = || to(Queued, "x");
        // What is known of its recipient, what was reported, whether it came home, its age; the state and what is said.
        let table = [
            (Some(nothing()), None, false, 60, ProbeState::UnderWay, Some("x")),
            (Some(to(Relayed, "250 ok")), None, false, 60, ProbeState::UnderWay, Some("250 ok")),
            (Some(to(Relayed, "250 ok")), None, true, 9_999, ProbeState::Home, None),
            (
                Some(to(Relayed, "250 ok")),
                None,
                false,
                601,
                ProbeState::Late,
                Some("it has not come home after 10m; the relay has taken it"),
            ),
            (
                Some(to(Delayed, "451 busy")),
                None,
                false,
                601,
                ProbeState::Late,
                Some("it has not come home after 10m; 451 busy"),
            ),
            (Some(to(Failed, "550 no")), None, false, 60, ProbeState::Failed, Some("failed: 550 no")),
            (Some(to(Cancelled, "by eve")), None, false, 60, ProbeState::Failed, Some("cancelled: by eve")),
            (Some(to(Relayed, "250 ok")), Some("550 gone"), false, 60, ProbeState::Failed, Some("550 gone")),
            (None, None, false, 60, ProbeState::UnderWay, None),
        ];
        for (to, failed, home, age, state, said) in table {
            let sent =
                ProbeSent { entry: "e2".into(), at: at(0), failed: failed.map(str::to_owned), ..ProbeSent::default() };
            let entry = if home { "e2" } else { "e1" };
            let home = Some(ProbeHome { entry: entry.into(), ..ProbeHome::default() });
            let row = ProbeRow { relay: "r".into(), sent, home };
            let got = judge(&row, to.as_ref(), Duration::from_secs(600), at(age));
            assert_eq!((got.0, got.1.as_deref()), (state, said), "{to:?}");
        }
    }

    #[test]
    fn it_comes_home_to_a_channel_that_has_the_relay() {
        let mut sales = channel("sales@a.example");
        sales.attachments_relay = Some("large".into());
        let directory = Directory::new(vec![channel("help@a.example"), sales], vec![], vec![], None);
        let relay = |name: &str| RelayConfig { name: name.into(), ..RelayConfig::default() };
        let named = |name: &str| Some(name.to_owned());
        let table = [
            (relay("large"), None, Ok("sales@a.example")),
            (relay("large"), named("Help@A.example"), Ok("help@a.example")),
            (relay("other"), None, Ok("help@a.example")),
            (relay("other"), named("gone@a.example"), Err("there is no channel gone@a.example")),
            (RelayConfig::sandbox(), None, Err("relay \"sandbox\" is a Maildir: nothing that leaves by it comes home")),
        ];
        for (relay, named, want) in table {
            let got = home(&relay, named.as_ref(), &directory);
            let got = got.map(|channel| channel.address.to_string()).map_err(|error| error.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{}", relay.name);
        }
    }
}
