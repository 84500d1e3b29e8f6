//! Asks DNS what a domain says about a relay.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Dmarc, Key, Looked, OwnKey, Policy, Published, Signing, Spf, Way, tag, walk};
use crate::mail::Address;
use crate::mail::address::ascii_domain;
use crate::mail::auth::Verdict;
use crate::net::names::{Names, NoAnswer};
use crate::net::verify::{self, Verifier};
use crate::relay::dkim::nearest;
use crate::relay::{Kind, Preset, RelayConfig};

/// How many records an evaluation may ask for (RFC 7208 section 4.6.4).
const LOOKUPS: usize = 10;
/// Addresses of a host that are asked about.
const ADDRESSES: usize = 8;

/// Whom to ask, and as whom.
pub struct Looker {
    names: Names,
    verifier: Verifier,
    hostname: String,
    keys: Vec<OwnKey>,
}

impl Looker {
    /// An error says why nobody can be asked.
    pub fn new(verify: &verify::Config, hostname: &str, keys: Vec<OwnKey>) -> Result<Self, String> {
        let names = Names::new(&verify.dns, false).map_err(|error| error.to_string())?;
        // Our own addresses are asked about as well.
        let verify = verify::Config { enabled: true, exempt: Vec::new(), ..verify.clone() };
        let verifier = Verifier::new(&verify, hostname);
        Ok(Self { names, verifier, hostname: hostname.to_owned(), keys })
    }

    /// Who answers.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Everything about mail with a From field of this domain and this return path that leaves by a relay. Without a
    /// return path SPF is asked about the domain's postmaster.
    pub async fn look(&self, domain: &str, sender: Option<&Address>, relay: &RelayConfig) -> Looked {
        // DNS knows names in ASCII only.
        let ascii = |domain: &str| ascii_domain(domain).unwrap_or_else(|| domain.to_lowercase());
        let domain = ascii(domain);
        let path = sender.map(|sender| sender.ascii_domain().into_owned());
        let sender = match (sender, &path) {
            (Some(sender), Some(path)) => format!("{}@{path}", sender.local()),
            _ => format!("postmaster@{domain}"),
        };
        Looked {
            path,
            relay: relay.name.clone(),
            way: Way::of(relay),
            spf: self.spf(&sender, relay).await,
            signing: self.signing(&domain, relay).await,
            dmarc: self.dmarc(&domain).await,
            domain,
        }
    }

    async fn spf(&self, sender: &str, relay: &RelayConfig) -> Spf {
        let published = match relay.preset {
            Preset::Gmail | Preset::Workspace => Some("_spf.google.com"),
            Preset::Microsoft365 | Preset::Exchange => Some(relay.cloud.spf_name()),
            Preset::None => None,
        };
        let asked = match (published, Address::parse(sender)) {
            (_, Err(error)) => return Spf::NotKnown(format!("{sender}: {error}")),
            (Some(include), Ok(sender)) => self.includes(sender.domain(), include).await,
            (None, Ok(sender)) => self.permits(&sender, relay).await,
        };
        asked.unwrap_or_else(|error| Spf::NotKnown(error.to_string()))
    }

    /// Whether a domain's record comes to what a provider publishes for its servers.
    async fn includes(&self, domain: &str, wanted: &str) -> Result<Spf, NoAnswer> {
        let term = format!("include:{wanted}");
        let (mut seen, mut open) = (BTreeSet::new(), vec![domain.to_owned()]);
        let mut fails = true;
        while let Some(next) = open.pop() {
            if next == wanted {
                return Ok(Spf::Permits);
            }
            if !seen.insert(next.clone()) {
                continue;
            }
            if seen.len() > LOOKUPS + 1 {
                return Ok(Spf::Broken(format!("it needs more than {LOOKUPS} look-ups")));
            }
            let records = self.records(&next, "v=spf1").await?;
            match records.as_slice() {
                [] if next == domain => return Ok(Spf::NoRecord(term)),
                [_, _, ..] => return Ok(Spf::Broken(format!("{next} has several records"))),
                records => {
                    if next == domain {
                        fails = records.iter().all(|record| ends_in_failure(record));
                    }
                    open.extend(records.iter().flat_map(|record| onward(record)));
                }
            }
        }
        Ok(Spf::Lacks { term, fails })
    }

    /// Whether a domain permits the addresses of the relay's host, or of this one where mail is delivered directly.
    async fn permits(&self, sender: &Address, relay: &RelayConfig) -> Result<Spf, NoAnswer> {
        let here = self.hostname.as_str();
        let host = match relay.kind {
            Kind::Direct => here,
            _ => relay.host().unwrap_or(here),
        };
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.names.addresses(host, relay.kind != Kind::Direct || relay.ipv6).await?,
        };
        if addresses.is_empty() {
            return Ok(Spf::NotKnown(format!("{host} has no address in DNS")));
        }
        let term = |address: &IpAddr| match address {
            IpAddr::V4(address) => format!("ip4:{address}"),
            IpAddr::V6(address) => format!("ip6:{address}"),
        };
        for address in addresses.iter().take(ADDRESSES) {
            let mail = format!("From: <{sender}>\r\n\r\n");
            let written = async { Ok::<_, String>(mail.as_bytes().into()) };
            let results = self.verifier.verify(*address, here, Some(sender), mail.len() as u64, written).await;
            match results.spf {
                Verdict::Pass => {}
                Verdict::None => return Ok(Spf::NoRecord(term(address))),
                Verdict::PermError => return Ok(Spf::Broken("it has an error".into())),
                Verdict::TempError => {
                    return Ok(Spf::NotKnown(results.note.unwrap_or_else(|| "DNS does not answer".into())));
                }
                Verdict::Fail | Verdict::SoftFail | Verdict::Policy => {
                    return Ok(Spf::Lacks { term: term(address), fails: true });
                }
                Verdict::Neutral => return Ok(Spf::Lacks { term: term(address), fails: false }),
            }
        }
        Ok(Spf::Permits)
    }

    async fn signing(&self, domain: &str, relay: &RelayConfig) -> Signing {
        let unsigned = if relay.preset == Preset::None { Signing::Nobody } else { Signing::Provider };
        if !relay.signs() {
            return unsigned;
        }
        let ours = self.keys.iter().map(|key| key.domain.as_str());
        let Some(nearest) = nearest(domain, ours) else { return unsigned };
        let mut keys = Vec::new();
        for key in self.keys.iter().filter(|key| key.domain == nearest) {
            keys.push(self.key(key).await);
        }
        Signing::Ours(keys)
    }

    async fn key(&self, own: &OwnKey) -> Key {
        let OwnKey { domain, name, record } = own.clone();
        let record = match record {
            Ok(record) => record,
            Err(said) => return Key { domain, name, record: String::new(), published: Published::NotKnown(said) },
        };
        let published = match self.names.txt(&name).await {
            Err(error) => Published::NotKnown(error.to_string()),
            Ok(texts) if texts.is_empty() => Published::Missing,
            Ok(texts) if texts.iter().any(|text| tag(text, "p") == tag(&record, "p")) => Published::Same,
            Ok(_) => Published::Other,
        };
        Key { domain, name, record, published }
    }

    /// The policy of a domain. A name with several records has none (RFC 9989 section 4.10).
    async fn dmarc(&self, domain: &str) -> Dmarc {
        let mut found = Vec::new();
        for name in walk(domain) {
            let records = self.records(&format!("_dmarc.{name}"), "v=DMARC1").await;
            let mut records = records.map_err(|error| error.to_string())?.into_iter();
            if let (Some(only), None) = (records.next(), records.next()) {
                found.push((name.to_owned(), only));
            }
        }
        Ok(Policy::of(domain, found))
    }

    /// The texts of a name that begin with a version.
    async fn records(&self, name: &str, version: &str) -> Result<Vec<String>, NoAnswer> {
        let is_one = |text: &String| {
            text.get(..version.len()).is_some_and(|start| start.eq_ignore_ascii_case(version))
                && text[version.len()..].chars().next().is_none_or(|next| matches!(next, ' ' | ';' | '\t'))
        };
        Ok(self.names.txt(name).await?.into_iter().filter(is_one).collect())
    }
}

/// Where an SPF record sends on to: the domains of its includes that do not refuse, and of its redirect.
pub(super) fn onward(record: &str) -> Vec<String> {
    let term = |term: &str| {
        let term = term.to_lowercase();
        let plain = term.strip_prefix('+').unwrap_or(&term);
        let domain = plain.strip_prefix("include:").or_else(|| plain.strip_prefix("redirect="));
        domain.map(|domain| domain.trim_end_matches('.').to_owned())
    };
    record.split_whitespace().filter_map(term).collect()
}

/// Whether an SPF record fails what it does not name. Without an `all` it says nothing about it (RFC 7208 section 4.7),
/// but for a redirect, whose record is not looked at for this and counts as one that fails.
pub(super) fn ends_in_failure(record: &str) -> bool {
    let terms: Vec<String> = record.split_whitespace().map(str::to_lowercase).collect();
    match terms.iter().find(|term| matches!(term.as_str(), "all" | "+all" | "-all" | "~all" | "?all")) {
        Some(all) => matches!(all.as_str(), "-all" | "~all"),
        None => terms.iter().any(|term| term.starts_with("redirect=")),
    }
}
