//! Credentials and authorisations, as JSON. No secret is among them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::types::{ChannelJson, ProblemJson};
use crate::accounts::{Authorisation, End, Outcome, Shown};
use crate::mail::Address;

/// What a mailbox is logged in to with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CredentialJson {
    /// `password` or `oauth`.
    pub kind: String,
    /// Whether the password stands in the `password_file` of its source.
    #[serde(default)]
    pub from_file: bool,
    /// The name of its `[[oauth]]`.
    pub provider: Option<String>,
    /// `code`, `device` or `app`.
    pub flow: Option<String>,
    /// Who consented.
    pub account: Option<String>,
    pub scopes: Vec<String>,
    pub access_expires_at: Option<String>,
    /// `null` where the provider does not tell.
    pub refresh_expires_at: Option<String>,
    pub next_refresh_at: Option<String>,
    /// What is going to die soon, and what to do before it does.
    pub warnings: Vec<ProblemJson>,
}

impl CredentialJson {
    pub fn of(shown: Shown, channel: &Address) -> Self {
        Self {
            kind: shown.kind.into(),
            from_file: shown.from_file,
            provider: shown.provider,
            flow: shown.flow.map(|flow| flow.as_str().into()),
            account: shown.account,
            scopes: shown.scopes,
            access_expires_at: shown.access_expires_at.map(|at| at.to_string()),
            refresh_expires_at: shown.refresh_expires_at.map(|at| at.to_string()),
            next_refresh_at: shown.next_refresh_at.map(|at| at.to_string()),
            warnings: shown.warnings.iter().map(|end| warning(end, channel)).collect(),
        }
    }
}

/// A warning as `status` shows problems.
pub(super) fn warning(end: &End, channel: &Address) -> ProblemJson {
    ProblemJson {
        code: end.code.into(),
        said: format!("{channel}: {}", end.said),
        action: end.action.replace("ADDRESS", &channel.to_string()),
    }
}

/// An authorisation that somebody is led through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuthorisationJson {
    pub id: String,
    pub channel: String,
    /// `code`, `device` or `app`.
    pub flow: String,
    /// What to open in a browser (flow `code`).
    pub url: Option<String>,
    /// What to type in at `verification_url` (flow `device`).
    pub user_code: Option<String>,
    pub verification_url: Option<String>,
    /// The same with the code in it, where the provider has that.
    pub verification_url_complete: Option<String>,
    pub expires_at: String,
    /// `waiting`, `granted` or `refused`.
    pub state: String,
    /// Why it was refused: a cause as problems of connections have it.
    pub code: Option<String>,
    pub said: Option<String>,
    pub action: Option<String>,
    /// Who consented, and to what.
    pub account: Option<String>,
    pub scopes: Vec<String>,
    pub access_expires_at: Option<String>,
    pub refresh_expires_at: Option<String>,
}

impl From<Authorisation> for AuthorisationJson {
    fn from(shown: Authorisation) -> Self {
        let mut json = Self {
            id: shown.id,
            channel: shown.channel.to_string(),
            flow: shown.flow.as_str().into(),
            url: shown.url,
            user_code: shown.user_code,
            verification_url: shown.verification_url,
            verification_url_complete: shown.verification_url_complete,
            expires_at: shown.expires_at.to_string(),
            state: "waiting".into(),
            code: None,
            said: None,
            action: None,
            account: None,
            scopes: Vec::new(),
            access_expires_at: None,
            refresh_expires_at: None,
        };
        match shown.outcome {
            Outcome::Waiting => {}
            Outcome::Granted(about) => {
                json.state = "granted".into();
                json.account = about.account().map(str::to_owned);
                json.scopes = about.scopes.clone();
                json.access_expires_at = Some(about.expires_at.to_string());
                json.refresh_expires_at = about.refresh_expires_at.map(|at| at.to_string());
            }
            Outcome::Refused(problem) => {
                json.state = "refused".into();
                json.code = Some(problem.cause.code().into());
                json.action = Some(problem.action_for(&shown.channel));
                json.said = Some(problem.said);
            }
        }
        json
    }
}

/// What `connect` answers: the channel where a password was enough, else what somebody has to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ConnectAnswer {
    Begun { authorisation: Box<AuthorisationJson> },
    Connected(Box<ChannelJson>),
}

/// The address that a browser was sent to, copied by hand. It has no `Debug`, because it holds a code.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The whole address, or its query.
    pub redirected_to: String,
}
