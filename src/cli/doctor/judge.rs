//! What was looked up about a channel's way out, and what follows from it. Pure.

use serde::Serialize;

use crate::relay::permit::{Key, Looked, Published, Signing, Spf, Standing, Way};

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

/// How replies of customers find back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Takes,
    TakesNone,
    NoDomain,
    NotKnown(String),
}

/// A channel's finding: how it is, in words, and what to do.
type Told = (Level, String, Option<String>);

/// What follows for a channel.
pub(super) fn judge(channel: &str, looked: &Looked, home: &Home) -> Vec<Finding> {
    let finding = |check, (level, said, action)| Finding { level, about: channel.to_owned(), check, said, action };
    let mut findings = vec![finding("spf", spf(looked))];
    findings.extend(dkim(looked).into_iter().map(|told| finding("dkim", told)));
    findings.push(finding("dmarc", dmarc(looked)));
    findings.push(finding("mx", self::home(&looked.domain, home)));
    findings
}

/// What follows for a channel whose relay gives way to the default one near the end of its quota: whether the default
/// relay may send, and what happens if `always` says that it does in any case.
pub(super) fn takeover(channel: &str, looked: &Looked, always: bool) -> Finding {
    let (domain, relay) = (&looked.domain, &looked.relay);
    let takes = format!("the default relay \"{relay}\" takes over for {domain} near the end of a quota");
    let (level, said, action) = match (looked.standing(), always) {
        (Standing::May, _) => (Level::Good, takes, None),
        (Standing::NotKnown(why), true) => (
            Level::NotKnown,
            format!("{takes}, since give_way is \"always\"; whether its domain permits that is not known: {why}"),
            Some("if you do not know that it does, write give_way = \"aligned\"".to_owned()),
        ),
        (Standing::MayNot(why), true) => (
            Level::Warning,
            format!("{takes}, since give_way is \"always\"; DNS does not permit it: {why}"),
            Some("publish what is missing, or write give_way = \"aligned\"".to_owned()),
        ),
        (Standing::MayNot(why), false) => (
            Level::Warning,
            format!("the default relay \"{relay}\" may not take over near the end of a quota, mail waits then: {why}"),
            Some("publish what is missing, or write give_way = \"never\"".to_owned()),
        ),
        (Standing::NotKnown(why), false) => (
            Level::NotKnown,
            format!("whether the default relay \"{relay}\" may take over is not known, mail waits then: {why}"),
            Some("if you know that it may, write give_way = \"always\"".to_owned()),
        ),
    };
    Finding { level, about: channel.to_owned(), check: "takeover", said, action }
}

fn spf(looked: &Looked) -> Told {
    let Looked { domain, relay, .. } = looked;
    match (&looked.spf, &looked.way) {
        (Spf::Permits, _) => (Level::Good, format!("SPF of {domain} permits relay \"{relay}\""), None),
        (Spf::Lacks { .. }, Way::Smarthost(host)) => smarthost(looked, host),
        (Spf::Lacks { term, .. }, _) => (
            Level::Wrong,
            format!("SPF of {domain} does not permit relay \"{relay}\""),
            Some(format!("add \"{term}\" to the TXT record of {domain} that begins with v=spf1")),
        ),
        (Spf::NoRecord(_), Way::Smarthost(host)) => (
            Level::Warning,
            format!("{domain} has no SPF record"),
            Some(format!("publish the TXT record \"v=spf1 … ~all\" with what the operator of {host} tells you to add")),
        ),
        (Spf::NoRecord(term), _) => (
            Level::Warning,
            format!("{domain} has no SPF record"),
            Some(format!("publish the TXT record \"v=spf1 {term} ~all\" for {domain}")),
        ),
        (Spf::Broken(said), _) => (
            Level::Wrong,
            format!("the SPF record of {domain} cannot be evaluated: {said}"),
            Some("correct it: receivers treat it as a failure (RFC 7208 section 2.6.7)".into()),
        ),
        (Spf::NotKnown(said), _) => (Level::NotKnown, format!("SPF of {domain}: {said}"), Some(again())),
    }
}

/// A smarthost whose own address is not permitted: that says little, since it may send from others.
fn smarthost(looked: &Looked, host: &str) -> Told {
    let Looked { domain, relay, .. } = looked;
    let said = format!(
        "SPF of {domain} does not name {host}, the smarthost of relay \"{relay}\"; it may send on from other addresses, \
         which cannot be known from here"
    );
    if looked.signs() {
        return (Level::Good, format!("{said}, and need not be: our DKIM signature speaks for {domain}"), None);
    }
    let action = format!("ask its operator what to add to the SPF record of {domain}, or sign with a [[dkim]] key");
    (Level::Warning, said, Some(action))
}

fn dkim(looked: &Looked) -> Vec<Told> {
    let relay = &looked.relay;
    let keys = match &looked.signing {
        Signing::Ours(keys) => keys,
        Signing::Provider => {
            let said = format!("relay \"{relay}\" is a provider's, which signs with keys of its own");
            return vec![(Level::NotKnown, said, Some(format!("look there whether it signs as {}", looked.domain)))];
        }
        Signing::Nobody => {
            let said = format!("mail that leaves by relay \"{relay}\" is not signed by us");
            let action = format!("add a [[dkim]] key for {}, with dkim = true at the relay", looked.domain);
            return vec![(Level::Warning, said, Some(action))];
        }
    };
    let one = |key: &Key| {
        let publish = || Some(format!("publish the TXT record {} \"{}\"", key.name, key.record));
        match &key.published {
            Published::Same if !keys.iter().any(Key::is_common) => (
                Level::Warning,
                format!("{} publishes our key, an ed25519 one, which many receivers cannot check (RFC 8463)", key.name),
                Some(format!("add an rsa-sha256 [[dkim]] key for {} beside it", key.domain)),
            ),
            Published::Same => (Level::Good, format!("{} publishes our key", key.name), None),
            Published::Missing => (Level::Wrong, format!("{} does not exist", key.name), publish()),
            Published::Other => (Level::Wrong, format!("{} publishes another key than ours", key.name), publish()),
            Published::NotKnown(said) => (Level::NotKnown, format!("{}: {said}", key.name), Some(again())),
        }
    };
    keys.iter().map(one).collect()
}

/// Our return path is an address of the channel, so that SPF is aligned wherever it passes (RFC 9989).
fn dmarc(looked: &Looked) -> Told {
    let domain = &looked.domain;
    let policy = match &looked.dmarc {
        Ok(Some(policy)) => policy,
        Ok(None) => {
            let action = format!("publish the TXT record _dmarc.{domain} \"v=DMARC1; p=none\" to begin with");
            return (Level::Warning, format!("{domain} has no DMARC record"), Some(action));
        }
        Err(said) => return (Level::NotKnown, format!("DMARC of {domain}: {said}"), Some(again())),
    };
    let word = policy.word();
    if looked.path_aligned(policy) || looked.signs_aligned(policy) {
        return (Level::Good, format!("mail passes DMARC of {domain} (p={word})"), None);
    }
    let (level, fate) = match word.to_lowercase().as_str() {
        "reject" => (Level::Wrong, "refuse it"),
        "quarantine" => (Level::Wrong, "put it into the spam folder"),
        _ => (Level::Warning, "report it"),
    };
    if looked.is_open() {
        // A smarthost that sends from where nobody has permitted it is the usual way to lose mail.
        if let (Spf::Lacks { .. }, Way::Smarthost(host)) = (&looked.spf, &looked.way) {
            let said = format!(
                "mail passes DMARC of {domain} (p={word}) only if SPF permits the addresses that {host} sends from; \
                 otherwise receivers {fate}"
            );
            return (Level::Warning, said, Some("make SPF sure or sign with an aligned DKIM key, see above".into()));
        }
        let said = format!("whether mail passes DMARC of {domain} (p={word}) is not known");
        return (Level::NotKnown, said, Some("see SPF and DKIM above".into()));
    }
    let said = format!("mail fails DMARC of {domain} (p={word}): receivers {fate}");
    (level, said, Some("make SPF or an aligned DKIM key right, see above".into()))
}

fn home(domain: &str, home: &Home) -> Told {
    match home {
        Home::Takes => (Level::Good, format!("{domain} takes mail"), None),
        Home::TakesNone => (
            Level::Wrong,
            format!("{domain} says by a null MX that it takes no mail (RFC 7505)"),
            Some("publish an MX record for it: answers and reports could not come home".into()),
        ),
        Home::NoDomain => (Level::Wrong, format!("{domain} does not exist"), Some("check its spelling".into())),
        Home::NotKnown(said) => (Level::NotKnown, format!("MX of {domain}: {said}"), Some(again())),
    }
}

fn again() -> String {
    "check the name servers in [verify.dns] and try again".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::permit::{Dmarc, Policy};
    use Level::{Good, NotKnown, Warning, Wrong};

    fn looked(way: Way, spf: Spf, signing: Signing, dmarc: Dmarc) -> Looked {
        let domain = "a.example".to_owned();
        Looked { path: Some(domain.clone()), domain, relay: "out".into(), way, spf, signing, dmarc }
    }

    fn ours(published: Published) -> Signing {
        let (name, record) = ("s._domainkey.a.example".into(), "v=DKIM1; p=x".into());
        Signing::Ours(vec![Key { domain: "a.example".into(), name, record, published }])
    }

    fn kinds(kinds: &[&str]) -> Signing {
        let key = |kind: &&str| Key {
            domain: "a.example".into(),
            name: format!("{kind}._domainkey.a.example"),
            record: format!("v=DKIM1; k={kind}; p=x"),
            published: Published::Same,
        };
        Signing::Ours(kinds.iter().map(key).collect())
    }

    fn dmarc(text: &str) -> Dmarc {
        let record = format!("v=DMARC1; {text}");
        Ok(Some(Policy { record, inherited: false, organisation: "a.example".into() }))
    }

    fn lacks() -> Spf {
        Spf::Lacks { term: "ip4:192.0.2.1".into(), fails: true }
    }

    #[test]
    fn what_is_published_decides() {
        let smart = || Way::Smarthost("smtp.hub.example".into());
        let silent = || Spf::NotKnown("no answer".into());
        let nobody = || Signing::Nobody;
        // The way, SPF, who signs, DMARC; the findings about the last three.
        let table = [
            (Way::Here, Spf::Permits, nobody(), dmarc("p=reject"), [Good, Warning, Good]),
            (Way::Here, lacks(), ours(Published::Same), dmarc("p=reject"), [Wrong, Good, Good]),
            (Way::Here, lacks(), ours(Published::Other), dmarc("p=quarantine"), [Wrong, Wrong, Wrong]),
            (Way::Here, lacks(), ours(Published::Missing), dmarc("p=none"), [Wrong, Wrong, Warning]),
            (Way::Here, Spf::NoRecord("mx".into()), nobody(), Ok(None), [Warning, Warning, Warning]),
            (Way::Here, silent(), nobody(), dmarc("p=reject"), [NotKnown, Warning, NotKnown]),
            (Way::Here, Spf::Broken("loop".into()), nobody(), Err("no answer".into()), [Wrong, Warning, NotKnown]),
            (Way::Provider, lacks(), Signing::Provider, dmarc("p=reject"), [Wrong, NotKnown, NotKnown]),
            // From where a smarthost sends is its operator's to know.
            (smart(), Spf::Permits, nobody(), dmarc("p=reject"), [Good, Warning, Good]),
            (smart(), lacks(), nobody(), dmarc("p=reject"), [Warning, Warning, Warning]),
            (smart(), lacks(), nobody(), Ok(None), [Warning, Warning, Warning]),
            (smart(), lacks(), ours(Published::Same), dmarc("p=reject"), [Good, Good, Good]),
            (smart(), lacks(), ours(Published::Same), Ok(None), [Good, Good, Warning]),
            (smart(), lacks(), ours(Published::Other), dmarc("p=reject"), [Warning, Wrong, Warning]),
            (smart(), Spf::NoRecord("ip4:192.0.2.1".into()), nobody(), dmarc("p=reject"), [Warning, Warning, Wrong]),
            // Many receivers cannot check ed25519.
            (Way::Here, lacks(), kinds(&["ed25519"]), dmarc("p=reject"), [Wrong, Warning, Wrong]),
            (Way::Here, lacks(), kinds(&["ed25519", "rsa"]), dmarc("p=reject"), [Wrong, Good, Good]),
        ];
        for (way, spf, signing, dmarc, want) in table {
            let looked = looked(way, spf, signing, dmarc);
            let findings = judge("help@a.example", &looked, &Home::Takes);
            let of = |check| findings.iter().find(|finding| finding.check == check).unwrap().level;
            let got = ["spf", "dkim", "dmarc"].map(of);
            assert_eq!(got, want, "{looked:?}");
            assert!(findings.iter().all(|finding| (finding.level == Good) == finding.action.is_none()), "{findings:?}");
            // A domain's record is not told to hold the address of a smarthost, which may not be what it sends from.
            let told = findings[0].action.as_deref().unwrap_or_default();
            assert!(!matches!(looked.way, Way::Smarthost(_)) || !told.contains("ip4:"), "{told}");
        }
        let permitted = looked(Way::Here, Spf::Permits, Signing::Nobody, Ok(None));
        assert_eq!(judge("help@a.example", &permitted, &Home::TakesNone)[3].level, Wrong);
    }

    #[test]
    fn the_default_relay_is_looked_at_where_it_may_take_over() {
        // SPF; whether it takes over in any case; the finding, and a part of its words.
        let silent = || Spf::NotKnown("no answer".into());
        let table = [
            (Spf::Permits, false, Good, "takes over"),
            (Spf::Permits, true, Good, "takes over"),
            (lacks(), false, Warning, "may not take over"),
            (lacks(), true, Warning, "DNS does not permit it"),
            (silent(), false, NotKnown, "is not known, mail waits"),
            (silent(), true, NotKnown, "whether its domain permits that is not known: "),
        ];
        for (spf, always, want, part) in table {
            let finding = takeover("help@a.example", &looked(Way::Here, spf, Signing::Nobody, dmarc("p=none")), always);
            assert_eq!((finding.level, finding.check), (want, "takeover"), "{finding:?}");
            assert!(finding.said.contains(part), "{finding:?}");
        }
    }
}
