//! Verdicts of SPF, DKIM, DMARC and ARC (RFC 8601 section 2.7), as values.

/// One verdict. The words are those of RFC 8601.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Not looked at, or there was nothing to look at.
    #[default]
    None,
    Pass,
    Fail,
    SoftFail,
    Neutral,
    Policy,
    TempError,
    PermError,
}

impl Verdict {
    /// The word of RFC 8601.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::Neutral => "neutral",
            Self::Policy => "policy",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }

    /// The verdict that a word names; unknown words are `None`.
    pub fn from_word(word: &str) -> Self {
        [Self::Pass, Self::Fail, Self::SoftFail, Self::Neutral, Self::Policy, Self::TempError, Self::PermError]
            .into_iter()
            .find(|verdict| verdict.as_str() == word)
            .unwrap_or_default()
    }
}

/// What the domain owner's DMARC record asks for when DMARC fails (RFC 7489 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DmarcPolicy {
    #[default]
    None,
    Quarantine,
    Reject,
}

/// All verdicts about one mail.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuthResults {
    pub spf: Verdict,
    pub dkim: Verdict,
    pub dmarc: Verdict,
    pub arc: Verdict,
    /// What the From domain asks for on failure.
    pub dmarc_policy: DmarcPolicy,
    /// The domain whose DKIM signature passed, if one did.
    pub dkim_domain: Option<String>,
    /// Why a verdict is an error or was skipped, in a few words: "DNS timed out after 5 s", "peer is exempt".
    pub note: Option<String>,
}

impl AuthResults {
    /// Whether the mail failed what its sender's domain can be held to: DMARC where it has a verdict, and otherwise
    /// DKIM or SPF when neither of the two passed. Forwarding breaks SPF by nature, so SPF alone never fails a mail
    /// that DKIM passes (RFC 7489 section 3.1), or that DKIM might pass once DNS answers.
    pub fn failed(&self) -> bool {
        match self.dmarc {
            Verdict::Fail => true,
            Verdict::Pass => false,
            _ => {
                let either = |verdict| self.spf == verdict || self.dkim == verdict;
                either(Verdict::Fail) && !either(Verdict::Pass) && !either(Verdict::TempError)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthResults, Verdict};

    #[test]
    fn a_mail_fails_by_dmarc_or_by_dkim_and_spf_together() {
        use Verdict::{Fail, None, Pass, TempError};
        let rows = [
            (Pass, Pass, Pass, false),
            (Fail, Pass, Pass, false),
            (Pass, Pass, Fail, true),
            (Fail, None, None, true),
            (Fail, Pass, None, false),
            (None, Fail, None, true),
            (None, None, None, false),
            (TempError, TempError, TempError, false),
            (Fail, TempError, None, false),
            (Fail, TempError, TempError, false),
            (TempError, Fail, None, false),
            (Fail, None, TempError, true),
        ];
        for (spf, dkim, dmarc, want) in rows {
            let results = AuthResults { spf, dkim, dmarc, ..AuthResults::default() };
            assert_eq!(results.failed(), want, "{spf:?} {dkim:?} {dmarc:?}");
        }
    }
}
