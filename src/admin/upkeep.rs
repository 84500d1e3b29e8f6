//! What the gateway finds when it reads its files: when the certificate ends, and why a reload was refused.
//!
//! Must not know: what stands in those files.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::types::ProblemJson;
use crate::units::count;

/// The newest of it; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Upkeep(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    certificate_expires: Option<Timestamp>,
    refused: Option<Refused>,
}

/// A reload that changed nothing: when, its first fault, and how many more there were.
#[derive(Debug)]
struct Refused {
    at: Timestamp,
    fault: String,
    more: usize,
}

impl Upkeep {
    /// When the certificate of `[tls]` ends, where there is one.
    pub fn certificate_expires(&self, at: Option<Timestamp>) {
        self.known().certificate_expires = at;
    }

    /// The file is used as it is now.
    pub fn reloaded(&self) {
        self.known().refused = None;
    }

    /// The file has faults, and the earlier one stays in use.
    pub fn reload_refused(&self, at: Timestamp, faults: &[String]) {
        let fault = faults.first().cloned().unwrap_or_default();
        self.known().refused = Some(Refused { at, fault, more: faults.len().saturating_sub(1) });
    }

    /// What is wrong, each with what to do. `warn_before` is how long before its end a certificate is warned of.
    pub(super) fn problems(&self, now: Timestamp, warn_before: Duration) -> Vec<ProblemJson> {
        let refused = self.known().refused.as_ref().map(|Refused { at, fault, more }| {
            let others = match more {
                0 => String::new(),
                more => format!(" ({} more)", count(*more as u64, "fault", "faults")),
            };
            ProblemJson {
                code: "reload_refused".into(),
                said: format!(
                    "the reload at {at:.0} changed nothing, the earlier configuration stays: {fault}{others}"
                ),
                action: "correct the file, see \"ticketgate check FILE\", and reload again".into(),
            }
        });
        refused.into_iter().chain(self.certificate(now, warn_before)).collect()
    }

    /// The problem of a certificate that has expired, or is going to.
    pub fn certificate(&self, now: Timestamp, warn_before: Duration) -> Option<ProblemJson> {
        let at = self.known().certificate_expires?;
        let action = "put a new one in its place and reload".into();
        if at <= now {
            let said = format!("the certificate of [tls] expired at {at:.0}: who checks it hands no mail over");
            return Some(ProblemJson { code: "tls_certificate_expired".into(), said, action });
        }
        let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let said = format!("the certificate of [tls] expires at {at:.0}");
        (left < warn_before).then(|| ProblemJson { code: "tls_certificate_expires".into(), said, action })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_a_refused_reload_are_problems_until_they_are_mended() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let upkeep = Upkeep::default();
        let codes = || -> Vec<String> { upkeep.problems(now, 14 * day).into_iter().map(|it| it.code).collect() };
        assert!(codes().is_empty(), "nothing is known yet");
        for (ends, want) in [
            (now + 15 * day, vec![]),
            (now + 13 * day, vec!["tls_certificate_expires"]),
            (now, vec!["tls_certificate_expired"]),
            (now - 400 * day, vec!["tls_certificate_expired"]),
        ] {
            upkeep.certificate_expires(Some(ends));
            assert_eq!(codes(), want, "{ends}");
        }
        upkeep.certificate_expires(None);
        upkeep.reload_refused(now, &["t.toml:1: x: wrong".into(), "t.toml:2: y: wrong".into()]);
        let told = upkeep.problems(now, day).remove(0);
        assert!(told.said.ends_with("t.toml:1: x: wrong (1 fault more)"), "{}", told.said);
        upkeep.reloaded();
        assert!(codes().is_empty());
    }
}
