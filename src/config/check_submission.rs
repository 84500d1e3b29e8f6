//! What can be wrong with the submission door.

use super::Config;
use super::check::Checker;
use crate::smtp::submission::config::SubmissionFault;

impl Checker<'_> {
    /// The section by itself, and the names that it uses.
    pub(super) fn submission(&mut self, config: &Config) {
        let (oauth, relays) = (config.oauth_names(), config.relay_names());
        for fault in config.submission.faults(config.tls.as_ref(), &oauth, &relays) {
            let SubmissionFault { account, key, said, advice } = fault;
            let index = account.map(|at| at.to_string());
            match &index {
                Some(index) => self.wrong(&["submission", "accounts", index, key], &said, &advice),
                None => self.wrong(&["submission", key], &said, &advice),
            }
        }
    }
}
