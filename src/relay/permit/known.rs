//! Answers that are kept: the outbox asks without waiting, and what is not known is looked up beside it.
//!
//! A look-up never holds anybody up: whoever asks hears "asking" and comes again. There are few at the same time, each
//! ends in time, and the answers are bounded in number and age.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::look::Looker;
use super::{OwnKey, Standing};
use crate::clock::Clock;
use crate::mail::Address;
use crate::mail::headers::HeaderSection;
use crate::net::{dns, verify};
use crate::relay::RelayConfig;

/// Answers that are kept; the one that ends first gives way.
const KEPT: usize = 1_000;
/// Look-ups at the same time.
const AT_ONCE: usize = 4;
/// How long one look-up may take, which is some twenty questions at most.
const LOOK_TIME: Duration = Duration::from_secs(20);
/// How long an answer holds, and how long one that DNS did not give.
const HOLDS: SignedDuration = SignedDuration::from_secs(600);
const UNKNOWN_HOLDS: SignedDuration = SignedDuration::from_secs(60);
/// When to come again while a look-up is under way.
const AGAIN: SignedDuration = SignedDuration::from_secs(2);

/// What the outbox hears about a mail and a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Nobody knows yet: it is being looked up, and to be asked about again then.
    Asking(Timestamp),
    /// What is known about the domain of the mail's author, and until when that holds.
    Known { domain: String, standing: Standing, until: Timestamp },
}

/// What is asked with: the relays, our keys, the name servers.
#[derive(Debug, Default)]
pub(in crate::relay) struct Settings {
    pub relays: BTreeMap<String, RelayConfig>,
    pub keys: Vec<OwnKey>,
    pub dns: dns::Config,
    pub hostname: String,
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    relay: String,
    domain: String,
    path: Option<String>,
}

#[derive(Clone, Debug)]
struct Kept {
    /// Nothing while it is being looked up.
    standing: Option<Standing>,
    until: Timestamp,
}

/// The answers; a cheap handle.
#[derive(Clone)]
pub struct Permits(Arc<Inner>);

struct Inner {
    settings: ArcSwap<Settings>,
    kept: Mutex<HashMap<Question, Kept>>,
    places: Arc<Semaphore>,
    clock: Clock,
}

impl std::fmt::Debug for Permits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permits")
    }
}

impl Permits {
    pub(in crate::relay) fn new(clock: Clock) -> Self {
        let (settings, kept) = (ArcSwap::default(), Mutex::default());
        Self(Arc::new(Inner { settings, kept, places: Arc::new(Semaphore::new(AT_ONCE)), clock }))
    }

    /// Exchanges the settings, and forgets what was found with the old ones.
    pub(in crate::relay) fn configure(&self, settings: Settings) {
        self.0.settings.store(Arc::new(settings));
        self.0.kept().clear();
    }

    /// Whether a mail may leave by a relay, as far as the domain of its author says. `head` is the mail or its
    /// beginning, `sender` its return path. Never waits; what is not known is looked up, on the runtime of the caller.
    pub fn ask(&self, relay: &str, head: &[u8], sender: Option<&Address>) -> Permit {
        let now = self.0.clock.now();
        let Some(domain) = author(head) else {
            let standing = Standing::MayNot("its From field does not name one domain".into());
            return Permit::Known { domain: "the mail".into(), standing, until: later(now, HOLDS) };
        };
        let question = Question {
            relay: relay.to_owned(),
            path: sender.map(|sender| sender.domain().to_owned()),
            domain: domain.clone(),
        };
        let mut kept = self.0.kept();
        match kept.get(&question).filter(|kept| kept.until > now) {
            Some(Kept { standing: Some(standing), until }) => {
                return Permit::Known { domain, standing: standing.clone(), until: *until };
            }
            Some(Kept { standing: None, .. }) => return Permit::Asking(later(now, AGAIN)),
            None => {}
        }
        if let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() {
            // A look-up that were broken off would be begun again after this time.
            let until = later(now, SignedDuration::try_from(LOOK_TIME * 2).unwrap_or(UNKNOWN_HOLDS));
            keep(&mut kept, question.clone(), Kept { standing: None, until }, now);
            drop(kept);
            let (this, sender) = (self.clone(), sender.cloned());
            tokio::spawn(async move {
                this.look_up(question, sender).await;
                drop(place);
            });
        }
        Permit::Asking(later(now, AGAIN))
    }

    async fn look_up(&self, question: Question, sender: Option<Address>) {
        let settings = self.0.settings.load_full();
        let looked = timeout(LOOK_TIME, settings.look(&question, sender.as_ref())).await;
        let standing =
            looked.unwrap_or_else(|_| Standing::NotKnown(format!("DNS took longer than {} s", LOOK_TIME.as_secs())));
        let now = self.0.clock.now();
        tracing::debug!(
            relay = question.relay,
            domain = question.domain,
            ?standing,
            "looked up whether a relay may send"
        );
        let holds = if matches!(standing, Standing::NotKnown(_)) { UNKNOWN_HOLDS } else { HOLDS };
        let mut kept = self.0.kept();
        // What was found with settings that a reload has exchanged meanwhile does not count.
        if Arc::ptr_eq(&settings, &self.0.settings.load_full()) {
            keep(&mut kept, question, Kept { standing: Some(standing), until: later(now, holds) }, now);
        }
    }
}

impl Settings {
    async fn look(&self, question: &Question, sender: Option<&Address>) -> Standing {
        let Some(relay) = self.relays.get(&question.relay) else {
            return Standing::MayNot(format!("relay \"{}\" is not configured", question.relay));
        };
        let verify = verify::Config { dns: self.dns.clone(), ..verify::Config::default() };
        match Looker::new(&verify, &self.hostname, self.keys.clone()) {
            Ok(looker) => looker.look(&question.domain, sender, relay).await.standing(),
            Err(said) => Standing::NotKnown(format!("no name server can be asked: {said}")),
        }
    }
}

impl Inner {
    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<Question, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(kept: &mut HashMap<Question, Kept>, question: Question, one: Kept, now: Timestamp) {
    if kept.len() >= KEPT && !kept.contains_key(&question) {
        kept.retain(|_, kept| kept.until > now);
        let first = kept.iter().min_by_key(|(_, kept)| kept.until).map(|(question, _)| question.clone());
        first.filter(|_| kept.len() >= KEPT).map(|first| kept.remove(&first));
    }
    kept.insert(question, one);
}

/// The domain of a mail's authors; nothing where there is none, or where there are several (RFC 9989).
fn author(head: &[u8]) -> Option<String> {
    let section = HeaderSection::read(head, head.len()).ok()?;
    let mut domains = section.addresses("From").into_iter().map(|author| author.domain().to_owned());
    let first = domains.next()?;
    domains.all(|other| other == first).then_some(first)
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_in_number() {
        let at = |seconds: i64| Timestamp::from_second(1_795_000_000 + seconds).unwrap();
        let question = |n: i64| Question { relay: "direct".into(), domain: format!("d{n}.example"), path: None };
        let mut kept = HashMap::new();
        for n in 0..2 * KEPT as i64 {
            keep(&mut kept, question(n), Kept { standing: None, until: at(n) }, at(0));
        }
        assert_eq!(kept.len(), KEPT);
        assert!(!kept.contains_key(&question(5)) && kept.contains_key(&question(KEPT as i64)));
        // Once they have ended they all go for one that is new; one that is there is exchanged.
        keep(&mut kept, question(-1), Kept { standing: Some(Standing::May), until: at(9_999) }, at(5_000));
        keep(&mut kept, question(-1), Kept { standing: Some(Standing::May), until: at(9_999) }, at(5_000));
        assert_eq!(kept.len(), 1);
    }
}
