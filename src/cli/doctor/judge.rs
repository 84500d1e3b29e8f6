//! What was looked up about a channel's way out, and what follows from it. Pure.

use serde::Serialize;

/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Level {
    Good,
    /// DNS did not answer, or there is nothing to be known from here.
    NotKnown,
    Warning,
    Wrong,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Finding {
    pub level: Level,
    /// What it is about: `configuration`, `data`, `daemon`, or a support address.
    pub about: String,
    /// What was examined: a word for programs.
    pub check: &'static str,
    pub said: String,
    /// What to do; nothing where all is good.
    pub action: Option<String>,
}

/// What SPF (RFC 7208) says of the hosts that the mail leaves from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spf {
    Permits,
    /// It does not, and what has to be added to the record.
    Lacks(String),
    NoRecord(String),
    Broken(String),
    NotKnown(String),
}

/// What is published for one of our DKIM keys (RFC 6376).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Published {
    Same,
    Missing,
    Other,
    NotKnown(String),
}

/// One of our keys that signs the channel's mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub domain: String,
    pub name: String,
    pub record: String,
    pub published: Published,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signing {
    Ours(Vec<Key>),
    /// The provider may sign with keys of its own.
    Provider,
    Nobody,
}

/// The policy of DMARC, or that there is none, or why it is not known.
pub(super) type Dmarc = Result<Option<String>, String>;

/// How replies of customers find back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Takes,
    TakesNone,
    NoDomain,
    NotKnown(String),
}

/// Everything that was looked up for one channel.
#[derive(Clone, Debug)]
pub(super) struct Looked {
    pub channel: String,
    pub domain: String,
    pub relay: String,
    pub spf: Spf,
    pub signing: Signing,
    pub dmarc: Dmarc,
    pub home: Home,
}

/// What follows.
pub(super) fn judge(looked: &Looked) -> Vec<Finding> {
    let mut findings = vec![spf(looked)];
    findings.extend(dkim(looked));
    findings.push(dmarc(looked));
    findings.push(home(looked));
    findings
}

fn finding(looked: &Looked, check: &'static str, level: Level, said: String, action: Option<String>) -> Finding {
    Finding { level, about: looked.channel.clone(), check, said, action }
}

fn spf(looked: &Looked) -> Finding {
    let Looked { domain, relay, .. } = looked;
    let (level, said, action) = match &looked.spf {
        Spf::Permits => (Level::Good, format!("SPF of {domain} permits relay \"{relay}\""), None),
        Spf::Lacks(term) => (
            Level::Wrong,
            format!("SPF of {domain} does not permit relay \"{relay}\""),
            Some(format!("add \"{term}\" to the TXT record of {domain} that begins with v=spf1")),
        ),
        Spf::NoRecord(term) => (
            Level::Warning,
            format!("{domain} has no SPF record"),
            Some(format!("publish the TXT record \"v=spf1 {term} ~all\" for {domain}")),
        ),
        Spf::Broken(said) => (
            Level::Wrong,
            format!("the SPF record of {domain} cannot be evaluated: {said}"),
            Some("correct it: receivers treat it as a failure (RFC 7208 section 2.6.7)".into()),
        ),
        Spf::NotKnown(said) => (Level::NotKnown, format!("SPF of {domain}: {said}"), Some(again())),
    };
    finding(looked, "spf", level, said, action)
}

fn dkim(looked: &Looked) -> Vec<Finding> {
    let relay = &looked.relay;
    let keys = match &looked.signing {
        Signing::Ours(keys) => keys,
        Signing::Provider => {
            let said = format!("relay \"{relay}\" is a provider's, which signs with keys of its own");
            let action = format!("look there whether it signs as {}", looked.domain);
            return vec![finding(looked, "dkim", Level::NotKnown, said, Some(action))];
        }
        Signing::Nobody => {
            let said = format!("mail that leaves by relay \"{relay}\" is not signed by us");
            let action = format!("add a [[dkim]] key for {}, with dkim = true at the relay", looked.domain);
            return vec![finding(looked, "dkim", Level::Warning, said, Some(action))];
        }
    };
    let one = |key: &Key| {
        let publish = || Some(format!("publish the TXT record {} \"{}\"", key.name, key.record));
        let (level, said, action) = match &key.published {
            Published::Same => (Level::Good, format!("{} publishes our key", key.name), None),
            Published::Missing => (Level::Wrong, format!("{} does not exist", key.name), publish()),
            Published::Other => (Level::Wrong, format!("{} publishes another key than ours", key.name), publish()),
            Published::NotKnown(said) => (Level::NotKnown, format!("{}: {said}", key.name), Some(again())),
        };
        finding(looked, "dkim", level, said, action)
    };
    keys.iter().map(one).collect()
}

/// Our return path is an address of the channel, so that SPF is aligned wherever it passes (RFC 9989).
fn dmarc(looked: &Looked) -> Finding {
    let domain = &looked.domain;
    let record = match &looked.dmarc {
        Ok(Some(record)) => record,
        Ok(None) => {
            let action = format!("publish the TXT record _dmarc.{domain} \"v=DMARC1; p=none\" to begin with");
            return finding(looked, "dmarc", Level::Warning, format!("{domain} has no DMARC record"), Some(action));
        }
        Err(said) => {
            return finding(looked, "dmarc", Level::NotKnown, format!("DMARC of {domain}: {said}"), Some(again()));
        }
    };
    let policy = tag(record, "p").unwrap_or_else(|| "none".into());
    let strict = tag(record, "adkim").is_some_and(|mode| mode.eq_ignore_ascii_case("s"));
    let aligned = |key: &&Key| key.published == Published::Same && (!strict || key.domain == *domain);
    let signed = matches!(&looked.signing, Signing::Ours(keys) if keys.iter().any(|key| aligned(&key)));
    let unknown = matches!(looked.spf, Spf::NotKnown(_))
        || match &looked.signing {
            Signing::Ours(keys) => keys.iter().any(|key| matches!(key.published, Published::NotKnown(_))),
            Signing::Provider => true,
            Signing::Nobody => false,
        };
    if looked.spf == Spf::Permits || signed {
        return finding(looked, "dmarc", Level::Good, format!("mail passes DMARC of {domain} (p={policy})"), None);
    }
    if unknown {
        let said = format!("whether mail passes DMARC of {domain} (p={policy}) is not known");
        return finding(looked, "dmarc", Level::NotKnown, said, Some("see SPF and DKIM above".into()));
    }
    let (level, fate) = match policy.to_lowercase().as_str() {
        "reject" => (Level::Wrong, "receivers refuse it"),
        "quarantine" => (Level::Wrong, "receivers put it into the spam folder"),
        _ => (Level::Warning, "receivers report it"),
    };
    let said = format!("mail fails DMARC of {domain} (p={policy}): {fate}");
    finding(looked, "dmarc", level, said, Some("make SPF or an aligned DKIM key right, see above".into()))
}

fn home(looked: &Looked) -> Finding {
    let domain = &looked.domain;
    let (level, said, action) = match &looked.home {
        Home::Takes => (Level::Good, format!("{domain} takes mail"), None),
        Home::TakesNone => (
            Level::Wrong,
            format!("{domain} says by a null MX that it takes no mail (RFC 7505)"),
            Some("publish an MX record for it: answers and reports could not come home".into()),
        ),
        Home::NoDomain => (Level::Wrong, format!("{domain} does not exist"), Some("check its spelling".into())),
        Home::NotKnown(said) => (Level::NotKnown, format!("MX of {domain}: {said}"), Some(again())),
    };
    finding(looked, "mx", level, said, action)
}

fn again() -> String {
    "check the name servers in [verify.dns] and try again".into()
}

/// The value of a tag of a record such as `v=DMARC1; p=none` (RFC 6376 section 3.2).
pub(super) fn tag(record: &str, name: &str) -> Option<String> {
    let found = record.split(';').filter_map(|tag| tag.split_once('=')).find(|(known, _)| known.trim() == name)?;
    Some(found.1.split_whitespace().collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(spf: Spf, signing: Signing, dmarc: Dmarc) -> Looked {
        let (channel, domain) = ("help@a.example".into(), "a.example".into());
        Looked { channel, domain, relay: "out".into(), spf, signing, dmarc, home: Home::Takes }
    }

    fn ours(domain: &str, published: Published) -> Signing {
        let (name, record) = (format!("s._domainkey.{domain}"), "v=DKIM1; p=x".into());
        Signing::Ours(vec![Key { domain: domain.into(), name, record, published }])
    }

    #[test]
    fn what_is_published_decides() {
        let dmarc = |text: &str| Ok(Some(format!("v=DMARC1; {text}")));
        let lacks = || Spf::Lacks("ip4:192.0.2.1".into());
        let silent = || Spf::NotKnown("no answer".into());
        use Level::{Good, NotKnown, Warning, Wrong};
        // SPF, who signs, DMARC; the findings about each.
        let table = [
            (Spf::Permits, Signing::Nobody, dmarc("p=reject"), [Good, Warning, Good]),
            (lacks(), ours("a.example", Published::Same), dmarc("p=reject"), [Wrong, Good, Good]),
            (lacks(), ours("example", Published::Same), dmarc("p=reject; adkim=r"), [Wrong, Good, Good]),
            (lacks(), ours("example", Published::Same), dmarc("p = reject; adkim = s"), [Wrong, Good, Wrong]),
            (lacks(), ours("a.example", Published::Other), dmarc("p=quarantine"), [Wrong, Wrong, Wrong]),
            (lacks(), ours("a.example", Published::Missing), dmarc("p=none"), [Wrong, Wrong, Warning]),
            (Spf::NoRecord("mx".into()), Signing::Nobody, Ok(None), [Warning, Warning, Warning]),
            (silent(), Signing::Nobody, dmarc("p=reject"), [NotKnown, Warning, NotKnown]),
            (lacks(), Signing::Provider, dmarc("p=reject"), [Wrong, NotKnown, NotKnown]),
            (Spf::Broken("loop".into()), Signing::Nobody, Err("no answer".into()), [Wrong, Warning, NotKnown]),
        ];
        for (spf, signing, dmarc, want) in table {
            let looked = looked(spf, signing, dmarc);
            let findings = judge(&looked);
            let got: Vec<Level> = findings[..3].iter().map(|finding| finding.level).collect();
            assert_eq!(got, want, "{looked:?}");
            assert!(findings.iter().all(|finding| (finding.level == Good) == finding.action.is_none()), "{findings:?}");
        }
        let null = Looked { home: Home::TakesNone, ..looked(Spf::Permits, Signing::Nobody, Ok(None)) };
        assert_eq!(judge(&null)[3].level, Wrong);
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        assert_eq!(tag("v=DMARC1; p=none; rua=mailto:a@b", "p").as_deref(), Some("none"));
        assert_eq!(tag("v=DKIM1;k=rsa;p= MII B ", "p").as_deref(), Some("MIIB"));
        let record = "v=spf1 ip4:192.0.2.1 include:_SPF.google.com. -include:no.example ~all redirect=b.example";
        assert_eq!(onward(record), ["_spf.google.com", "b.example"]);
    }
}
