//! What the daemon counts and measures, under the names that dashboards rely on.
//!
//! One struct of handles with its own registry, cheap to clone. Methods are named after what happened, so that no
//! caller builds a label by hand; no label ever holds an address, a Message-ID or a ticket. Words that a caller passes
//! and that are not on the lists here are counted as `other`, so that the number of series stays bounded.
//!
//! Must not know: what a mail, a store or a session is. It is the lowest layer, so words come in as text.

mod handles;
mod mailboxes;
mod outbox;
mod process;
mod relays;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{Registry, TextEncoder};

use handles::Handles;

/// The doors by which mail comes in.
pub const DOORS: &[&str] = &["smtp", "imap", "graph", "submission", "api"];

/// What becomes of a mail: the words of `filing`, and `refused` for mail that was never accepted.
pub const OUTCOMES: &[&str] =
    &["opened", "appended", "reported", "duplicate", "dropped", "rejected", "quarantined", "relayed", "refused"];

/// The codes of all typed reasons.
pub const REASONS: &[&str] = &[
    "too_large",
    "malformed",
    "header_too_large",
    "missing_from",
    "no_channel",
    "auth_failed",
    "sender_not_allowed",
    "loop_own_mail",
    "loop_hops",
    "parse_timeout",
    "too_many_parts",
    "too_deep",
    "parser_crashed",
    "duplicate_message_id",
    "duplicate_content",
    "duplicate_fingerprint",
    "channel_gone",
    "damaged",
    "probe",
    "other",
];

/// What the SMTP door refuses: connections, commands and data, by the words of its own list.
pub const SMTP_REFUSALS: &[&str] = &[
    "too_many_connections",
    "too_many_connections_from_peer",
    "too_many_mails",
    "too_many_commands",
    "too_many_bad_commands",
    "too_many_recipients",
    "command_too_long",
    "broken_line",
    "unknown_command",
    "bad_syntax",
    "bad_sequence",
    "not_allowed",
    "login_failed",
    "tls_required",
    "relay",
    "unknown_recipient",
    "announced_size",
    "actual_size",
    "data_line_too_long",
    "bare_newline",
    "idle_timeout",
    "transaction_timeout",
    "after_starttls",
    "tls_handshake",
    "proxy_header",
    "shutting_down",
    "other_protocol",
    "other",
];

/// The states of a connection to a mailbox.
pub const CONNECTION_STATES: &[&str] = &["connecting", "connected", "paused", "disconnected", "problem"];

/// What becomes of mail that is seen in a mailbox.
pub const PULLED: &[&str] = &["imported", "rejected", "read_elsewhere", "gone", "known", "unfetchable"];

/// How a request for an access token ends.
pub const REFRESHES: &[&str] = &["refreshed", "kept", "failed", "dead"];

/// What becomes of a recipient in one attempt of a relay.
pub const RELAYED: &[&str] = &["relayed", "delayed", "failed", "ambiguous"];

/// What the sender of a mail is told of.
pub const TOLD: &[&str] = &["failed", "delayed", "relayed", "delivered"];

/// How a connection of a relay is protected: TLS with the certificate checked, TLS without, none; or it was not made.
pub const RELAY_PROTECTIONS: &[&str] = &["verified", "unverified", "clear", "failed"];

/// The methods of sender verification.
pub const AUTH_METHODS: &[&str] = &["spf", "dkim", "dmarc", "arc"];

/// The verdicts of RFC 8601 section 2.7.
pub const VERDICTS: &[&str] =
    &["none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror", "other"];

/// How a reload of the configuration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// The new file is in use.
    Applied,
    /// The new file has faults, and the old configuration stays in use.
    Refused,
}

impl ReloadResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
        }
    }
}

/// All handles; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Handles>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh registry with every series at zero.
    pub fn new() -> Self {
        Self(Arc::new(Handles::new()))
    }

    /// The registry, for tests that gather single values.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// The exposition in the text format of Prometheus, with the numbers of the process as they are now.
    pub fn render(&self) -> String {
        self.0.process.refresh();
        let mut text = String::with_capacity(32 << 10);
        // Encoding fails only on a broken metric family, which `Handles::new` cannot make.
        if let Err(error) = TextEncoder::new().encode_utf8(&self.0.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written out");
        }
        text
    }

    // ---- mail

    /// A mail was accepted: it stands synced in the log. `took` runs from the end of its data to that instant; it is
    /// not told of mail for which nobody waits.
    pub fn mail_accepted(&self, door: &str, bytes: u64, took: Option<Duration>) {
        let door = known(DOORS, door);
        self.0.accepted.with_label_values(&[door]).inc();
        self.0.accepted_bytes.with_label_values(&[door]).inc_by(bytes);
        if let Some(took) = took {
            self.0.accept_seconds.observe(took.as_secs_f64());
        }
    }

    /// A mail was refused at the door, for good, for a typed reason.
    pub fn mail_refused(&self, door: &str, reason: &str) {
        self.0.mails.with_label_values(&[known(DOORS, door), "refused"]).inc();
        self.0.rejects.with_label_values(&[known(REASONS, reason)]).inc();
    }

    /// A mail reached its final state. `waited` runs from its acceptance to the commit that filed it.
    pub fn mail_filed(&self, door: &str, filing: &str, reason: Option<&str>, waited: Duration) {
        self.0.mails.with_label_values(&[known(DOORS, door), known(OUTCOMES, filing)]).inc();
        if let Some(reason) = reason {
            self.0.rejects.with_label_values(&[known(REASONS, reason)]).inc();
        }
        self.0.filing_seconds.observe(waited.as_secs_f64());
    }

    /// A mail was turned away for now, because there is no room or we are in trouble (452, 451).
    pub fn mail_deferred(&self, door: &str, cause: Deferral) {
        self.0.deferred.with_label_values(&[known(DOORS, door), cause.as_str()]).inc();
    }

    /// Verdict of one method of sender verification about one mail.
    pub fn verified(&self, method: &str, verdict: &str) {
        self.0.verdicts.with_label_values(&[known(AUTH_METHODS, method), known(VERDICTS, verdict)]).inc();
    }

    /// The state of the spool: mails accepted and not filed yet, their bytes, and for how long the oldest has waited.
    pub fn spool_is(&self, depth: u64, bytes: u64, oldest: Duration) {
        self.0.spool_mails.set(signed(depth));
        self.0.spool_bytes.set(signed(bytes));
        self.0.spool_oldest.set(oldest.as_secs_f64());
    }

    // ---- SMTP

    /// A listener was bound: its series exist from now on.
    pub fn smtp_listener(&self, listener: &str) {
        self.0.sessions_open.with_label_values(&[listener]).set(0);
        self.0.sessions.with_label_values(&[listener]).inc_by(0);
    }

    /// A connection was taken up by a listener, which the configuration names.
    pub fn smtp_connection_opened(&self, listener: &str) {
        self.0.sessions_open.with_label_values(&[listener]).inc();
        self.0.sessions.with_label_values(&[listener]).inc();
    }

    /// A connection of a listener ended.
    pub fn smtp_connection_closed(&self, listener: &str) {
        self.0.sessions_open.with_label_values(&[listener]).dec();
    }

    /// The SMTP door refused a connection, a command or data; `kind` is one of `SMTP_REFUSALS`.
    pub fn smtp_refused(&self, kind: &str) {
        self.0.smtp_refusals.with_label_values(&[known(SMTP_REFUSALS, kind)]).inc();
    }

    // ---- the store

    /// What the store has done since the process began: brings the counters up to these totals.
    pub fn store_did(&self, totals: &StoreTotals) {
        let counters = [
            (&self.0.log_records, totals.records),
            (&self.0.log_bytes, totals.bytes),
            (&self.0.log_syncs, totals.syncs),
            (&self.0.index_commits, totals.commits),
        ];
        for (counter, total) in counters {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        let seconds_spent =
            [(&self.0.log_sync_seconds, totals.sync_seconds), (&self.0.index_commit_seconds, totals.commit_seconds)];
        for (counter, total) in seconds_spent {
            counter.inc_by((total - counter.get()).max(0.0));
        }
        self.0.damaged_records.set(signed(totals.damaged));
        if let Some(at) = totals.last_flush {
            self.0.last_flush.set(seconds(at));
        }
    }

    /// What the data directory holds, and what is left on its file system.
    pub fn store_is(&self, bytes: u64, free_bytes: u64, segments: u64) {
        self.0.store_bytes.set(signed(bytes));
        self.0.free_bytes.set(signed(free_bytes));
        self.0.log_segments.set(signed(segments));
    }

    /// Whether the process is healthy, and whether it accepts mail now.
    pub fn health_is(&self, healthy: Health, ready: Health) {
        self.0.healthy.set(healthy.as_number());
        self.0.ready.set(ready.as_number());
    }

    // ---- configuration

    /// The configuration was read again.
    pub fn config_reloaded(&self, result: ReloadResult, now: Timestamp) {
        self.0.config_reloads.with_label_values(&[result.as_str()]).inc();
        if result == ReloadResult::Applied {
            self.0.config_reloaded_at.set(seconds(now));
        }
    }

    /// A certificate was read for a listener (or another user of one) that the configuration names.
    pub fn certificate_expires(&self, name: &str, at: Timestamp) {
        self.0.certificate_expires.with_label_values(&[name]).set(seconds(at));
    }
}

/// Why a mail was turned away for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// Less free space than the low-water mark: 452 4.3.1.
    Full,
    /// Our own trouble: 451 4.3.0.
    Trouble,
}

impl Deferral {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Trouble => "trouble",
        }
    }
}

/// What a store has done since its process began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StoreTotals {
    /// Records and bytes appended to the log, and the syncs that made them durable.
    pub records: u64,
    pub bytes: u64,
    pub syncs: u64,
    pub sync_seconds: f64,
    /// Steps committed to the index.
    pub commits: u64,
    pub commit_seconds: f64,
    /// Records that could not be read.
    pub damaged: u64,
    pub last_flush: Option<Timestamp>,
}

/// An answer of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    Bad,
}

impl Health {
    fn as_number(self) -> i64 {
        match self {
            Self::Good => 1,
            Self::Bad => 0,
        }
    }
}

/// The word if it is on the list, and the list's last resort otherwise.
fn known<'a>(list: &[&'a str], word: &str) -> &'a str {
    list.iter().find(|entry| **entry == word).copied().unwrap_or("other")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
