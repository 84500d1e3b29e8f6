//! What the SMTP doors begin with, at the start and at each reload.

use std::collections::HashMap;

use super::GatewayError;
use crate::config::Config;
use crate::smtp;
use crate::smtp::submission::{LookUp, Submission};

/// What connections at the door for forwarded mail begin with.
pub fn forwarding(config: &Config) -> Result<smtp::Live, GatewayError> {
    Ok(smtp::Live::load(&config.smtp, config.tls.as_ref(), &config.server.hostname)?)
}

/// What connections at the submission door begin with.
pub fn submission(config: &Config) -> Result<smtp::Live, GatewayError> {
    let door = config.submission.door(&config.smtp);
    let live = smtp::Live::load(&door, config.tls.as_ref(), &config.server.hostname)?;
    Ok(live.at_submission(Submission::load(&config.submission, providers(config))?))
}

/// The ways to ask providers about bearer tokens.
fn providers(_config: &Config) -> HashMap<String, LookUp> {
    HashMap::new()
}
