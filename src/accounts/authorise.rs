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

use super::credential::{About, Credential, Flow};
use super::problem::{Cause, Problem};
use super::tokens::first;
use super::{Account, AccountError, Accounts, Login, trouble};
use crate::mail::Address;
use crate::net::oauth::{Grant, OAuthError, ProviderConfig};
use crate::store::rows::Wanted;

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
    fn concludes(&self, id: &str) -> bool {
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
fn parameter(url: &str, name: &str) -> Option<String> {
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
        let failed = |error: OAuthError| refused(trouble::problem(&error, &config));
        let settings = self.setup().config.clone();
        let flow = flow.unwrap_or(oauth_use.flow);
        let now = self.0.clock.now();
        let mut shown = Authorisation {
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
        let (this, who, most) = (self.clone(), author.to_owned(), settings.max_authorisations);
        let patience = settings.authorisation_timeout;
        let task = match flow {
            Flow::Code => {
                let back = super::redirect::Back::open(&config).await.map_err(refused)?;
                let hint = account.consenting().into_iter().next();
                let request = oauth.begin_code(&back.url, hint.as_deref()).await.map_err(failed)?;
                let state = parameter(&request.url, "state");
                shown.url = Some(request.url);
                let mut wait = self.0.authorisations.add(shown.clone(), state, most)?;
                tokio::spawn(Box::pin(async move {
                    let serving = back.serve(this.clone());
                    let work = async {
                        let grant = match tokio::time::timeout(patience, wait.answers.recv()).await {
                            Ok(Some(to)) => oauth.finish_code(request.pending, &to).await,
                            _ => Err(OAuthError::Expired),
                        };
                        this.conclude(&account, Flow::Code, &config, grant, &wait.shown, &who).await;
                        // The browser is still to be told.
                        tokio::time::sleep(super::redirect::LINGER).await;
                    };
                    tokio::select! { () = serving => {}, () = work => {} }
                }))
            }
            Flow::Device => {
                let request = oauth.begin_device().await.map_err(failed)?;
                shown.user_code = Some(request.user_code);
                shown.verification_url = Some(request.verification_url);
                shown.verification_url_complete = request.verification_url_complete;
                shown.expires_at = shown.expires_at.min(request.expires_at);
                let wait = self.0.authorisations.add(shown.clone(), None, most)?;
                tokio::spawn(Box::pin(async move {
                    let grant = tokio::time::timeout(patience, oauth.finish_device(request.pending)).await;
                    let grant = grant.unwrap_or(Err(OAuthError::Expired));
                    this.conclude(&account, Flow::Device, &config, grant, &wait.shown, &who).await;
                }))
            }
            Flow::App => {
                let wait = self.0.authorisations.add(shown.clone(), None, most)?;
                tokio::spawn(Box::pin(async move {
                    let grant = oauth.app(&account.mailbox().to_string()).await;
                    this.conclude(&account, Flow::App, &config, grant, &wait.shown, &who).await;
                }))
            }
        };
        self.0.authorisations.runs(&shown.id, task.abort_handle());
        tracing::info!(channel = %channel, flow = flow.as_str(), author, "an authorisation was begun");
        Ok(shown)
    }

    /// Looks at what was granted, keeps it if all is well, and tells how it ended.
    async fn conclude(
        &self,
        account: &Account,
        flow: Flow,
        config: &ProviderConfig,
        grant: Result<Grant, OAuthError>,
        shown: &watch::Sender<Authorisation>,
        author: &str,
    ) {
        let id = shown.borrow().id.clone();
        if !self.0.authorisations.concludes(&id) {
            return;
        }
        let outcome = match grant {
            Ok(grant) => self.accept(account, flow, config, grant, author).await,
            Err(error) => Err(trouble::problem(&error, config)),
        };
        let outcome = match outcome {
            Ok(about) => {
                let by = about.account().unwrap_or("the application").to_owned();
                tracing::info!(channel = %account.channel, by, "access to a mailbox was granted");
                Outcome::Granted(Box::new(about))
            }
            Err(problem) => {
                let cause = problem.cause.code();
                tracing::warn!(channel = %account.channel, cause, said = %problem.said, "an authorisation was refused");
                Outcome::Refused(problem)
            }
        };
        shown.send_modify(|shown| shown.outcome = outcome);
    }

    async fn accept(
        &self,
        account: &Account,
        flow: Flow,
        config: &ProviderConfig,
        grant: Grant,
        author: &str,
    ) -> Result<About, Problem> {
        let token = first(config, flow, grant, self.0.clock.now());
        if flow != Flow::App {
            right_account(account, &token.about)?;
        }
        let login = Login::Bearer { user: account.user.clone(), token: token.access.clone() };
        (self.0.probe)(account.channel.clone(), login).await?;
        let about = token.about.clone();
        self.replace(&account.channel, Credential::Token(Box::new(token))).await?;
        let (this, channel, author) = (self.clone(), account.channel.clone(), author.to_owned());
        super::tokens::blocking(move || {
            let wanted = this.want(&channel, Wanted::Connected, &author);
            wanted.map_err(|error| Problem::new(Cause::DiskLow, error.to_string()))
        })
        .await?;
        Ok(about)
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
    let now = shown.borrow().clone();
    now
}

/// The account that consented is the mailbox's own, or the one it was granted to (R4).
fn right_account(account: &Account, about: &About) -> Result<(), Problem> {
    let wanted = account.consenting();
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    if about.is_one_of(&names) {
        return Ok(());
    }
    let expected = names.join(" or ");
    let said = match about.account() {
        Some(name) => format!("{name} has signed in, and the mailbox is {expected}'s; nothing was stored"),
        None => format!(
            "the provider does not say who has signed in, and it has to be {expected}; \
             ask for the scopes openid and email; nothing was stored"
        ),
    };
    Err(Problem::new(Cause::WrongAccount, said))
}

fn fresh_id() -> Result<String, Problem> {
    let mut bytes = [0u8; 12];
    getrandom::fill(&mut bytes).map_err(|error| Problem::new(Cause::Protocol, error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
