//! MTA-STS (RFC 8461): what a domain says of the servers that may take its mail, and that TLS must hold.
//!
//! Policies are kept for as long as they say: see [`KeptPolicies`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::kept::{KeptPolicies, Known};
use crate::net::names::Names;

/// About a year, the longest that a policy may ask for (RFC 8461 section 3.2).
const LONGEST: u64 = 31_557_600;

/// What a policy asks of senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Enforce,
    /// Deliver, whatever is wrong.
    Testing,
    None,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub mode: Mode,
    /// Host names, and `*.` before one stands for one label.
    hosts: Vec<String>,
    /// In seconds.
    max_age: u64,
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
                // One that names nobody allows nobody, and does not make a policy whole.
                "mx" => hosts.extend(Some(value.trim_end_matches('.').to_lowercase()).filter(|host| !host.is_empty())),
                _ => {}
            }
        }
        let mode = match mode? {
            "enforce" => Mode::Enforce,
            "testing" => Mode::Testing,
            "none" => Mode::None,
            _ => return None,
        };
        let max_age = max_age?.parse::<u64>().ok()?.min(LONGEST);
        let whole = version == Some("STSv1") && (mode == Mode::None || !hosts.is_empty());
        whole.then_some(Self { mode, hosts, max_age })
    }

    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age)
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
pub fn record_id(texts: &[String]) -> Option<String> {
    let mut ours = texts.iter().filter(|text| text.trim_start().starts_with("v=STSv1"));
    let (only, None) = (ours.next()?, ours.next()) else { return None };
    let id = only.split(';').find_map(|part| part.trim().strip_prefix("id=")).map(str::trim)?;
    let legal = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    legal.then(|| id.to_owned())
}

/// Fetches the policy of a domain over HTTPS: its text, or why there is none.
pub(super) type Fetch =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

/// The policies of domains.
pub(super) struct Policies {
    fetch: Fetch,
    kept: Arc<KeptPolicies>,
}

impl Policies {
    pub fn new(fetch: Fetch, kept: Arc<KeptPolicies>) -> Self {
        Self { fetch, kept }
    }

    /// The policy that holds for a domain now.
    pub async fn of(&self, domain: &str, names: &Names) -> Option<Policy> {
        let now = Instant::now();
        let known = self.kept.known(domain, now);
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
            self.kept.asked(domain, now);
            return held;
        }
        let fetched = (self.fetch)(domain.to_owned()).await;
        let read = fetched.and_then(|text| Policy::parse(&text).ok_or_else(|| "it is no policy".to_owned()));
        match read {
            Ok(policy) => {
                self.kept.keep(domain, id, policy.clone(), now).await;
                Some(policy)
            }
            Err(said) => {
                tracing::info!(domain, said, "the MTA-STS policy could not be fetched");
                self.kept.failed(domain, id, now);
                held
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::clock::Clock;
    use crate::net::dns;
    use crate::relay::stub::{Answer, DnsServer};

    const POLICY: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n";

    #[test]
    fn policies_and_hosts() {
        let policy = Policy::parse(POLICY).unwrap();
        assert_eq!((policy.mode, policy.max_age()), (Mode::Enforce, Duration::from_secs(604_800)));
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
            "version: STSv1\nmode: enforce\nmx: .\nmx:\nmax_age: 1",
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
        let fetch: Fetch = Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(POLICY.to_owned()) })
        });
        let dir = tempfile::tempdir().unwrap();
        let kept = Arc::new(KeptPolicies::open(dir.path(), Clock::system()));
        let policies = Policies::new(fetch, kept.clone());
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
            let mut kept = kept.kept.lock().unwrap();
            let found = kept.0.get_mut("a.example").unwrap();
            (found.asked, found.rest) = (Some(ago(asked)), ago(rest));
            found.until
        };
        let until = age(61, 1);
        assert_eq!(policies.of("a.example", &moved_names).await.map(|policy| policy.mode), Some(Mode::Enforce));
        {
            let kept = &kept.kept.lock().unwrap().0;
            assert_eq!((kept["a.example"].id.as_str(), kept["a.example"].until), ("1", until));
        }
        *texts.lock().unwrap() = Ok(POLICY.replace("enforce", "testing"));
        kept.kept.lock().unwrap().0.get_mut("a.example").unwrap().asked = Some(ago(61));
        assert_eq!(policies.of("a.example", &moved_names).await.map(|policy| policy.mode), Some(Mode::Enforce), "rest");
        age(61, 1);
        assert_eq!(policies.of("a.example", &moved_names).await.map(|policy| policy.mode), Some(Mode::Testing));
        // One that ends soon is fetched anew, though its id is the same.
        *texts.lock().unwrap() = Ok(POLICY.to_owned());
        age(61, 1);
        kept.kept.lock().unwrap().0.get_mut("a.example").unwrap().until = Instant::now() + Duration::from_secs(3600);
        assert_eq!(policies.of("a.example", &moved_names).await.map(|policy| policy.mode), Some(Mode::Enforce));
        // The process is started anew while nobody can fetch: what holds still holds (RFC 8461 section 10.2).
        let failing: Fetch = Arc::new(|_| Box::pin(async { Err("404".to_owned()) }));
        let restarted = Arc::new(KeptPolicies::open(dir.path(), Clock::system()));
        let started = Policies::new(failing.clone(), restarted);
        assert_eq!(started.of("a.example", &names).await.map(|policy| policy.mode), Some(Mode::Enforce));
        let empty = tempfile::tempdir().unwrap();
        let fresh = Policies::new(failing, Arc::new(KeptPolicies::open(empty.path(), Clock::system())));
        assert_eq!(fresh.of("a.example", &names).await, None);
    }
}
