//! Which relay a mail leaves by so that it keeps the header fields that it must carry (B7, R22).
//!
//! What a relay loses, its probes have shown. Mail avoids a relay that loses what it carries, where another one that its
//! channel may use is known to keep it: its `attachments_relay`, or the default relay. Mail with attachments stays by the
//! relay that was named for those (R25), mail for which somebody named a relay stays by that (R24), and nothing moves
//! while an account is disconnected (R8), or to a relay that the domain of its author does not permit.

use std::borrow::Cow;

use jiff::Timestamp;

use super::work::Ended;
use super::{Worker, accounts, route};
use crate::mail::{Address, survival};
use crate::relay::{Kind, LostHeaders, Permit, Relay, Standing};
use crate::store::StoreError;
use crate::store::rows::{OutboxRow, ProbeHome, ProbeRow};

/// How much of a mail is looked at for its header fields.
const HEAD: usize = 256 << 10;

/// The relay of a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub relay: Option<String>,
    /// The fields of the mail that this relay loses, where it was asked about.
    pub lost: Option<Vec<String>>,
    /// Why it is not the one that it would leave by otherwise.
    pub said: Option<String>,
    /// It is not known yet whether another one may take it; then it is to be asked about again.
    pub again: Option<Timestamp>,
}

/// What an attempt costs a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    /// The fields that its relay loses.
    pub lost: Vec<String>,
    /// What the trace of the mail says about its relay.
    pub said: Option<String>,
}

impl Worker {
    /// The relay that a mail leaves by.
    pub(super) fn choose(&self, row: &OutboxRow) -> Result<Chosen, StoreError> {
        let config = self.config.load();
        if let Some(sandbox) = &config.sandbox {
            return Ok(Chosen { relay: Some(sandbox.clone()), ..Chosen::default() });
        }
        let directory = self.directory.load();
        let default = || config.default_relay.clone().or_else(|| self.first_relay());
        let Some(name) = route::relay(row, &directory, default) else { return Ok(Chosen::default()) };
        let stays = Chosen { relay: Some(name), ..Chosen::default() };
        let Some(relay) = stays.relay.as_deref().and_then(|name| self.relays.get(name)) else { return Ok(stays) };
        let lost = match relay.config().lost_headers {
            LostHeaders::Avoid if row.relay.is_none() => self.losses(row, relay.name())?,
            _ => return Ok(stays),
        };
        let stays = Chosen { lost: Some(lost.clone()), ..stays };
        let Some(channel) = Address::parse(&row.channel).ok().filter(|_| !lost.is_empty()) else { return Ok(stays) };
        // Nothing falls back to another relay while an account is disconnected.
        if self.blocked(&relay, &channel)?.is_some() {
            return Ok(stays);
        }
        let mut again = None;
        for name in route::others(row, &directory, config.default_relay.as_deref(), relay.name()) {
            let Some(other) = self.relays.get(&name) else { continue };
            if !self.keeps(row, &other, &lost)? || self.blocked(&other, &channel)?.is_some() {
                continue;
            }
            match self.permits(row, &other) {
                Ok(Permit::Known { standing: Standing::May, .. }) => {
                    let lost = lost.join(", ");
                    let said =
                        format!("relay \"{}\" loses {lost}; it leaves by \"{name}\", which keeps it", relay.name());
                    let (relay, lost) = (Some(name), Some(Vec::new()));
                    return Ok(Chosen { relay, lost, said: Some(said), again: None });
                }
                Ok(Permit::Asking(at)) => again = again.or(Some(at)),
                Ok(Permit::Known { .. }) | Err(_) => {}
            }
        }
        Ok(Chosen { again, ..stays })
    }

    /// The first relay; a sandbox only where there is nothing else.
    fn first_relay(&self) -> Option<String> {
        let relays = self.relays.all();
        let real = relays.iter().find(|relay| relay.kind() != Kind::Maildir);
        real.or(relays.first()).map(|relay| relay.name().to_owned())
    }

    /// What it costs a mail to leave by a relay: a probe pays nothing, since it goes to find out.
    pub(super) fn toll(&self, row: &OutboxRow, relay: &Relay, chosen: Chosen) -> Result<Toll, StoreError> {
        let its_own = chosen.relay.as_deref() == Some(relay.name());
        let lost = match chosen.lost.filter(|_| its_own) {
            Some(lost) => lost,
            None => match self.store.probe(relay.name())? {
                Some(ProbeRow { sent, home: Some(home), .. }) if sent.entry != row.id => self.missing(row, &home),
                _ => Vec::new(),
            },
        };
        if lost.is_empty() {
            return Ok(Toll { lost, said: chosen.said });
        }
        let why = match (row.relay.is_some(), relay.config().lost_headers) {
            _ if !its_own => "it took over near the end of a quota",
            (true, _) => "somebody asked for that relay",
            (_, LostHeaders::Count) => "its lost_headers is \"count\"",
            (_, LostHeaders::Avoid) => "no other relay that it may leave by is known to keep it",
        };
        let said = format!("relay \"{}\" loses {}, and {why}", relay.name(), lost.join(", "));
        Ok(Toll { lost, said: Some(said) })
    }

    /// Counts what a mail that a peer has taken has lost on its way there.
    pub(super) fn count_lost(&self, ended: &Ended) {
        let Ended { under, outcome } = ended;
        if outcome.is_taken() {
            under.toll.lost.iter().for_each(|field| self.metrics.header_lost(&under.relay, field));
        }
    }

    /// Whether a mail is the latest probe of a relay.
    pub(super) fn probes(&self, row: &OutboxRow, relay: &str) -> Result<bool, StoreError> {
        Ok(self.store.probe(relay)?.is_some_and(|probe| probe.sent.entry == row.id))
    }

    /// The fields that a mail must carry and that a relay is known to lose.
    fn losses(&self, row: &OutboxRow, relay: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.home(relay)?.map(|home| self.missing(row, &home)).unwrap_or_default())
    }

    /// Whether a relay is known to keep these fields, and to lose none of the mail's others.
    fn keeps(&self, row: &OutboxRow, relay: &Relay, fields: &[String]) -> Result<bool, StoreError> {
        let home = self.home(relay.name())?;
        Ok(home.is_some_and(|home| home.keeps(fields) && self.missing(row, &home).is_empty()))
    }

    /// The latest probe of a relay that came home.
    fn home(&self, relay: &str) -> Result<Option<ProbeHome>, StoreError> {
        Ok(self.store.probe(relay)?.and_then(|probe| probe.home))
    }

    /// The fields that a mail must carry and that a probe came home without. The mail is read only if there are any.
    fn missing(&self, row: &OutboxRow, home: &ProbeHome) -> Vec<String> {
        let lost = home.lost(&self.letters.load().required());
        if lost.is_empty() {
            return lost;
        }
        self.head(row).map_or_else(|_| Vec::new(), |head| survival::carried(&head, &lost))
    }

    /// Why the account that a relay logs in with may not send, if it may not.
    pub(super) fn blocked(&self, relay: &Relay, channel: &Address) -> Result<Option<String>, StoreError> {
        let Some(owner) = relay.account(channel) else { return Ok(None) };
        accounts::blocked(&self.accounts, &self.store, &owner)
    }

    /// Whether the domain of a mail's author permits a relay to send it; or why the mail cannot be read.
    pub(super) fn permits(&self, row: &OutboxRow, relay: &Relay) -> Result<Permit, String> {
        let sender = row.sender.as_deref().and_then(|sender| Address::parse(sender).ok());
        Ok(self.relays.permit(relay.name(), &self.head(row)?, sender.as_ref()))
    }

    /// The header section of a mail, and what follows of it.
    fn head(&self, row: &OutboxRow) -> Result<Vec<u8>, String> {
        let stored = self.store.mail(row.mail).map_err(|error| error.to_string())?;
        stored.body.head(HEAD).map(Cow::into_owned).map_err(|error| error.to_string())
    }
}
