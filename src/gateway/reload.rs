//! A reload: the configuration is read again, and what can change while the daemon runs does.

use std::path::Path;

use super::rooms::Rooms;
use super::{default, doors};
use crate::config::{Config, reload};
use crate::logging::LevelHandle;
use crate::metrics::ReloadResult;
use crate::net::tls::Acceptor;

impl Rooms {
    /// Reads the file again. A faulty one, or a certificate that cannot be used, changes nothing and says why.
    pub fn reload(&mut self, file: Option<&Path>, level: &LevelHandle) {
        let now = self.clock.now();
        match self.try_reload(file, level) {
            Ok(()) => {
                self.upkeep.reloaded();
                self.metrics.config_reloaded(ReloadResult::Applied, now);
            }
            Err(faults) => {
                for fault in &faults {
                    tracing::error!(%fault, "the configuration was not reloaded; the old one stays");
                }
                self.upkeep.reload_refused(now, &faults);
                self.metrics.config_reloaded(ReloadResult::Refused, now);
            }
        }
    }

    fn try_reload(&mut self, file: Option<&Path>, level: &LevelHandle) -> Result<(), Vec<String>> {
        let new =
            Config::load(file).map_err(|faults| faults.to_string().lines().map(str::to_owned).collect::<Vec<_>>())?;
        let live = doors::forwarding(&new).map_err(|trouble| vec![trouble.to_string()])?;
        let submission = doors::submission(&new, &self.clock).map_err(|trouble| vec![trouble.to_string()])?;
        let letters = new.letters().map_err(|said| said.lines().map(str::to_owned).collect::<Vec<_>>())?;
        self.shared.relays.configure(&new.relays, &new.dkim).map_err(|trouble| vec![trouble.to_string()])?;
        let changes = reload::changes(&self.config, &new);
        self.shared.smtp.store(live.into());
        self.shared.submission.store(submission.into());
        default::exchange(&self.shared.directory, new.directory(), &self.store);
        self.shared.accounts.configure(new.setup());
        self.shared.sources.send_replace(new.sources());
        self.shared.intake.store(new.intake.clone().into());
        self.shared.letters.store(letters.into());
        self.shared.replies.store(new.replies.clone().into());
        self.shared.reports.store(new.reports.clone().into());
        self.shared.outbox.store(new.outbox.clone().into());
        let loops = new.loops.loops();
        self.shared.suppress.store(loops.suppress.into());
        self.shared.never.store(loops.patterns.clone().into());
        self.shared.loops.store(loops.into());
        level.set(&new.log.level);
        for name in &changes.live {
            tracing::info!(section = name, "reloaded");
        }
        for name in &changes.restart {
            tracing::warn!(section = name, "changed in the file, but only a restart makes it so");
        }
        if changes.is_empty() {
            tracing::info!("reloaded: the file says the same, certificates were read again");
        }
        self.config = new;
        self.tell_expiry();
        Ok(())
    }

    /// Shows when the certificate in use expires.
    pub(super) fn tell_expiry(&self) {
        let expires = self.shared.smtp.load().tls.as_ref().and_then(Acceptor::expires);
        if let Some(at) = expires {
            self.metrics.certificate_expires("smtp", at);
        }
        self.upkeep.certificate_expires(expires);
        if let Some(problem) = self.upkeep.certificate(self.clock.now(), self.config.accounts.warn_before) {
            tracing::warn!(said = problem.said, action = problem.action, "certificate");
        }
    }
}
