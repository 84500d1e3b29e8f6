//! Looks up what a channel's domain says about its relay.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::mail::Address;
use crate::mail::auth::Verdict;
use crate::net::names::{Mx, Names, NoAnswer};
use crate::net::verify::{self, Verifier};
use crate::relay::dkim::dns_record;
use crate::relay::{DkimConfig, Kind, Preset, RelayConfig};

use super::judge::{Dmarc, Home, Key, Looked, Published, Signing, Spf, onward, tag};

/// How many records an evaluation may ask for (RFC 7208 section 4.6.4).
const LOOKUPS: usize = 10;
/// Addresses of a host that are asked about.
const ADDRESSES: usize = 8;

/// What is asked.
pub(super) struct Looker<'c> {
    config: &'c Config,
    names: Names,
    verifier: Verifier,
}

impl<'c> Looker<'c> {
    /// An error says why nobody can be asked.
    pub fn new(config: &'c Config) -> Result<Self, String> {
        let names = Names::new(&config.verify.dns, false).map_err(|error| error.to_string())?;
        // Our own addresses are asked about as well.
        let verify = verify::Config { enabled: true, exempt: Vec::new(), ..config.verify.clone() };
        let verifier = Verifier::new(&verify, &config.server.hostname);
        Ok(Self { config, names, verifier })
    }

    /// Everything about one channel and the relay that its mail leaves by.
    pub async fn look(&self, channel: &Address, relay: &RelayConfig) -> Looked {
        let domain = channel.domain().to_owned();
        Looked {
            channel: channel.to_string(),
            relay: relay.name.clone(),
            spf: self.spf(channel, relay).await,
            signing: self.signing(&domain, relay).await,
            dmarc: self.dmarc(&domain).await,
            home: self.home(&domain).await,
            domain,
        }
    }

    async fn spf(&self, channel: &Address, relay: &RelayConfig) -> Spf {
        let published = match relay.preset {
            Preset::Gmail | Preset::Workspace => Some("_spf.google.com"),
            Preset::Microsoft365 | Preset::Exchange => Some("spf.protection.outlook.com"),
            Preset::None => None,
        };
        let asked = match published {
            Some(include) => self.includes(channel.domain(), include).await,
            None => self.permits(channel, relay).await,
        };
        asked.unwrap_or_else(|error| Spf::NotKnown(error.to_string()))
    }

    /// Whether a domain's record comes to what a provider publishes for its servers.
    async fn includes(&self, domain: &str, wanted: &str) -> Result<Spf, NoAnswer> {
        let term = format!("include:{wanted}");
        let (mut seen, mut open) = (BTreeSet::new(), vec![domain.to_owned()]);
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
                records => open.extend(records.iter().flat_map(|record| onward(record))),
            }
        }
        Ok(Spf::Lacks(term))
    }

    /// Whether a domain permits the addresses of the relay's host, or of this one where mail is delivered directly.
    async fn permits(&self, channel: &Address, relay: &RelayConfig) -> Result<Spf, NoAnswer> {
        let here = self.config.server.hostname.as_str();
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
        let term = |address: &std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => format!("ip4:{address}"),
            std::net::IpAddr::V6(address) => format!("ip6:{address}"),
        };
        for address in addresses.iter().take(ADDRESSES) {
            let mail = format!("From: <{channel}>\r\n\r\n");
            let results = self.verifier.verify(*address, here, Some(channel), mail.as_bytes()).await;
            match results.spf {
                Verdict::Pass => {}
                Verdict::None => return Ok(Spf::NoRecord(term(address))),
                Verdict::PermError => return Ok(Spf::Broken("it has an error".into())),
                Verdict::TempError => {
                    return Ok(Spf::NotKnown(results.note.unwrap_or_else(|| "DNS does not answer".into())));
                }
                Verdict::Fail | Verdict::SoftFail | Verdict::Neutral | Verdict::Policy => {
                    return Ok(Spf::Lacks(term(address)));
                }
            }
        }
        Ok(Spf::Permits)
    }

    async fn signing(&self, domain: &str, relay: &RelayConfig) -> Signing {
        let unsigned = if relay.preset == Preset::None { Signing::Nobody } else { Signing::Provider };
        if !relay.signs() {
            return unsigned;
        }
        let above = |ours: &str| domain == ours || domain.strip_suffix(ours).is_some_and(|rest| rest.ends_with('.'));
        let domains = self.config.dkim.iter().map(|key| key.domain.to_lowercase());
        let Some(nearest) = domains.filter(|ours| above(ours)).max_by_key(String::len) else { return unsigned };
        let mut keys = Vec::new();
        for config in self.config.dkim.iter().filter(|key| key.domain.eq_ignore_ascii_case(&nearest)) {
            keys.push(self.key(config).await);
        }
        Signing::Ours(keys)
    }

    async fn key(&self, config: &DkimConfig) -> Key {
        let domain = config.domain.to_lowercase();
        let (name, record) = match dns_record(config) {
            Ok(record) => record,
            Err(said) => {
                let name = format!("{}._domainkey.{domain}", config.selector);
                return Key { domain, name, record: String::new(), published: Published::NotKnown(said) };
            }
        };
        let published = match self.names.txt(&name).await {
            Err(error) => Published::NotKnown(error.to_string()),
            Ok(texts) if texts.is_empty() => Published::Missing,
            Ok(texts) if texts.iter().any(|text| tag(text, "p") == tag(&record, "p")) => Published::Same,
            Ok(_) => Published::Other,
        };
        Key { domain, name, record, published }
    }

    /// The record of the domain, or of the nearest one above it that has one (RFC 9989 section 4.10).
    async fn dmarc(&self, domain: &str) -> Dmarc {
        let mut at = domain;
        loop {
            let found = self.records(&format!("_dmarc.{at}"), "v=DMARC1").await.map_err(|error| error.to_string())?;
            match (found.into_iter().next(), at.split_once('.')) {
                (Some(record), _) => return Ok(Some(record)),
                (None, Some((_, above))) if above.contains('.') => at = above,
                (None, _) => return Ok(None),
            }
        }
    }

    async fn home(&self, domain: &str) -> Home {
        match self.names.mx(domain).await {
            Ok(Mx::Null) => Home::TakesNone,
            Ok(Mx::NoDomain) => Home::NoDomain,
            Ok(Mx::Hosts { .. } | Mx::Implicit { .. }) => Home::Takes,
            Err(error) => Home::NotKnown(error.to_string()),
        }
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
