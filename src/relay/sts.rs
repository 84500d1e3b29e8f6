//! MTA-STS (RFC 8461): what a domain says of the servers that may take its mail, and that TLS must hold.
//!
//! Policies are kept for as long as they say, in memory: after a restart they are fetched again.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::names::Names;

/// Domains whose policies are kept; the one that ends first gives way.
const KEPT: usize = 2_000;

/// A policy that could not be fetched is not asked for again so soon (RFC 8461 section 3.3).
const FETCH_AGAIN: Duration = Duration::from_secs(300);

/// A policy is fetched anew when it has less time left than this, or than a quarter of its age.
const REFRESH: Duration = Duration::from_secs(24 * 3600);

/// The record is not asked for again so soon.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// About a year, the longest that a policy may ask for (RFC 8461 section 3.2).
const LONGEST: u64 = 31_557_600;

/// What a policy asks of senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Enforce,
    /// Deliver, whatever is wrong.
    Testing,
    None,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub mode: Mode,
    /// Host names, and `*.` before one stands for one label.
    hosts: Vec<String>,
    max_age: Duration,
}

impl Policy {
    /// Reads a policy (RFC 8461 section 3.2). Unknown keys are left alone; the first of a key that is there twice
    /// counts, but for `mx`.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut version, mut mode, mut max_age, mut hosts) = (None, None, None, Vec::new());
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.trim() {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" => hosts.push(value.trim_end_matches('.').to_lowercase()),
                _ => {}
            }
        }
        let mode = match mode? {
            "enforce" => Mode::Enforce,
            "testing" => Mode::Testing,
            "none" => Mode::None,
            _ => return None,
        };
        let max_age = Duration::from_secs(max_age?.parse::<u64>().ok()?.min(LONGEST));
        let whole = version == Some("STSv1") && (mode == Mode::None || !hosts.is_empty());
        whole.then_some(Self { mode, hosts, max_age })
    }

    /// Whether a server may take mail (RFC 8461 section 4.1).
    pub fn allows(&self, host: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => host == pattern,
        };
        self.hosts.iter().any(fits)
    }
}

/// The `id` of the one `_mta-sts` record that there must be (RFC 8461 section 3.1).
pub(super) fn record_id(texts: &[String]) -> Option<String> {
    let mut ours = texts.iter().filter(|text| text.trim_start().starts_with("v=STSv1"));
    let (only, None) = (ours.next()?, ours.next()) else { return None };
    let id = only.split(';').find_map(|part| part.trim().strip_prefix("id=")).map(str::trim)?;
    let legal = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    legal.then(|| id.to_owned())
}

/// Fetches the policy of a domain over HTTPS: its text, or why there is none.
pub(super) type Fetch =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

/// What is kept of a domain at one moment.
struct Known {
    id: String,
    policy: Option<Policy>,
    /// Nothing is asked about it yet.
    quiet: bool,
    /// It is not fetched again yet.
    rests: bool,
    ends_soon: bool,
}

struct Kept {
    /// What the record said when the policy was fetched, and when it was last read.
    id: String,
    asked: Instant,
    policy: Option<Policy>,
    until: Instant,
    /// Not fetched again before this.
    rest: Instant,
}

/// The policies that are known.
pub(super) struct Policies {
    fetch: Fetch,
    kept: Mutex<HashMap<String, Kept>>,
}

impl Policies {
    pub fn new(fetch: Fetch) -> Self {
        Self { fetch, kept: Mutex::default() }
    }

    /// The policy that holds for a domain now.
    pub async fn of(&self, domain: &str, names: &Names) -> Option<Policy> {
        let now = Instant::now();
        let known = self.known(domain, now);
        if let Some(Known { policy, quiet: true, .. }) = &known {
            return policy.clone();
        }
        // What was fetched holds until its end, even if the record is gone or cannot be read (RFC 8461 section 3.3).
        let held = known.as_ref().and_then(|known| known.policy.clone());
        let texts = names.txt(&format!("_mta-sts.{domain}")).await.ok();
        let Some(id) = texts.and_then(|texts| record_id(&texts)) else { return held };
        if let Some(known) = &known
            && (known.rests || (known.id == id && !known.ends_soon))
        {
            self.asked(domain, now);
            return held;
        }
        let fetched = (self.fetch)(domain.to_owned()).await;
        let read = fetched.and_then(|text| Policy::parse(&text).ok_or_else(|| "it is no policy".to_owned()));
        match read {
            Ok(policy) => {
                self.keep(domain, id, Some(policy.clone()), now);
                Some(policy)
            }
            Err(said) => {
                tracing::info!(domain, said, "the MTA-STS policy could not be fetched");
                self.failed(domain, id, now);
                held
            }
        }
    }

    /// What is kept of a domain, as it is now.
    fn known(&self, domain: &str, now: Instant) -> Option<Known> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(domain)?;
        let (id, rests) = (found.id.clone(), found.rest > now);
        if found.until <= now {
            return rests.then_some(Known { id, policy: None, quiet: true, rests, ends_soon: true });
        }
        // Fetched anew in time, so that nobody gets rid of a policy by blocking one fetch (RFC 8461 section 10.2).
        let age = found.policy.as_ref().map_or(Duration::ZERO, |policy| policy.max_age);
        let ends_soon = found.until.duration_since(now) < (age / 4).min(REFRESH);
        let quiet = found.asked + ASK_AGAIN > now;
        Some(Known { id, policy: found.policy.clone(), quiet, rests, ends_soon })
    }

    /// A fetch has failed: what is held stays what it was, for as long as it was to last.
    fn failed(&self, domain: &str, id: String, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get_mut(domain).filter(|found| found.until > now) {
            Some(found) => (found.asked, found.rest) = (now, now + FETCH_AGAIN),
            None => {
                drop(kept);
                self.keep(domain, id, None, now);
            }
        }
    }

    fn asked(&self, domain: &str, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get_mut(domain) {
            found.asked = now;
        }
    }

    fn keep(&self, domain: &str, id: String, policy: Option<Policy>, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let until = now + policy.as_ref().map_or(Duration::ZERO, |policy| policy.max_age);
        kept.insert(domain.to_owned(), Kept { id, asked: now, policy, until, rest: now + FETCH_AGAIN });
        if kept.len() > KEPT {
            kept.retain(|_, kept| kept.until > now || kept.rest > now);
            let first = kept.iter().min_by_key(|(_, kept)| kept.until).map(|(domain, _)| domain.clone());
            first.filter(|_| kept.len() > KEPT).map(|first| kept.remove(&first));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::net::dns;
    use crate::relay::stub::{Answer, DnsServer};

    const POLICY: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n";

    #[test]
    fn policies_and_hosts() {
        let policy = Policy::parse(POLICY).unwrap();
        assert_eq!((policy.mode, policy.max_age), (Mode::Enforce, Duration::from_secs(604_800)));
        let table = [
            ("mail.example.com", true),
            ("a.mail.example.com", false),
            ("mx1.example.net", true),
            ("example.net", false),
            ("a.b.example.net", false),
        ];
        for (host, allowed) in table {
            assert_eq!(policy.allows(host), allowed, "{host}");
        }
        assert!(Policy::parse("version: STSv1\nmode: none\nmax_age: 1\n").is_some());
        for broken in [
            "",
            "version: STSv2\nmode: none\nmax_age: 1",
            "version: STSv1\nmode: enforce\nmax_age: 1",
            "version: STSv1\nmode: x\nmx: a\nmax_age: 1",
            "version: STSv1\nmode: enforce\nmx: a\nmax_age: x",
        ] {
            assert_eq!(Policy::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn records() {
        let id = |texts: &[&str]| record_id(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(id(&["v=STSv1; id=20160831085700Z;"]).as_deref(), Some("20160831085700Z"));
        assert_eq!(id(&["other", "v=STSv1;id=1"]).as_deref(), Some("1"));
        for none in [&["v=STSv1; id=1", "v=STSv1; id=2"][..], &["v=STSv1"], &["v=STSv1; id=a-b"], &[]] {
            assert_eq!(id(none), None, "{none:?}");
        }
    }

    #[tokio::test]
    async fn a_policy_is_fetched_once_and_held() {
        let server = DnsServer::start(&[("_mta-sts.a.example", Answer::Txt("v=STSv1; id=1".into()))]).await;
        let config = dns::Config { name_servers: vec![server.address], ..dns::Config::default() };
        let names = Names::new(&config, false).unwrap();
        let fetched = Arc::new(AtomicUsize::new(0));
        let count = fetched.clone();
        let policies = Policies::new(Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(POLICY.to_owned()) })
        }));
        assert_eq!(policies.of("b.example", &names).await, None);
        for _ in 0..3 {
            assert_eq!(policies.of("a.example", &names).await.map(|policy| policy.mode), Some(Mode::Enforce));
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 1);
        // The domain moves its MX, and the first fetch of the new policy fails: the old one holds no longer than it was
        // to, and the new one is fetched once the rest is over.
        let moved = DnsServer::start(&[("_mta-sts.a.example", Answer::Txt("v=STSv1; id=2".into()))]).await;
        let config = dns::Config { name_servers: vec![moved.address], ..dns::Config::default() };
        let moved_names = Names::new(&config, false).unwrap();
        let texts = Arc::new(Mutex::new(Err("503".to_owned())));
        let answers = texts.clone();
        let mut policies = policies;
        policies.fetch = Arc::new(move |_| {
            let text = answers.lock().unwrap().clone();
            Box::pin(async { text })
        });
        let ago = |seconds: u64| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let age = |asked: u64, rest: u64| {
            let mut kept = policies.kept.lock().unwrap();
            let found = kept.get_mut("a.example").unwrap();
            (found.asked, found.rest) = (ago(asked), ago(rest));
            found.until
        };
        let until = age(61, 1);
        assert_eq!(policies.of("a.example", &moved_names).await.map(|policy| policy.mode), Some(Mode::Enforce));
        {
            let kept = policies.kept.lock().unwrap();
            assert_eq!((kept["a.example"].id.as_str(), kept["a.example"].until), ("1", until));
        }
        *texts.lock().unwrap() = Ok(POLICY.replace("enforce", "testing"));
        policies.kept.lock().unwrap().get_mut("a.example").unwrap().asked = ago(61);
        assert_eq!(policies.of("a.example", &moved_names).await.map(|policy| policy.mode), Some(Mode::Enforce), "rest");
        age(61, 1);
        assert_eq!(policies.of("a.example", &moved_names).await.map(|policy| policy.mode), Some(Mode::Testing));
        // One that ends soon is fetched anew, though its id is the same.
        *texts.lock().unwrap() = Ok(POLICY.to_owned());
        age(61, 1);
        policies.kept.lock().unwrap().get_mut("a.example").unwrap().until = Instant::now() + Duration::from_secs(3600);
        assert_eq!(policies.of("a.example", &moved_names).await.map(|policy| policy.mode), Some(Mode::Enforce));
        let failing = Policies::new(Arc::new(|_| Box::pin(async { Err("404".to_owned()) })));
        assert_eq!(failing.of("a.example", &names).await, None);
    }
}
