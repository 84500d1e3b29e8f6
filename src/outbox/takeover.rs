//! Whether the default relay takes over from an account whose quota is nearly used (R21): only where the domain of the
//! mail's author lets it, since receivers would refuse the mail, or put it with the spam, and the domain's name suffers.
//!
//! Nobody waits for DNS here: until there is an answer the account itself sends what its windows allow.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::accounts::{Quotas, Takeover};
use super::{SWEEP_EVERY, Worker, schedule};
use crate::mail::Address;
use crate::relay::{GiveWay, Kind, Permit, Relay, Standing};
use crate::store::StoreError;
use crate::store::rows::OutboxRow;

/// What became of the question.
pub(super) enum Answer {
    Takes,
    /// The account keeps the mail, and it is to be asked about again then.
    Stays(Timestamp),
}

/// Who sends, and by what.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub channel: &'a Address,
    pub relay: &'a Relay,
    /// The default relay.
    pub other: &'a Relay,
}

impl Worker {
    /// The relay that may take over near the end of a quota: the default one, if the mail leaves by another one that
    /// nobody has asked for by name.
    pub(super) fn instead(&self, row: &OutboxRow, relay: &Relay) -> Option<Arc<Relay>> {
        let default = self.config.load().default_relay.clone()?;
        (row.relay.is_none() && default != relay.name()).then(|| self.relays.get(&default)).flatten()
    }

    /// Whether the default relay takes this mail over; what was decided is noted for the status and the feed.
    pub(super) fn takeover(
        &self,
        row: &OutboxRow,
        way: Way<'_>,
        quotas: &Mutex<Quotas>,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let (domain, standing, until) = match self.permit(row, way, now)? {
            Permit::Asking(again) => return Ok(Answer::Stays(again)),
            Permit::Known { domain, standing, until } => (domain, standing, until),
        };
        let said = said(way.other.name(), &domain, &standing);
        let takes = standing == Standing::May;
        let mut quotas = quotas.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.decided(way.relay, way.channel, domain, Takeover { takes, said });
        Ok(if takes { Answer::Takes } else { Answer::Stays(until) })
    }

    fn permit(&self, row: &OutboxRow, way: Way<'_>, now: Timestamp) -> Result<Permit, StoreError> {
        let Way { channel, relay, other } = way;
        let of_channel = |standing| {
            let until = schedule::later(now, SWEEP_EVERY);
            Ok(Permit::Known { domain: channel.domain().to_owned(), standing, until })
        };
        // The relay may log in with an account of its own (R8).
        if let Some(why) = self.blocked(other, channel)? {
            return of_channel(Standing::MayNot(why));
        }
        if relay.quota().is_some_and(|rules| rules.give_way == GiveWay::Always) {
            return of_channel(Standing::May);
        }
        match (relay.kind(), other.kind()) {
            // Nothing leaves at all.
            (Kind::Maildir, Kind::Maildir) => return of_channel(Standing::May),
            (_, Kind::Maildir) => {
                return of_channel(Standing::MayNot("it is a Maildir, whose mail nobody gets".into()));
            }
            _ => {}
        }
        match self.permits(row, other) {
            Ok(permit) => Ok(permit),
            // Bytes that are gone are told of by the attempt that follows.
            Err(said) => of_channel(Standing::NotKnown(said)),
        }
    }
}

/// What people read of it.
fn said(relay: &str, domain: &str, standing: &Standing) -> String {
    let (may, why) = match standing {
        Standing::May => {
            return format!("the default relay \"{relay}\" takes over for {domain} until there is room again");
        }
        Standing::MayNot(why) => ("may not send", why),
        Standing::NotKnown(why) => ("is not known to be allowed to send", why),
    };
    format!("the default relay \"{relay}\" {may} for {domain}: {why}; see \"Quotas\" in docs/outbox.md")
}
