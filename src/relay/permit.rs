//! Whether a domain permits a relay to send for it: what SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 9989) say.
//!
//! Values and what follows from them, without sockets; `look` asks DNS, and `known` keeps answers for the outbox. Must
//! not know: what is done with a mail that may not be sent, how a finding is shown.

mod known;
mod look;

use super::RelayConfig;
use super::config::{DkimConfig, Kind, Preset};
use super::dkim::{dns_record, signing_domain};
use crate::mail::address::is_under;

pub(super) use known::Settings;
pub use known::{Permit, Permits};
pub use look::Looker;

/// The most names that a walk up the tree asks for (RFC 9989 section 4.10).
const WALK: usize = 8;

/// What is known of the addresses that a relay's mail leaves from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// From this host's addresses.
    Here,
    /// Through a server with this name, which may send on from addresses that cannot be known from here.
    Smarthost(String),
    /// Through a provider, which publishes its addresses under a name of its own.
    Provider,
}

impl Way {
    pub fn of(relay: &RelayConfig) -> Self {
        match (relay.kind, relay.preset) {
            (Kind::Smtp, Preset::None) => Self::Smarthost(relay.host().unwrap_or_default().to_owned()),
            (Kind::Smtp, _) => Self::Provider,
            (Kind::Direct | Kind::Maildir, _) => Self::Here,
        }
    }
}

/// What SPF says of the hosts that the mail leaves from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spf {
    Permits,
    /// It does not: what has to be added to the record, and whether the record makes receivers take that for a failure
    /// (`-all`, `~all`) or says nothing about it (`?all`).
    Lacks {
        term: String,
        fails: bool,
    },
    /// There is no record, and what it would have to hold.
    NoRecord(String),
    Broken(String),
    NotKnown(String),
}

/// What is published for one of our DKIM keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    Same,
    Missing,
    Other,
    NotKnown(String),
}

/// One of our keys that signs the domain's mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub domain: String,
    pub name: String,
    pub record: String,
    pub published: Published,
}

impl Key {
    /// Whether receivers can be expected to check what it signs. Many cannot check ed25519, which came later (RFC 8463),
    /// and for them such a signature is none.
    pub fn is_common(&self) -> bool {
        tag(&self.record, "k").is_none_or(|kind| kind.eq_ignore_ascii_case("rsa"))
    }

    /// Whether it is published, and receivers can be expected to check what it signs.
    fn counts(&self) -> bool {
        self.published == Published::Same && self.is_common()
    }
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signing {
    Ours(Vec<Key>),
    /// The provider may sign with keys of its own.
    Provider,
    Nobody,
}

/// What a domain says about mail that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub record: String,
    /// The record is not the domain's own but that of a domain above it.
    pub inherited: bool,
    /// The domain that alignment is measured by.
    pub organisation: String,
}

/// The policy of DMARC, or that there is none, or why it is not known.
pub type Dmarc = Result<Option<Policy>, String>;

/// Everything that was looked up for one domain and one relay.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The domain of the From field.
    pub domain: String,
    /// The domain of the return path; nothing for the null sender, for which receivers ask about the name of the host
    /// that connects (RFC 7208 section 2.4), which aligns with nothing.
    pub path: Option<String>,
    pub relay: String,
    pub way: Way,
    pub spf: Spf,
    pub signing: Signing,
    pub dmarc: Dmarc,
}

/// Whether a mail may leave by a relay. The texts say why not, as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    May,
    MayNot(String),
    NotKnown(String),
}

/// One of our keys, with the record that has to be published for it, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKey {
    pub domain: String,
    pub name: String,
    pub record: Result<String, String>,
}

impl OwnKey {
    /// Reads the key's file. Blocks on the disk.
    pub fn of(config: &DkimConfig) -> Self {
        let domain = signing_domain(config);
        match dns_record(config) {
            Ok((name, record)) => Self { domain, name, record: Ok(record) },
            Err(said) => Self { name: format!("{}._domainkey.{domain}", config.selector), domain, record: Err(said) },
        }
    }
}

impl Policy {
    /// The policy of a domain, from the records of the names on the way up, the nearest first (RFC 9989 section 4.10).
    fn of(domain: &str, found: Vec<(String, String)>) -> Option<Self> {
        let psd = |record: &str| tag(record, "psd").map(|value| value.to_lowercase());
        let mut organisation = domain.to_owned();
        let mut above = None;
        let mut own = None;
        for (name, record) in found {
            let (is_own, psd) = (name == domain, psd(&record));
            if psd.as_deref() == Some("y") && !is_own {
                // Above every organisation; its own policy holds where nothing below it has one.
                organisation = below(domain, &name);
                above = above.or(Some(record));
                break;
            }
            organisation = name;
            if is_own {
                own = Some(record);
            } else {
                above = Some(record);
            }
            if psd.as_deref() == Some("n") {
                break;
            }
        }
        let inherited = own.is_none();
        own.or(above).map(|record| Self { record, inherited, organisation })
    }

    /// What it asks of receivers: `none`, `quarantine` or `reject`.
    pub fn word(&self) -> String {
        let of_subdomains = self.inherited.then(|| tag(&self.record, "sp")).flatten();
        of_subdomains.or_else(|| tag(&self.record, "p")).unwrap_or_else(|| "none".into())
    }

    fn aligned(&self, mode: &str, domain: &str, with: &str) -> bool {
        let strict = tag(&self.record, mode).is_some_and(|mode| mode.eq_ignore_ascii_case("s"));
        with == domain || (!strict && is_under(with, &self.organisation))
    }
}

impl Looked {
    /// Whether one of our published keys that receivers check is aligned with the domain.
    pub fn signs_aligned(&self, policy: &Policy) -> bool {
        let aligned = |key: &Key| key.counts() && policy.aligned("adkim", &self.domain, &key.domain);
        matches!(&self.signing, Signing::Ours(keys) if keys.iter().any(aligned))
    }

    /// Whether one of our keys is published, and checked, where the domain has no policy that could say more.
    pub fn signs(&self) -> bool {
        match &self.dmarc {
            Ok(Some(policy)) => self.signs_aligned(policy),
            _ => matches!(&self.signing, Signing::Ours(keys) if keys.iter().any(Key::counts)),
        }
    }

    /// Whether SPF passes for a return path that is aligned with the domain.
    pub fn path_aligned(&self, policy: &Policy) -> bool {
        let aligned = |path: &String| policy.aligned("aspf", &self.domain, path);
        self.spf == Spf::Permits && self.path.as_ref().is_some_and(aligned)
    }

    /// Whether there is something that could not be found out and would decide.
    pub fn is_open(&self) -> bool {
        let smarthost = matches!((&self.way, &self.spf), (Way::Smarthost(_), Spf::Lacks { .. }));
        smarthost
            || matches!(self.spf, Spf::NotKnown(_))
            || match &self.signing {
                Signing::Ours(keys) => keys.iter().any(|key| matches!(key.published, Published::NotKnown(_))),
                Signing::Provider => true,
                Signing::Nobody => false,
            }
    }

    /// Whether a mail of the domain may leave by the relay without harm: where the domain has a policy of DMARC, SPF or
    /// DKIM has to pass and be aligned; where it has none, SPF must not fail.
    pub fn standing(&self) -> Standing {
        let policy = match &self.dmarc {
            Err(said) => return Standing::NotKnown(format!("its DMARC record: {said}")),
            Ok(None) => return self.without_policy(),
            Ok(Some(policy)) => policy,
        };
        if self.signs_aligned(policy) || self.path_aligned(policy) {
            return Standing::May;
        }
        let why = format!(
            "by its DMARC record (p={}) SPF or DKIM has to pass: {}; {}",
            policy.word(),
            self.spf_words(),
            self.dkim_words()
        );
        if self.is_open() { Standing::NotKnown(why) } else { Standing::MayNot(why) }
    }

    fn without_policy(&self) -> Standing {
        match (&self.spf, &self.way) {
            (Spf::Permits | Spf::NoRecord(_) | Spf::Lacks { fails: false, .. }, _) => Standing::May,
            (Spf::NotKnown(_), _) | (Spf::Lacks { .. }, Way::Smarthost(_)) => Standing::NotKnown(self.spf_words()),
            (Spf::Lacks { .. } | Spf::Broken(_), _) => Standing::MayNot(self.spf_words()),
        }
    }

    fn spf_words(&self) -> String {
        match (&self.spf, &self.way) {
            (Spf::Permits, _) => match &self.path {
                Some(path) => format!("SPF passes for the return path of {path}, which is not aligned"),
                None => "there is no return path that SPF could be aligned by".into(),
            },
            (Spf::Lacks { .. }, Way::Smarthost(host)) => {
                format!("SPF does not name {host}, and from which addresses that smarthost sends is not known here")
            }
            (Spf::Lacks { term, .. }, _) => format!("SPF does not permit it, \"{term}\" is missing"),
            (Spf::NoRecord(_), _) => "there is no SPF record".into(),
            (Spf::Broken(said), _) => format!("the SPF record cannot be evaluated: {said}"),
            (Spf::NotKnown(said), _) => format!("SPF: {said}"),
        }
    }

    fn dkim_words(&self) -> String {
        let one = |key: &Key| match &key.published {
            Published::Same if !key.is_common() => {
                format!("the DKIM key {} is an ed25519 one, which many receivers cannot check (RFC 8463)", key.name)
            }
            Published::Same => format!("the DKIM key {} is not aligned", key.name),
            Published::Missing => format!("the DKIM key {} does not exist", key.name),
            Published::Other => format!("{} publishes another DKIM key than ours", key.name),
            Published::NotKnown(said) => format!("the DKIM key {}: {said}", key.name),
        };
        match &self.signing {
            Signing::Ours(keys) => keys.iter().map(one).collect::<Vec<_>>().join("; "),
            Signing::Provider => "whether the provider signs with a DKIM key of the domain is not known here".into(),
            Signing::Nobody => "the relay signs nothing with a DKIM key of the domain".into(),
        }
    }
}

/// The names that are asked about a domain's policy, itself first; top-level domains are not (RFC 9989 section 4.10).
fn walk(domain: &str) -> Vec<&str> {
    let mut names = vec![domain];
    let mut at = domain;
    while let Some((_, above)) = at.split_once('.') {
        at = above;
        // From far below only the upper seven labels are asked about.
        if at.contains('.') && at.split('.').count() < WALK {
            names.push(at);
        }
    }
    names
}

/// The name one label below `parent` on the way to `domain`.
fn below(domain: &str, parent: &str) -> String {
    let rest = domain.strip_suffix(parent).map(|rest| rest.trim_end_matches('.')).unwrap_or_default();
    match rest.rsplit('.').next() {
        Some(label) if !label.is_empty() => format!("{label}.{parent}"),
        _ => domain.to_owned(),
    }
}

/// The value of a tag of a record such as `v=DMARC1; p=none` (RFC 6376 section 3.2).
pub fn tag(record: &str, name: &str) -> Option<String> {
    let found = record.split(';').filter_map(|tag| tag.split_once('=')).find(|(known, _)| known.trim() == name)?;
    Some(found.1.split_whitespace().collect())
}

#[cfg(test)]
mod tests;
