//! Who really sent a mail: SPF (RFC 7208), DKIM (RFC 6376), ARC (RFC 8617) and DMARC (RFC 9989).
//!
//! The verdicts are facts for the record; what follows from them is a channel's policy and not known here. Nothing in
//! this room ever fails for its caller: a name server that does not answer is a `TempError` with a note, in time.

use std::borrow::Cow;
use std::fmt::Display;
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
use crate::mail::address::is_under;
use crate::mail::auth::{AuthResults, DmarcPolicy, Verdict};
use crate::mail::headers::{self, HeaderSection};
use crate::units::{count, show_duration};

/// Bodies up to this size are hashed where we stand; larger ones would hold up the other tasks of the thread.
const SMALL_BODY: usize = 256 << 10;
/// The longest header section that is looked at; no door takes a longer one. Millions of fields would take many times
/// their own room in memory.
const LONGEST_HEADER: usize = 1 << 20;
/// What one permit of the room in memory stands for.
const PIECE: u64 = 64 << 10;

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
    /// How many bytes of mails are held in memory for it at the same time; others wait, and their time runs.
    #[serde(with = "crate::units::bytes")]
    pub max_memory: u64,
    /// How many DKIM signatures of one mail are looked at: those of the author's domain first, then from the top.
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
            max_memory: 128 << 20,
            max_signatures: 5,
            max_arc_sets: 10,
            // As much as the doors take: a mail that nobody could verify would be refused where policy wants it verified.
            max_body_bytes: 50 << 20,
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
    /// In pieces.
    room: Semaphore,
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
        let room = Semaphore::new(pieces(config.max_memory, u64::MAX) as usize);
        Self(Arc::new(Inner { config: config.clone(), hostname: hostname.to_owned(), authenticator, slots, room }))
    }

    /// The reason for not verifying mail from this peer, if there is one.
    pub fn exemption(&self, peer: IpAddr) -> Option<&'static str> {
        let peer = peer.to_canonical();
        if !self.0.config.enabled {
            return Some("verification is off");
        }
        self.0.config.exempt.iter().any(|net| net.contains(&peer)).then_some("peer is exempt")
    }

    /// Whether the body of a mail of so many bytes is looked at. Of others the header section is enough.
    pub fn hashes(&self, size: u64) -> bool {
        size <= self.0.config.max_body_bytes
    }

    /// The verdicts about one mail of `size` bytes, which `raw` reads once there is room for it, or its header section
    /// where `hashes` says that this is enough. `mail_from` is `None` for the null sender. Takes at most `timeout`.
    pub async fn verify<'r, E: Display>(
        &self,
        peer: IpAddr,
        helo: &str,
        mail_from: Option<&Address>,
        size: u64,
        raw: impl Future<Output = Result<Cow<'r, [u8]>, E>>,
    ) -> AuthResults {
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
        let too_large = !self.hashes(size);
        let wanted = if too_large { 1 } else { pieces(size, config.max_memory) };
        let Ok(Ok(_room)) = timeout_at(deadline, self.0.room.acquire_many(wanted)).await else {
            return all_temporary("too many large mails are being verified".to_owned());
        };
        let raw = match raw.await {
            Ok(raw) => raw,
            // Whoever accepts the mail meets the same trouble and answers it.
            Err(error) => return AuthResults { note: Some(error.to_string()), ..AuthResults::default() },
        };
        Check { config, hostname: &self.0.hostname, authenticator, deadline, too_large, notes: Vec::new() }
            .run(peer.to_canonical(), helo, mail_from, &raw)
            .await
    }
}

/// So many bytes in pieces, at least one, and no more than there are in all.
fn pieces(bytes: u64, all: u64) -> u32 {
    u32::try_from((bytes.min(all) / PIECE).max(1)).unwrap_or(u32::MAX).min(1 << 24)
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
    /// Its body is not looked at.
    too_large: bool,
    notes: Vec<String>,
}

impl Check<'_> {
    async fn run(mut self, peer: IpAddr, helo: &str, mail_from: Option<&Address>, raw: &[u8]) -> AuthResults {
        // Both as DNS knows them (RFC 8616 section 4).
        let sender = mail_from.map(|from| format!("{}@{}", from.local(), from.ascii_domain())).unwrap_or_default();
        let raw = &raw[headers::fields_begin(raw)..];
        let message = self.read(raw);
        let (authenticator, deadline) = (self.authenticator, self.deadline);
        let host = self.hostname;
        let spf = async {
            // DMARC goes by the return path alone, and by HELO where there is none (RFC 7489 section 3.1.2).
            let asked = match mail_from {
                Some(_) => SpfParameters::verify_mail_from(peer, helo, host, &sender),
                None => SpfParameters::verify_ehlo(peer, helo, host),
            };
            let asked = authenticator.verify_spf(asked);
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
        let too_large = self.too_large;
        if head_of(raw).len() > LONGEST_HEADER {
            self.notes.push("header section too large to verify".to_owned());
            return None;
        }
        // Signatures that cover only the first part of the body ("l=") prove nothing about the rest and are not
        // accepted, so that at most one hash for each algorithm and canonical form is made (RFC 6376 section 8.2).
        let parse = || AuthenticatedMessage::parse(if too_large { head_of(raw) } else { raw });
        let mut message = match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(tokio::runtime::RuntimeFlavor::MultiThread) if raw.len() > SMALL_BODY => {
                tokio::task::block_in_place(parse)
            }
            _ => parse(),
        };
        // However the field is written: DMARC is about whom we take for the author, or somebody else could be shown.
        let shown =
            HeaderSection::read(raw, LONGEST_HEADER).map(|section| section.addresses("From")).unwrap_or_default();
        if message.is_none() {
            self.notes.push("no header section to verify".to_owned());
            message = (!shown.is_empty()).then(AuthenticatedMessage::default);
        }
        let read = message.as_mut()?;
        if !shown.is_empty() {
            read.from = shown.iter().map(|from| format!("{}@{}", from.local(), from.ascii_domain())).collect();
        }
        // People read a domain with the root's dot behind it as any other.
        read.from.iter_mut().for_each(|from| from.truncate(from.trim_end_matches('.').len()));
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
            // Whoever hands a mail on signs above the author, whose signature is the one that DMARC looks for.
            let domains: Vec<String> = read.from.iter().filter_map(|from| verdicts::domain_of(from)).collect();
            let of_author = |domain: &str| domains.iter().any(|from| is_under(from, domain) || is_under(domain, from));
            read.dkim_headers.sort_by_key(|signature| !of_author(&signature.header.d.to_lowercase()));
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
    let mut ends = memchr::memchr_iter(b'\n', raw).filter_map(|at| match &raw[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    });
    &raw[..ends.next().unwrap_or(raw.len())]
}

fn clear_arc(message: &mut AuthenticatedMessage<'_>) {
    message.as_headers.clear();
    message.ams_headers.clear();
    message.aar_headers.clear();
    message.has_arc_errors = false;
}
