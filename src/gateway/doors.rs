//! What the SMTP doors begin with, at the start and at each reload.

use std::collections::HashMap;
use std::sync::Arc;

use super::GatewayError;
use crate::clock::Clock;
use crate::config::Config;
use crate::net::oauth::{OAuth, OAuthError};
use crate::smtp;
use crate::smtp::submission::{LookUp, Submission};

/// What connections at the door for forwarded mail begin with.
pub fn forwarding(config: &Config) -> Result<smtp::Live, GatewayError> {
    Ok(smtp::Live::load(&config.smtp, config.tls.as_ref(), &config.server.hostname)?)
}

/// What connections at the submission door begin with.
pub fn submission(config: &Config, clock: &Clock) -> Result<smtp::Live, GatewayError> {
    let door = config.submission.door(&config.smtp);
    let live = smtp::Live::load(&door, config.tls.as_ref(), &config.server.hostname)?;
    Ok(live.at_submission(Submission::load(&config.submission, providers(config, clock)?)?))
}

/// The ways to ask the providers that accounts name about bearer tokens.
fn providers(config: &Config, clock: &Clock) -> Result<HashMap<String, LookUp>, GatewayError> {
    let named = |name: &String| config.submission.accounts.iter().any(|account| account.oauth.as_ref() == Some(name));
    let mut providers = HashMap::new();
    for provider in config.providers.iter().filter(|provider| named(&provider.name)) {
        let wrong = |error: OAuthError| GatewayError::Broken(format!("[[oauth]] \"{}\": {error}", provider.name));
        let oauth = OAuth::new(provider, clock.clone()).map_err(wrong)?;
        let ask: LookUp = Arc::new(move |token| {
            let oauth = oauth.clone();
            Box::pin(async move { oauth.owners(&token).await.map_err(|error| error.to_string()) })
        });
        providers.insert(provider.name.clone(), ask);
    }
    Ok(providers)
}
