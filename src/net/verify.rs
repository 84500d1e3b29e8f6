//! Who really sent a mail: SPF (RFC 7208), DKIM (RFC 6376), ARC (RFC 8617) and DMARC (RFC 9989).
//!
//! The verdicts are facts for the record; what follows from them is a channel's policy and not known here. Nothing in
//! this room ever fails for its caller: a name server that does not answer is a `TempError` with a note, in time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{AuthenticatedMessage, DkimOutput, MessageAuthenticator, SpfOutput, SpfResult};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::dns;
use super::verdicts;
use crate::mail::Address;
use crate::mail::auth::{AuthResults, DmarcPolicy, Verdict};
use crate::mail::headers;
use crate::units::{count, show_duration};

/// Bodies up to this size are hashed where we stand; larger ones would hold up the other tasks of the thread.
const SMALL_BODY: usize = 256 << 10;

/// `[verify]`: the verification of senders.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether senders are verified at all. When not, every verdict is `none`.
    pub enabled: bool,
    /// How long the verification of one mail may take in all; what is open then is `temperror`.
    #[serde(with = "crate::units::duration")]
    pub timeout: Duration,
    /// Peers in these networks are not verified: their mail is our own, or was verified before it came to them.
    pub exempt: Vec<IpNet>,
    /// How many mails are verified at the same time; others wait, and their time runs.
    pub max_concurrent: usize,
    /// How many DKIM signatures of one mail are looked at, from the top.
    pub max_signatures: usize,
    /// The longest ARC chain that is looked at.
    pub max_arc_sets: usize,
    /// Bodies over this size are not hashed: DKIM and ARC are `none` for them.
    #[serde(with = "crate::units::bytes")]
    pub max_body_bytes: u64,
    /// The name servers.
    pub dns: dns::Config,
}

impl Default for Config {
    fn default() -> Self {
        let exempt = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"];
        Self {
            enabled: true,
            timeout: Duration::from_secs(5),
            exempt: exempt.iter().filter_map(|net| net.parse().ok()).collect(),
            max_concurrent: 64,
            max_signatures: 5,
            max_arc_sets: 10,
            max_body_bytes: 25_000_000,
            dns: dns::Config::default(),
        }
    }
}

/// Verifies senders; cheap to clone.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    config: Config,
    /// The name of this host, as the receiver in SPF macros.
    hostname: String,
    /// The text says why there is no resolver.
    authenticator: Result<MessageAuthenticator, String>,
    slots: Semaphore,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// Builds a verifier for the host of this name. Name servers that cannot be found out make every verdict a `TempError`, not a failed start.
    pub fn new(config: &Config, hostname: &str) -> Self {
        let authenticator = if config.enabled {
            dns::resolver(&config.dns).map(MessageAuthenticator).map_err(|error| format!("no name servers: {error}"))
        } else {
            Err("verification is off".to_owned())
        };
        let slots = Semaphore::new(config.max_concurrent.max(1));
        Self(Arc::new(Inner { config: config.clone(), hostname: hostname.to_owned(), authenticator, slots }))
    }

    /// The reason for not verifying mail from this peer, if there is one.
    pub fn exemption(&self, peer: IpAddr) -> Option<&'static str> {
        let peer = peer.to_canonical();
        if !self.0.config.enabled {
            return Some("verification is off");
        }
        self.0.config.exempt.iter().any(|net| net.contains(&peer)).then_some("peer is exempt")
    }

    /// The verdicts about one mail. `mail_from` is `None` for the null sender. Takes at most `timeout`.
    pub async fn verify(&self, peer: IpAddr, helo: &str, mail_from: Option<&Address>, raw: &[u8]) -> AuthResults {
        if let Some(why) = self.exemption(peer) {
            return AuthResults { note: Some(why.to_owned()), ..AuthResults::default() };
        }
        let authenticator = match &self.0.authenticator {
            Ok(authenticator) => authenticator,
            Err(why) => return all_temporary(why.clone()),
        };
        let config = &self.0.config;
        let deadline = Instant::now() + config.timeout;
        let Ok(Ok(_slot)) = timeout_at(deadline, self.0.slots.acquire()).await else {
            return all_temporary("too many mails are being verified".to_owned());
        };
        Check { config, hostname: &self.0.hostname, authenticator, deadline, notes: Vec::new() }
            .run(peer.to_canonical(), helo, mail_from, raw)
            .await
    }
}

fn all_temporary(note: String) -> AuthResults {
    let (spf, dkim, dmarc, arc) = (Verdict::TempError, Verdict::TempError, Verdict::TempError, Verdict::TempError);
    AuthResults { spf, dkim, dmarc, arc, note: Some(note), ..AuthResults::default() }
}

/// The verification of one mail.
struct Check<'c> {
    config: &'c Config,
    hostname: &'c str,
    authenticator: &'c MessageAuthenticator,
    deadline: Instant,
    notes: Vec<String>,
}

impl Check<'_> {
    async fn run(mut self, peer: IpAddr, helo: &str, mail_from: Option<&Address>, raw: &[u8]) -> AuthResults {
        let sender = mail_from.map(Address::to_string).unwrap_or_default();
        let raw = &raw[headers::fields_begin(raw)..];
        let message = self.read(raw);
        let (authenticator, deadline) = (self.authenticator, self.deadline);
        let host = self.hostname;
        let spf = async {
            let asked = authenticator.verify_spf(SpfParameters::verify(peer, helo, host, &sender));
            timeout_at(deadline, asked).await.ok()
        };
        let dkim = async {
            let message = message.as_ref()?;
            timeout_at(deadline, authenticator.verify_dkim(message)).await.ok()
        };
        let arc = async {
            let message = message.as_ref()?;
            timeout_at(deadline, authenticator.verify_arc(message)).await.ok()
        };
        let (spf, dkim, arc) = tokio::join!(spf, dkim, arc);
        let spf_verdict = spf.as_ref().map_or(Verdict::TempError, |output| verdicts::spf(output.result()));
        let mut results = AuthResults { spf: spf_verdict, ..AuthResults::default() };
        if let Some(message) = &message {
            (results.dkim, results.dkim_domain) = match &dkim {
                Some(outputs) => verdicts::dkim(outputs, &message.from),
                None => (Verdict::TempError, None),
            };
            results.arc = arc.as_ref().map_or(Verdict::TempError, |output| verdicts::arc(output.result()));
            let domain = mail_from.map_or(helo, Address::domain);
            (results.dmarc, results.dmarc_policy) = self.dmarc(message, spf.as_ref(), dkim.as_deref(), domain).await;
        }
        if Instant::now() >= self.deadline {
            self.notes.push(format!("DNS took longer than {}", show_duration(self.config.timeout)));
        }
        results.note = (!self.notes.is_empty()).then(|| self.notes.join("; "));
        results
    }

    /// Reads the header section and hashes the body, within the bounds on both.
    fn read<'m>(&mut self, raw: &'m [u8]) -> Option<AuthenticatedMessage<'m>> {
        let too_large = raw.len() as u64 > self.config.max_body_bytes;
        // Signatures that cover only the first part of the body ("l=") prove nothing about the rest and are not
        // accepted, so that at most one hash for each algorithm and canonical form is made (RFC 6376 section 8.2).
        let parse = || AuthenticatedMessage::parse(if too_large { head_of(raw) } else { raw });
        let mut message = match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(tokio::runtime::RuntimeFlavor::MultiThread) if raw.len() > SMALL_BODY => {
                tokio::task::block_in_place(parse)
            }
            _ => parse(),
        };
        let Some(read) = &mut message else {
            self.notes.push("no header section to verify".to_owned());
            return None;
        };
        if too_large {
            self.notes.push("body too large to be hashed".to_owned());
            read.dkim_headers.clear();
            clear_arc(read);
        }
        let signatures = read.dkim_headers.len();
        if signatures > self.config.max_signatures {
            self.notes.push(format!(
                "{}, the first {} count",
                count(signatures, "DKIM signature", "DKIM signatures"),
                self.config.max_signatures
            ));
            read.dkim_headers.truncate(self.config.max_signatures);
        }
        let sets = read.as_headers.len().max(read.ams_headers.len()).max(read.aar_headers.len());
        if sets > self.config.max_arc_sets {
            self.notes.push(format!("an ARC chain of {} was not looked at", count(sets, "set", "sets")));
            clear_arc(read);
        }
        message
    }

    async fn dmarc(
        &mut self,
        message: &AuthenticatedMessage<'_>,
        spf: Option<&SpfOutput>,
        dkim: Option<&[DkimOutput<'_>]>,
        sender_domain: &str,
    ) -> (Verdict, DmarcPolicy) {
        if verdicts::several_domains(&message.from) {
            self.notes.push("From names several domains".to_owned());
            return (Verdict::PermError, DmarcPolicy::None);
        }
        let unknown = SpfOutput::new(sender_domain.to_owned()).with_result(SpfResult::TempError);
        let spf = spf.unwrap_or(&unknown);
        let asked = DmarcParameters::new(message, dkim.unwrap_or_default(), sender_domain, spf);
        match timeout_at(self.deadline, self.authenticator.verify_dmarc(asked)).await {
            Ok(output) => verdicts::dmarc(&output),
            Err(_) => (Verdict::TempError, DmarcPolicy::None),
        }
    }
}

/// The header section with the empty line that ends it.
fn head_of(raw: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(raw, b"\r\n\r\n").map(|at| at + 4);
    &raw[..end.unwrap_or(raw.len()).min(raw.len())]
}

fn clear_arc(message: &mut AuthenticatedMessage<'_>) {
    message.as_headers.clear();
    message.ams_headers.clear();
    message.aar_headers.clear();
    message.has_arc_errors = false;
}
