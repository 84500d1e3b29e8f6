//! MTA-STS policies that are known, for as long as they say: also over reloads and restarts, since a sender that forgets
//! one can be led to send in clear (RFC 8461 sections 3.3 and 10.2).
//!
//! They lie in one file, which is written anew as a whole with each change; changes that come while it is being written
//! share the next writing. Must not know: DNS, how a policy is fetched.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::sts::Policy;
use crate::clock::Clock;
use crate::files;

/// Domains whose policies are kept, and the bytes of the file; the one that ends first gives way.
const KEPT: usize = 2_000;
const LARGEST: u64 = 8 << 20;

/// A policy that could not be fetched is not asked for again so soon (RFC 8461 section 3.3).
const FETCH_AGAIN: Duration = Duration::from_secs(300);

/// A policy is fetched anew when it has less time left than this, or than a quarter of its age.
const REFRESH: Duration = Duration::from_secs(24 * 3600);

/// The record is not asked for again so soon.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The file below the data directory.
const FILE: &str = "mta-sts.json";

/// What is kept of a domain at one moment.
pub(super) struct Known {
    pub id: String,
    pub policy: Option<Policy>,
    /// Nothing is asked about it yet.
    pub quiet: bool,
    /// It is not fetched again yet.
    pub rests: bool,
    pub ends_soon: bool,
}

pub(super) struct Kept {
    /// What the record said when the policy was fetched, and when it was last read by this process.
    pub id: String,
    pub asked: Option<Instant>,
    policy: Option<Policy>,
    pub until: Instant,
    /// Not fetched again before this.
    pub rest: Instant,
}

/// One policy as it lies on disk.
#[derive(Serialize, Deserialize)]
struct Row {
    domain: String,
    id: String,
    until: Timestamp,
    policy: Policy,
}

/// The policies.
pub(super) struct KeptPolicies {
    file: PathBuf,
    clock: Clock,
    /// With how often they have changed.
    pub(super) kept: Mutex<(HashMap<String, Kept>, u64)>,
    /// The change that the file has.
    written: tokio::sync::Mutex<u64>,
}

impl KeptPolicies {
    /// Takes up what the file has. One that cannot be read is told of: its policies are fetched anew. Blocks on the disk.
    pub fn open(data_dir: &Path, clock: Clock) -> Self {
        let file = data_dir.join(FILE);
        let rows = read(&file).unwrap_or_else(|error| {
            let file = file.display();
            tracing::error!(%file, %error, "the MTA-STS policies cannot be read: they are fetched anew");
            Vec::new()
        });
        let (wall, now) = (clock.now(), Instant::now());
        let kept = rows.into_iter().filter_map(|row| {
            // No policy lasts longer than it says, whatever has become of the clock.
            let left = Duration::try_from(row.until.duration_since(wall)).ok()?.min(row.policy.max_age());
            let kept = Kept { id: row.id, asked: None, policy: Some(row.policy), until: now + left, rest: now };
            (!left.is_zero()).then_some((row.domain, kept))
        });
        let kept = Mutex::new((kept.take(KEPT).collect(), 0));
        Self { file, clock, kept, written: tokio::sync::Mutex::new(0) }
    }

    /// What is kept of a domain, as it is now.
    pub fn known(&self, domain: &str, now: Instant) -> Option<Known> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.0.get(domain)?;
        let (id, rests) = (found.id.clone(), found.rest > now);
        if found.until <= now {
            return rests.then_some(Known { id, policy: None, quiet: true, rests, ends_soon: true });
        }
        // Fetched anew in time, so that nobody gets rid of a policy by blocking one fetch (RFC 8461 section 10.2).
        let age = found.policy.as_ref().map_or(Duration::ZERO, Policy::max_age);
        let ends_soon = found.until.duration_since(now) < (age / 4).min(REFRESH);
        let quiet = found.asked.is_some_and(|asked| asked + ASK_AGAIN > now);
        Some(Known { id, policy: found.policy.clone(), quiet, rests, ends_soon })
    }

    /// A fetch has failed: what is held stays what it was, for as long as it was to last.
    pub fn failed(&self, domain: &str, id: String, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.0.get_mut(domain).filter(|found| found.until > now) {
            Some(found) => (found.asked, found.rest) = (Some(now), now + FETCH_AGAIN),
            None => {
                let none = Kept { id, asked: Some(now), policy: None, until: now, rest: now + FETCH_AGAIN };
                put(&mut kept.0, domain, none, now);
            }
        }
    }

    /// The record of a domain was read.
    pub fn asked(&self, domain: &str, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.0.get_mut(domain) {
            found.asked = Some(now);
        }
    }

    /// Keeps a policy that was fetched; it stands on disk when this returns. Where that fails it holds until the process
    /// ends, and the log says so.
    pub async fn keep(self: &Arc<Self>, domain: &str, id: String, policy: Policy, now: Instant) {
        let change = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let until = now + policy.max_age();
            let rest = now + FETCH_AGAIN;
            put(&mut kept.0, domain, Kept { id, asked: Some(now), policy: Some(policy), until, rest }, now);
            kept.1 += 1;
            kept.1
        };
        let mut written = self.written.lock().await;
        if *written >= change {
            return;
        }
        let (rows, all) = self.rows(now);
        let file = self.file.clone();
        let outcome = tokio::task::spawn_blocking(move || write(&file, rows)).await;
        match outcome.map_err(io::Error::other).and_then(|outcome| outcome) {
            Ok(()) => *written = all,
            Err(error) => {
                let file = self.file.display();
                tracing::error!(%file, %error, "MTA-STS policies could not be written: a restart forgets the last ones");
            }
        }
    }

    /// What is to be on disk, and with the changes up to which number.
    fn rows(&self, now: Instant) -> (Vec<Row>, u64) {
        let wall = self.clock.now();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |(domain, kept): (&String, &Kept)| {
            let left = SignedDuration::try_from(kept.until.checked_duration_since(now)?).ok()?;
            let (domain, id, policy) = (domain.clone(), kept.id.clone(), kept.policy.clone()?);
            Some(Row { domain, id, until: wall.checked_add(left).unwrap_or(Timestamp::MAX), policy })
        };
        (kept.0.iter().filter_map(row).collect(), kept.1)
    }
}

fn put(kept: &mut HashMap<String, Kept>, domain: &str, one: Kept, now: Instant) {
    kept.insert(domain.to_owned(), one);
    if kept.len() > KEPT {
        kept.retain(|_, kept| kept.until > now || kept.rest > now);
        let first = kept.iter().min_by_key(|(_, kept)| kept.until).map(|(domain, _)| domain.clone());
        first.filter(|_| kept.len() > KEPT).map(|first| kept.remove(&first));
    }
}

fn read(file: &Path) -> io::Result<Vec<Row>> {
    match files::read(file, LARGEST) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Replaces the file: what stands in it is there whole or not at all, and stays.
fn write(file: &Path, mut rows: Vec<Row>) -> io::Result<()> {
    rows.sort_by(|a, b| b.until.cmp(&a.until).then_with(|| a.domain.cmp(&b.domain)));
    // A row with its comma each, between brackets: those that end last as far as there is room.
    let mut text = b"[".to_vec();
    for row in &rows {
        let row = serde_json::to_vec(row)?;
        if (text.len() + row.len() + 2) as u64 > LARGEST {
            break;
        }
        if text.len() > 1 {
            text.push(b',');
        }
        text.extend_from_slice(&row);
    }
    text.push(b']');
    crate::files::replace(file, &text, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::parse(&format!("version: STSv1\nmode: enforce\nmx: mx.a.example\n{text}")).unwrap()
    }

    fn clock(seconds: i64) -> Clock {
        Clock::from_fn(move || Timestamp::from_second(1_795_000_000 + seconds).unwrap())
    }

    #[tokio::test]
    async fn policies_outlive_a_restart_and_not_their_time() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let day = policy("max_age: 86400\n");
        let kept = Arc::new(KeptPolicies::open(dir.path(), clock(0)));
        kept.keep("a.example", "1".into(), day.clone(), now).await;
        kept.failed("b.example", "1".into(), now);
        // Seconds until the next start, what is known of it then, and whether it is to be fetched anew soon.
        let table = [(10, true, false), (86_399, true, true), (86_400, false, false), (-999_999, true, false)];
        for (seconds, holds, ends_soon) in table {
            let kept = KeptPolicies::open(dir.path(), clock(seconds));
            let known = kept.known("a.example", Instant::now());
            assert_eq!(known.as_ref().map(|known| known.ends_soon), holds.then_some(ends_soon), "{seconds}");
            if let Some(known) = known {
                assert_eq!((known.policy, known.id.as_str()), (Some(day.clone()), "1"));
                assert!(!known.quiet && !known.rests, "the record is asked for anew");
                let long = Instant::now() + Duration::from_secs(86_401);
                assert!(kept.known("a.example", long).is_none(), "not longer than it says");
            }
            assert!(kept.known("b.example", Instant::now()).is_none());
        }
        // A file that is damaged, or too large, ends nothing.
        for text in ["[{", &" ".repeat(LARGEST as usize + 2)] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let kept = Arc::new(KeptPolicies::open(dir.path(), clock(0)));
            assert!(kept.known("a.example", now).is_none());
            kept.keep("a.example", "2".into(), day.clone(), now).await;
            let again = KeptPolicies::open(dir.path(), clock(1));
            assert_eq!(again.known("a.example", Instant::now()).unwrap().id, "2");
        }
    }

    #[tokio::test]
    async fn number_and_size_are_bounded_and_changes_share_a_writing() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, now) = (Arc::new(KeptPolicies::open(dir.path(), clock(0))), Instant::now());
        let many = "mx: a-long-name-of-a-server.example\n".repeat(1_500);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..KEPT + 50 {
            let (kept, policy) = (kept.clone(), policy(&format!("{many}max_age: {}\n", 1_000 + n)));
            tasks.spawn(async move { kept.keep(&format!("d{n}.example"), "1".into(), policy, now).await });
        }
        tasks.join_all().await;
        assert_eq!(kept.kept.lock().unwrap().0.len(), KEPT);
        assert_eq!(*kept.written.lock().await, (KEPT + 50) as u64);
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() <= LARGEST);
        let again = KeptPolicies::open(dir.path(), clock(1));
        let last = format!("d{}.example", KEPT + 49);
        assert!(again.known(&last, Instant::now()).is_some(), "those that end last stay");
    }
}
