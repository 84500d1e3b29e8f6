//! Names, help texts, labels and buckets of all metrics, in one table of calls.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use prometheus::{Opts, Registry};

use super::mailboxes::Mailboxes;
use super::outbox::Outbox;
use super::process::Process;
use super::relays::Relays;
use super::{AUTH_METHODS, DOORS, OUTCOMES, REASONS, SMTP_REFUSALS, VERDICTS};

/// From a tenth of a millisecond to ten seconds: a sync of a fast disk up to one that is in trouble.
const DISK_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// From a millisecond to an hour: mail that waits for filing may have waited for a restart.
const WAIT_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0];

#[derive(Debug)]
pub(super) struct Handles {
    pub registry: Registry,
    pub process: Process,
    pub mailboxes: Mailboxes,
    pub outbox: Outbox,
    pub relays: Relays,
    pub mails: IntCounterVec,
    pub rejects: IntCounterVec,
    pub deferred: IntCounterVec,
    pub accepted: IntCounterVec,
    pub accepted_bytes: IntCounterVec,
    pub accept_seconds: Histogram,
    pub filing_seconds: Histogram,
    pub verdicts: IntCounterVec,
    pub spool_mails: IntGauge,
    pub spool_bytes: IntGauge,
    pub spool_oldest: Gauge,
    pub sessions_open: IntGaugeVec,
    pub sessions: IntCounterVec,
    pub smtp_refusals: IntCounterVec,
    pub log_syncs: IntCounter,
    pub log_records: IntCounter,
    pub log_bytes: IntCounter,
    pub log_sync_seconds: Counter,
    pub damaged_records: IntGauge,
    pub last_flush: Gauge,
    pub index_commits: IntCounter,
    pub index_commit_seconds: Counter,
    pub store_bytes: IntGauge,
    pub free_bytes: IntGauge,
    pub log_segments: IntGauge,
    pub healthy: IntGauge,
    pub ready: IntGauge,
    pub config_reloads: IntCounterVec,
    pub config_reloaded_at: Gauge,
    pub certificate_expires: GaugeVec,
}

impl Handles {
    pub fn new() -> Self {
        let maker = Maker { registry: Registry::new() };
        let m = &maker;
        let handles = Self {
            mails: m.counters("mails_total", "Mails by door and by what became of them.", &["door", "outcome"]),
            rejects: m.counters("rejects_total", "Mails refused, rejected, dropped or quarantined.", &["reason"]),
            deferred: m.counters("mails_deferred_total", "Mails turned away for now (452, 451).", &["door", "cause"]),
            accepted: m.counters("mails_accepted_total", "Mails that stand synced in the log.", &["door"]),
            accepted_bytes: m.counters("mails_accepted_bytes_total", "Bytes of accepted mails.", &["door"]),
            accept_seconds: m.histogram("accept_seconds", "End of data until the mail is synced.", DISK_BUCKETS),
            filing_seconds: m.histogram("filing_seconds", "Acceptance until the mail is filed.", WAIT_BUCKETS),
            verdicts: m.counters("auth_verdicts_total", "SPF, DKIM, DMARC and ARC verdicts.", &["method", "verdict"]),
            spool_mails: m.gauge("spool_mails", "Mails accepted and not filed yet."),
            spool_bytes: m.gauge("spool_bytes", "Bytes of mails accepted and not filed yet."),
            spool_oldest: m.float("spool_oldest_age_seconds", "How long the oldest spooled mail has waited."),
            sessions_open: m.gauges("smtp_sessions_open", "SMTP sessions open now.", &["listener"]),
            sessions: m.counters("smtp_sessions_total", "SMTP sessions since the start.", &["listener"]),
            smtp_refusals: m.counters("smtp_refusals_total", "Connections, commands and data refused.", &["kind"]),
            log_syncs: m.counter("log_syncs_total", "Syncs of the accept log, each for a group of records."),
            log_records: m.counter("log_records_total", "Records that those syncs made durable."),
            log_bytes: m.counter("log_bytes_total", "Bytes appended to the accept log."),
            damaged_records: m.gauge("log_damaged_records", "Records of the log that could not be read."),
            log_sync_seconds: m.seconds("log_sync_seconds_total", "Time spent in those syncs."),
            last_flush: m.float("last_flush_timestamp_seconds", "When the log was last synced successfully."),
            index_commits: m.counter("index_commits_total", "Steps committed to the index."),
            index_commit_seconds: m.seconds("index_commit_seconds_total", "Time spent writing to the index's files."),
            store_bytes: m.gauge("store_bytes", "Bytes that the data directory takes on disk."),
            free_bytes: m.gauge("store_free_bytes", "Bytes free on the data directory's file system."),
            log_segments: m.gauge("log_segments", "Segment files of the accept log."),
            healthy: m.gauge("healthy", "Whether /healthz answers 200."),
            ready: m.gauge("ready", "Whether /readyz answers 200: mail is accepted."),
            config_reloads: m.counters("config_reloads_total", "Reloads of the configuration.", &["result"]),
            config_reloaded_at: m.float("config_last_reload_timestamp_seconds", "When a reload last succeeded."),
            certificate_expires: m.floats(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate in use expires.",
                &["name"],
            ),
            process: Process::new(m),
            mailboxes: Mailboxes::new(m),
            outbox: Outbox::new(m),
            relays: Relays::new(m),
            registry: maker.registry.clone(),
        };
        maker.build_info();
        handles.start_at_zero();
        handles
    }

    /// Makes every series exist, so that rates and alerts see the first increase.
    fn start_at_zero(&self) {
        for door in DOORS {
            self.accepted.with_label_values(&[door]);
            self.accepted_bytes.with_label_values(&[door]);
            OUTCOMES.iter().for_each(|outcome| drop(self.mails.with_label_values(&[door, outcome])));
            ["full", "trouble"].iter().for_each(|cause| drop(self.deferred.with_label_values(&[door, cause])));
        }
        let singles = [
            (&self.rejects, REASONS),
            (&self.smtp_refusals, SMTP_REFUSALS),
            (&self.config_reloads, &["applied", "refused"]),
        ];
        for (vector, words) in singles {
            words.iter().for_each(|word| drop(vector.with_label_values(&[word])));
        }
        for method in AUTH_METHODS {
            VERDICTS.iter().for_each(|verdict| drop(self.verdicts.with_label_values(&[method, verdict])));
        }
    }
}

/// Makes metrics and registers them.
pub(super) struct Maker {
    registry: Registry,
}

impl Maker {
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(opts(name, help)))
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(opts(name, help)))
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    pub fn float(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(opts(name, help)))
    }

    pub fn floats(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(opts(name, help), labels))
    }

    fn seconds(&self, name: &str, help: &str) -> Counter {
        self.add(Counter::with_opts(opts(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
        self.add(Histogram::with_opts(opts))
    }

    fn build_info(&self) {
        let info =
            opts("build_info", "Always 1; the version that runs.").const_label("version", env!("CARGO_PKG_VERSION"));
        self.add(IntGauge::with_opts(info)).set(1);
    }

    /// Registers what was made. All names are literals of this program, so a refusal is a mistake that the first test
    /// of this file shows, and no state that a running daemon could meet.
    pub fn add<M: Collector + Clone + 'static>(&self, made: prometheus::Result<M>) -> M {
        let register = |metric: M| self.registry.register(Box::new(metric.clone())).map(|()| metric);
        made.and_then(register).unwrap_or_else(|error| panic!("a metric has a wrong or double name: {error}"))
    }
}

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("ticketgate")
}
