//! Access without a person: of the application itself (RFC 6749 section 4.4), or of a service account that acts for
//! somebody (RFC 7523 section 2.1).

use oauth2::Scope;

use super::client::failed;
use super::config::Preset;
use super::credentials::{ClientProof, ServiceAccount};
use super::error::OAuthError;
use super::{Grant, Identity, OAuth, answer, assertion, preset};

impl OAuth {
    /// Access of the application itself, or of the service account that acts for `subject`, an address. There is no
    /// refresh token: it is asked for anew.
    pub async fn app(&self, subject: &str) -> Result<Grant, OAuthError> {
        match &self.0.credentials.service {
            Some(account) => self.service(account, subject).await,
            None => self.own().await,
        }
    }

    async fn own(&self) -> Result<Grant, OAuthError> {
        let config = &self.0.config;
        if matches!(self.0.credentials.proof, ClientProof::None) {
            let said = "access without a person needs client_secret_file, or certificate_file and private_key_file";
            return Err(OAuthError::Config(said.into()));
        }
        if config.preset == Preset::Microsoft && matches!(&*config.tenant, "common" | "organizations" | "consumers") {
            let said = format!("tenant: \"{}\" is no directory; name yours by its domain or id", config.tenant);
            return Err(OAuthError::Config(said));
        }
        let endpoints = self.0.endpoints().await?;
        let (asked_at, client) = (self.0.clock.now(), self.0.client(&endpoints));
        let scopes = preset::app_scopes(config);
        let mut request = client.exchange_client_credentials().add_scopes(scopes.iter().cloned().map(Scope::new));
        for (key, value) in self.0.assertion(&endpoints)? {
            request = request.add_extra_param(key, value);
        }
        let granted = request.request_async(&|request| self.0.clone().send(request)).await.map_err(failed)?;
        complete(answer::grant(&granted, asked_at)?, &scopes)
    }

    async fn service(&self, account: &ServiceAccount, subject: &str) -> Result<Grant, OAuthError> {
        let endpoints = self.0.endpoints().await?;
        let asked_at = self.0.clock.now();
        let scopes = preset::app_scopes(&self.0.config);
        let audience = endpoints.token.as_str();
        let token = assertion::service_account(account, subject, &scopes.join(" "), audience, asked_at)?;
        let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned();
        let granted = self.0.bare_token(&endpoints, vec![("grant_type", kind), ("assertion", token)]).await?;
        let mut grant = complete(answer::grant(&granted, asked_at)?, &scopes)?;
        // The provider has accepted that the account acts for this address, and for no other.
        grant.identity = Identity { subject: None, addresses: vec![subject.to_lowercase()] };
        Ok(grant)
    }
}

fn complete(grant: Grant, asked: &[String]) -> Result<Grant, OAuthError> {
    let missing = answer::missing(asked, grant.scopes.as_deref());
    if missing.is_empty() { Ok(grant) } else { Err(OAuthError::ScopeMissing(missing)) }
}
