//! Metrics of mail that leaves. Labels hold names of relays and support addresses of the configuration, never others.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::handles::Maker;
use super::{Metrics, TOLD, known, signed};

#[derive(Debug)]
pub(super) struct Outbox {
    mails: IntGauge,
    due: IntGauge,
    running: IntGauge,
    held: IntGauge,
    oldest: Gauge,
    quota_left: IntGaugeVec,
    brake_trips: IntCounter,
    brakes: IntGauge,
    suppressed: IntGauge,
    told: IntCounterVec,
}

impl Outbox {
    pub fn new(m: &Maker) -> Self {
        let outbox = Self {
            mails: m.gauge("outbox_mails", "Mails that wait for an attempt."),
            due: m.gauge("outbox_due_mails", "Mails whose next attempt is due and waits for its turn."),
            running: m.gauge("outbox_running_attempts", "Attempts that are under way."),
            held: m.gauge("outbox_held_mails", "Mails that a person or a loop brake holds; at most 1000 are counted."),
            oldest: m.float("outbox_oldest_age_seconds", "How long the oldest mail that waits has waited."),
            quota_left: m.gauges(
                "quota_remaining",
                "What is left of a quota window of an account.",
                &["relay", "channel", "window"],
            ),
            brake_trips: m.counter("loop_brake_trips_total", "Recipients that a loop brake has held."),
            brakes: m.gauge("loop_brakes_tripped", "Loop brakes that have tripped and wait for a person."),
            suppressed: m.gauge("suppressed_addresses", "Addresses on the suppression list."),
            told: m.counters("sender_reports_total", "Recipients that reports to senders are about.", &["action"]),
        };
        TOLD.iter().for_each(|action| drop(outbox.told.with_label_values(&[action])));
        outbox
    }
}

impl Metrics {
    /// How much waits, is due, and is under way.
    pub fn outbox_is(&self, mails: u64, due: u64, running: u64) {
        self.0.outbox.mails.set(signed(mails));
        self.0.outbox.due.set(signed(due));
        self.0.outbox.running.set(signed(running));
    }

    /// For how long the oldest mail has waited.
    pub fn outbox_oldest(&self, age: std::time::Duration) {
        self.0.outbox.oldest.set(age.as_secs_f64());
    }

    /// What is held, which brakes have tripped, and how many addresses are suppressed.
    pub fn outbox_keeps(&self, held: u64, brakes: u64, suppressed: u64) {
        self.0.outbox.held.set(signed(held));
        self.0.outbox.brakes.set(signed(brakes));
        self.0.outbox.suppressed.set(signed(suppressed));
    }

    /// What is left of a quota window.
    pub fn quota_left(&self, relay: &str, channel: &str, window: &str, left: u64) {
        self.0.outbox.quota_left.with_label_values(&[relay, channel, window]).set(signed(left));
    }

    /// The sender of a mail is told what became of it for one recipient.
    pub fn sender_told(&self, action: &str) {
        self.0.outbox.told.with_label_values(&[known(TOLD, action)]).inc();
    }

    /// A brake has held mail to so many recipients.
    pub fn brake_held(&self, recipients: u64) {
        self.0.outbox.brake_trips.inc_by(recipients);
    }
}
