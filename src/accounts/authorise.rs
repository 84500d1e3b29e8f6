//! Authorisations under way: somebody was told what to open, and comes back with a consent or does not.
//!
//! Each has a task that waits for the answer, checks who consented (R4) and to what (R2), tries the token on the
//! mailbox, and only then keeps it. Whatever is wrong is told with its reason, and nothing is stored.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::consent::Job;
use super::credential::{About, Credential, Flow};
use super::problem::{Cause, Problem};
use super::{AccountError, Accounts};
use crate::mail::Address;

/// Those that ended are remembered, so that whoever asked may hear of the end.
const REMEMBERED: usize = 64;

/// One authorisation, as it may be shown.
#[derive(Clone, Debug)]
pub struct Authorisation {
    pub id: String,
    pub channel: Address,
    pub flow: Flow,
    /// What to open, in the flow with a browser that comes back.
    pub url: Option<String>,
    /// What to open and what to type there, in the flow for machines without a browser.
    pub user_code: Option<String>,
    pub verification_url: Option<String>,
    pub verification_url_complete: Option<String>,
    pub expires_at: Timestamp,
    pub outcome: Outcome,
}

/// How far it is.
#[derive(Clone, Debug)]
pub enum Outcome {
    Waiting,
    Granted(Box<About>),
    Refused(Problem),
}

/// All of them.
#[derive(Default)]
pub(super) struct Authorisations(Mutex<VecDeque<Entry>>);

struct Entry {
    shown: watch::Sender<Authorisation>,
    /// The state parameter of the request (RFC 6749 section 10.12), which the answer has to bring back.
    state: Option<String>,
    answers: mpsc::Sender<String>,
    task: Option<AbortHandle>,
    /// Whether the answer has come and is being looked at, which is not broken off.
    answered: bool,
}

/// What the task of an authorisation is given.
pub(super) struct Wait {
    pub shown: watch::Sender<Authorisation>,
    pub answers: mpsc::Receiver<String>,
}

impl Authorisations {
    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<Entry>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds one; an older one of the same channel ends. Refuses beyond the limit of those that wait.
    pub fn add(&self, shown: Authorisation, state: Option<String>, most: usize) -> Result<Wait, AccountError> {
        self.with(|entries| {
            for entry in entries.iter_mut().filter(|entry| entry.shown.borrow().channel == shown.channel) {
                entry.end("a newer authorisation took its place");
            }
            if entries.iter().filter(|entry| entry.waits()).count() >= most {
                return Err(AccountError::TooManyAuthorisations(most));
            }
            while entries.len() >= REMEMBERED.max(most * 2) {
                let Some(at) = entries.iter().position(|entry| !entry.waits()) else { break };
                entries.remove(at);
            }
            let (sender, answers) = mpsc::channel(1);
            let shown = watch::Sender::new(shown);
            let wait = Wait { shown: shown.clone(), answers };
            entries.push_back(Entry { shown, state, answers: sender, task: None, answered: false });
            Ok(wait)
        })
    }

    /// Remembers the task, so that it can be ended.
    pub fn runs(&self, id: &str, task: AbortHandle) {
        self.with(|entries| {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.shown.borrow().id == id) {
                entry.task = Some(task);
            }
        });
    }

    /// Takes an answer for the one whose state it brings back. Returns where to see what becomes of it.
    pub fn answer(
        &self,
        whose: impl Fn(&Authorisation) -> bool,
        redirected_to: &str,
    ) -> Option<watch::Receiver<Authorisation>> {
        let state = parameter(redirected_to, "state")?;
        self.with(|entries| {
            let same = |entry: &&mut Entry| {
                let known = entry.state.as_deref().unwrap_or_default();
                use subtle::ConstantTimeEq;
                !known.is_empty() && bool::from(known.as_bytes().ct_eq(state.as_bytes()))
            };
            let entry = entries.iter_mut().filter(|entry| whose(&entry.shown.borrow())).find(same)?;
            // An answer that comes twice, such as when somebody reloads the page, shows what became of the first.
            if entry.waits() && !entry.answered && entry.answers.try_send(redirected_to.to_owned()).is_ok() {
                entry.answered = true;
            }
            Some(entry.shown.subscribe())
        })
    }

    /// From now on it is not broken off; false where it has ended already.
    pub fn concludes(&self, id: &str) -> bool {
        self.with(|entries| {
            let entry = entries.iter_mut().find(|entry| entry.shown.borrow().id == id && entry.waits());
            entry.map(|entry| entry.answered = true).is_some()
        })
    }

    fn find(&self, channel: &Address, id: &str) -> Option<watch::Receiver<Authorisation>> {
        self.with(|entries| {
            let ours = |entry: &&Entry| entry.shown.borrow().channel == *channel && entry.shown.borrow().id == id;
            entries.iter().find(ours).map(|entry| entry.shown.subscribe())
        })
    }

    /// Ends one, or all, that still wait for somebody.
    pub fn end(&self, whose: impl Fn(&Authorisation) -> bool, said: &str) {
        self.with(|entries| {
            entries.iter_mut().filter(|entry| whose(&entry.shown.borrow())).for_each(|entry| entry.end(said));
        });
    }
}

impl Entry {
    fn waits(&self) -> bool {
        matches!(self.shown.borrow().outcome, Outcome::Waiting)
    }

    fn end(&mut self, said: &str) {
        if !self.waits() || self.answered {
            return;
        }
        if let Some(task) = &self.task {
            task.abort();
        }
        let problem = Problem::new(Cause::ConsentMissing, said);
        self.shown.send_modify(|shown| shown.outcome = Outcome::Refused(problem));
    }
}

/// One parameter of a URL, or of its path and query.
pub(super) fn parameter(url: &str, name: &str) -> Option<String> {
    let query = url.split_once('?').map_or(url, |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let mut found = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    found.next().map(|(_, value)| value.into_owned())
}

impl Accounts {
    /// Begins an authorisation (R9: also of an account that was connected before).
    pub async fn authorise(
        &self,
        channel: &Address,
        flow: Option<Flow>,
        author: &str,
    ) -> Result<Authorisation, AccountError> {
        let account = self.usable(channel)?;
        let oauth_use = account.oauth.clone().ok_or_else(|| AccountError::NoOauth(channel.clone()))?;
        let refused = |problem| AccountError::Refused { channel: channel.clone(), problem };
        let (config, oauth) = self.provider(&oauth_use.provider).await.map_err(refused)?;
        let settings = self.setup().config.clone();
        let flow = flow.unwrap_or(oauth_use.flow);
        let now = self.0.clock.now();
        let shown = Authorisation {
            id: fresh_id().map_err(refused)?,
            channel: channel.clone(),
            flow,
            url: None,
            user_code: None,
            verification_url: None,
            verification_url_complete: None,
            expires_at: now.saturating_add(settings.authorisation_timeout).unwrap_or(now),
            outcome: Outcome::Waiting,
        };
        let job = Job {
            accounts: self.clone(),
            account,
            flow,
            config,
            oauth,
            author: author.to_owned(),
            patience: settings.authorisation_timeout,
            most: settings.max_authorisations,
        };
        let begun = match flow {
            Flow::Code => Box::pin(job.begin_code(shown)).await?,
            Flow::Device => Box::pin(job.begin_device(shown)).await?,
            Flow::App => job.begin_app(shown)?,
        };
        tracing::info!(channel = %channel, flow = flow.as_str(), author, "an authorisation was begun");
        Ok(begun)
    }

    /// Puts a credential that works in the place of whatever was there.
    pub(super) async fn replace(&self, channel: &Address, credential: Credential) -> Result<(), Problem> {
        let slot = self.slot(channel);
        let mut turn = slot.turn.lock().await;
        self.write(channel, credential.clone()).await?;
        turn.reset();
        slot.show(match credential {
            Credential::Token(token) => Some(token.about),
            Credential::Password(_) => None,
        });
        Ok(())
    }

    /// One authorisation of a channel.
    pub fn authorisation(&self, channel: &Address, id: &str) -> Option<Authorisation> {
        self.0.authorisations.find(channel, id).map(|shown| shown.borrow().clone())
    }

    /// Takes the URL that a browser was sent to, copied by hand, and waits a while for what becomes of it.
    pub async fn answer_authorisation(
        &self,
        channel: &Address,
        id: &str,
        redirected_to: &str,
        patience: Duration,
    ) -> Result<Authorisation, AccountError> {
        let ours = |shown: &Authorisation| shown.channel == *channel && shown.id == id;
        let shown = self.0.authorisations.answer(ours, redirected_to);
        Ok(concluded(shown.ok_or(AccountError::ForeignAnswer)?, patience).await)
    }

    /// Takes the answer that a browser brings by itself.
    pub(super) async fn redirected(&self, target: &str, patience: Duration) -> Option<Authorisation> {
        Some(concluded(self.0.authorisations.answer(|_| true, target)?, patience).await)
    }

    /// Ends an authorisation that still waits for somebody.
    pub fn cancel_authorisation(&self, channel: &Address, id: &str) {
        let ours = |shown: &Authorisation| shown.channel == *channel && shown.id == id;
        self.0.authorisations.end(ours, "the authorisation was cancelled");
    }

    pub(super) fn end_authorisations(&self) {
        self.0.authorisations.end(|_| true, "the daemon is stopping");
    }
}

async fn concluded(mut shown: watch::Receiver<Authorisation>, patience: Duration) -> Authorisation {
    let ended = shown.wait_for(|shown| !matches!(shown.outcome, Outcome::Waiting));
    // Whether it ended or not, what is known now is the answer.
    let _ = tokio::time::timeout(patience, ended).await.map(drop);
    Authorisation::clone(&shown.borrow())
}

fn fresh_id() -> Result<String, Problem> {
    let mut bytes = [0u8; 12];
    getrandom::fill(&mut bytes).map_err(|error| Problem::new(Cause::Protocol, error.to_string()))?;
    Ok(crate::units::hex(&bytes))
}
