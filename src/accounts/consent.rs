//! What becomes of one consent: it is asked for, looked at, tried on the mailbox, and only then kept.

use std::time::Duration;

use tokio::sync::watch;

use super::authorise::{Authorisation, Outcome, Wait, parameter};
use super::credential::{About, Credential, Flow};
use super::problem::{Cause, Problem};
use super::redirect::{Back, LINGER};
use super::tokens::first;
use super::{Account, AccountError, Accounts, Login, trouble};
use crate::net::oauth::{Grant, OAuth, OAuthError, ProviderConfig};
use crate::store::rows::Wanted;

/// One authorisation with all that it needs.
pub(super) struct Job {
    pub accounts: Accounts,
    pub account: Account,
    pub flow: Flow,
    pub config: ProviderConfig,
    pub oauth: OAuth,
    pub author: String,
    pub patience: Duration,
    /// How many may wait for somebody.
    pub most: usize,
}

impl Job {
    fn failed(&self, error: &OAuthError) -> AccountError {
        let problem = trouble::problem(error, &self.config);
        AccountError::Refused { channel: self.account.channel.clone(), problem }
    }

    fn add(&self, shown: &Authorisation, state: Option<String>) -> Result<Wait, AccountError> {
        self.accounts.0.authorisations.add(shown.clone(), state, self.most)
    }

    pub async fn begin_code(self, mut shown: Authorisation) -> Result<Authorisation, AccountError> {
        let channel = self.account.channel.clone();
        let back = Back::open(&self.accounts, &self.config).await;
        let back = back.map_err(|problem| AccountError::Refused { channel, problem })?;
        let hint = self.account.consenting().into_iter().next();
        let request = self.oauth.begin_code(&back.url, hint.as_deref()).await.map_err(|error| self.failed(&error))?;
        let state = parameter(&request.url, "state");
        shown.url = Some(request.url);
        let mut wait = self.add(&shown, state)?;
        let accounts = self.accounts.clone();
        let task = tokio::spawn(Box::pin(async move {
            let grant = match tokio::time::timeout(self.patience, wait.answers.recv()).await {
                Ok(Some(to)) => self.oauth.finish_code(request.pending, &to).await,
                _ => Err(OAuthError::Expired),
            };
            self.conclude(grant, &wait.shown).await;
            // The browser is still to be told.
            tokio::time::sleep(LINGER).await;
            drop(back);
        }));
        accounts.0.authorisations.runs(&shown.id, task.abort_handle());
        Ok(shown)
    }

    pub async fn begin_device(self, mut shown: Authorisation) -> Result<Authorisation, AccountError> {
        let request = self.oauth.begin_device().await.map_err(|error| self.failed(&error))?;
        shown.user_code = Some(request.user_code);
        shown.verification_url = Some(request.verification_url);
        shown.verification_url_complete = request.verification_url_complete;
        shown.expires_at = shown.expires_at.min(request.expires_at);
        let wait = self.add(&shown, None)?;
        let accounts = self.accounts.clone();
        let task = tokio::spawn(Box::pin(async move {
            let grant = tokio::time::timeout(self.patience, self.oauth.finish_device(request.pending)).await;
            self.conclude(grant.unwrap_or(Err(OAuthError::Expired)), &wait.shown).await;
        }));
        accounts.0.authorisations.runs(&shown.id, task.abort_handle());
        Ok(shown)
    }

    pub fn begin_app(self, shown: Authorisation) -> Result<Authorisation, AccountError> {
        let wait = self.add(&shown, None)?;
        let accounts = self.accounts.clone();
        let task = tokio::spawn(Box::pin(async move {
            let grant = self.oauth.app(&self.account.mailbox().to_string()).await;
            self.conclude(grant, &wait.shown).await;
        }));
        accounts.0.authorisations.runs(&shown.id, task.abort_handle());
        Ok(shown)
    }

    /// Looks at what was granted, keeps it if all is well, and tells how it ended.
    async fn conclude(&self, grant: Result<Grant, OAuthError>, shown: &watch::Sender<Authorisation>) {
        let id = shown.borrow().id.clone();
        if !self.accounts.0.authorisations.concludes(&id) {
            return;
        }
        let channel = &self.account.channel;
        let outcome = match grant {
            Ok(grant) => self.accept(grant).await,
            Err(error) => Err(trouble::problem(&error, &self.config)),
        };
        let outcome = match outcome {
            Ok(about) => {
                let by = about.account().unwrap_or("the application");
                tracing::info!(%channel, by, "access to a mailbox was granted");
                Outcome::Granted(Box::new(about))
            }
            Err(problem) => {
                let cause = problem.cause.code();
                tracing::warn!(%channel, cause, said = %problem.said, "an authorisation was refused");
                Outcome::Refused(problem)
            }
        };
        shown.send_modify(|shown| shown.outcome = outcome);
    }

    async fn accept(&self, grant: Grant) -> Result<About, Problem> {
        let (accounts, account) = (&self.accounts, &self.account);
        let token = first(&self.config, self.flow, grant, accounts.0.clock.now());
        if self.flow != Flow::App {
            right_account(account, &token.about)?;
        }
        let login = Login::Bearer { user: account.user.clone(), token: token.access.clone() };
        (accounts.0.probe)(account.channel.clone(), login).await?;
        let about = token.about.clone();
        accounts.replace(&account.channel, Credential::Token(Box::new(token))).await?;
        let (accounts, channel, author) = (accounts.clone(), account.channel.clone(), self.author.clone());
        super::tokens::blocking(move || {
            let wanted = accounts.want(&channel, Wanted::Connected, &author);
            wanted.map_err(|error| Problem::new(Cause::DiskLow, error.to_string()))
        })
        .await?;
        Ok(about)
    }
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
