//! From the outputs of mail-auth to our verdicts: the words of RFC 8601 section 2.7.

use mail_auth::dkim::DkimError;
use mail_auth::dmarc::Policy;
use mail_auth::{DkimOutput, DkimResult, DmarcOutput, DmarcResult, Error, SpfResult};

use crate::mail::address::is_under;
use crate::mail::auth::{DmarcPolicy, Verdict};

/// The verdict of SPF.
pub(super) fn spf(result: SpfResult) -> Verdict {
    match result {
        SpfResult::Pass => Verdict::Pass,
        SpfResult::Fail => Verdict::Fail,
        SpfResult::SoftFail => Verdict::SoftFail,
        SpfResult::Neutral => Verdict::Neutral,
        SpfResult::TempError => Verdict::TempError,
        SpfResult::PermError => Verdict::PermError,
        SpfResult::None => Verdict::None,
    }
}

/// The verdict over all signatures, and the domain of the one that passed. One that passed wins, and among those the
/// one that fits the From domain; then what may pass later, then what failed.
pub(super) fn dkim(outputs: &[DkimOutput<'_>], from: &[String]) -> (Verdict, Option<String>) {
    let passed: Vec<String> = outputs
        .iter()
        .filter(|output| matches!(output.result(), DkimResult::Pass))
        .filter_map(|output| output.signature().map(|signature| signature.d.to_lowercase()))
        .collect();
    if !passed.is_empty() {
        let fits =
            |domain: &&String| from.iter().filter_map(|from| domain_of(from)).any(|from| is_under(&from, domain));
        return (Verdict::Pass, passed.iter().find(fits).or(passed.first()).cloned());
    }
    let found: Vec<Verdict> = outputs.iter().map(|output| signature(output.result())).collect();
    let order = [Verdict::TempError, Verdict::Fail, Verdict::PermError, Verdict::Neutral];
    (order.into_iter().find(|verdict| found.contains(verdict)).unwrap_or_default(), None)
}

/// The verdict over the ARC chain: it holds or it does not (RFC 8617 section 5.2).
pub(super) fn arc(result: &DkimResult) -> Verdict {
    match signature(result) {
        Verdict::Neutral | Verdict::PermError => Verdict::Fail,
        verdict => verdict,
    }
}

/// The verdict of DMARC, and what the From domain asks for.
pub(super) fn dmarc(output: &DmarcOutput) -> (Verdict, DmarcPolicy) {
    let policy = match output.policy() {
        Policy::Reject => DmarcPolicy::Reject,
        Policy::Quarantine => DmarcPolicy::Quarantine,
        Policy::None | Policy::Unspecified => DmarcPolicy::None,
    };
    let verdict = match (output.dkim_result(), output.spf_result()) {
        (DmarcResult::Pass, _) | (_, DmarcResult::Pass) => Verdict::Pass,
        (DmarcResult::TempError(_), _) | (_, DmarcResult::TempError(_)) => Verdict::TempError,
        (DmarcResult::Fail(_), _) | (_, DmarcResult::Fail(_)) => Verdict::Fail,
        (DmarcResult::PermError(_), _) | (_, DmarcResult::PermError(_)) => Verdict::PermError,
        (DmarcResult::None, DmarcResult::None) if output.dmarc_record().is_some() => Verdict::Fail,
        (DmarcResult::None, DmarcResult::None) => Verdict::None,
    };
    (verdict, policy)
}

/// Whether the From addresses are of more than one domain: DMARC has nothing to say of such mail (RFC 9989), and no
/// person would write it.
pub(super) fn several_domains(from: &[String]) -> bool {
    let mut domains = from.iter().filter_map(|from| domain_of(from));
    let first = domains.next();
    domains.any(|domain| Some(domain) != first)
}

fn signature(result: &DkimResult) -> Verdict {
    match result {
        DkimResult::Pass => Verdict::Pass,
        // A body that was changed is a failed verification; the library calls it neutral.
        DkimResult::Fail(_) | DkimResult::Neutral(Error::Dkim(DkimError::FailedBodyHashMatch)) => Verdict::Fail,
        DkimResult::Neutral(_) => Verdict::Neutral,
        DkimResult::PermError(_) => Verdict::PermError,
        DkimResult::TempError(_) => Verdict::TempError,
        DkimResult::None => Verdict::None,
    }
}

/// The domain of an address, in lower case.
pub(super) fn domain_of(address: &str) -> Option<String> {
    address.rsplit_once('@').map(|(_, domain)| domain.to_lowercase())
}
