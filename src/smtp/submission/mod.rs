//! The submission door (RFC 6409): programs that write their own mail hand it in here, and it leaves as they wrote it.
//!
//! It speaks through the same sessions and connections as the door for forwarded mail. Owned here: who may log in and
//! under which addresses they send. Must not know: tickets, relays, when the mail leaves.

pub mod config;
pub mod handed;
pub mod logins;
pub mod sasl;

pub use config::Config;
pub use logins::{Login, Logins};

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use secrecy::SecretString;

/// Whom a bearer token was given to: the addresses of its owner, none where the provider does not know the token.
pub type Owners = Result<Vec<String>, String>;
/// Asks a provider about a bearer token. The gateway hands it in, because this room does not know providers.
pub type LookUp = Arc<dyn Fn(SecretString) -> Pin<Box<dyn Future<Output = Owners> + Send>> + Send + Sync>;

/// What connections at this door use beside what all use.
#[derive(Clone)]
pub struct Submission {
    pub logins: Arc<Logins>,
    pub trusted: Vec<IpNet>,
    pub max_failed_logins: u32,
    /// By the names of the `[[oauth]]` clients.
    pub providers: HashMap<String, LookUp>,
}

impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submission").field("logins", &self.logins).finish_non_exhaustive()
    }
}

impl Submission {
    /// Reads the password files.
    pub fn load(config: &Config, providers: HashMap<String, LookUp>) -> Result<Self, logins::LoginError> {
        let (logins, trusted) = (Arc::new(Logins::load(config)?), config.trusted.clone());
        Ok(Self { logins, trusted, max_failed_logins: config.max_failed_logins, providers })
    }

    /// The mechanisms that some account can log in with.
    pub fn methods(&self) -> Vec<sasl::Method> {
        let (password, bearer) = self.logins.kinds();
        let usable = |method: &sasl::Method| match method {
            sasl::Method::OauthBearer => bearer,
            _ => password,
        };
        sasl::Method::ALL.into_iter().filter(usable).collect()
    }

    /// The account that a bearer token proves: its provider says that it belongs to the account's name.
    pub async fn look_up(&self, name: &str, token: SecretString) -> Result<Option<Arc<Login>>, String> {
        let Some(login) = self.logins.find(name) else { return Ok(None) };
        let Some(ask) = login.oauth.as_ref().and_then(|oauth| self.providers.get(oauth)) else { return Ok(None) };
        let owners = ask(token).await?;
        let own = owners.iter().any(|owner| owner.eq_ignore_ascii_case(&login.name));
        Ok(own.then_some(login))
    }
}
