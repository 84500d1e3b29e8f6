//! Metrics of mailboxes that are pulled. The label `channel` holds a configured support address, never a customer's.

use jiff::Timestamp;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::handles::Maker;
use super::{CONNECTION_STATES, Metrics, PULLED, REFRESHES, known, seconds, signed};

#[derive(Debug)]
pub(super) struct Mailboxes {
    state: IntGaugeVec,
    problem: IntGaugeVec,
    mails: IntCounterVec,
    looks: IntCounterVec,
    looked_at: GaugeVec,
    waiting: IntGaugeVec,
    vanished: IntCounterVec,
    unaccounted: IntGaugeVec,
    labels_owed: IntGaugeVec,
    credential_expires: GaugeVec,
    refreshes: IntCounterVec,
}

impl Mailboxes {
    pub fn new(m: &Maker) -> Self {
        Self {
            state: m.gauges("connection_state", "1 for the state that a connection is in.", &["channel", "state"]),
            problem: m.gauges("connection_problem", "1 while a connection has this problem.", &["channel", "cause"]),
            mails: m.counters("mailbox_mails_total", "Mails seen in a mailbox, by their end.", &["channel", "state"]),
            looks: m.counters("mailbox_looks_total", "Looks into a mailbox.", &["channel", "result"]),
            looked_at: m.floats(
                "mailbox_last_look_timestamp_seconds",
                "When a mailbox was last looked into successfully.",
                &["channel"],
            ),
            waiting: m.gauges("mailbox_waiting_mails", "Mails that the rate has not let through yet.", &["channel"]),
            vanished: m.counters(
                "mailbox_vanished_uids_total",
                "UIDs under which no mail was ever seen: at most so many mails came and went between two looks.",
                &["channel"],
            ),
            unaccounted: m.gauges(
                "mailbox_unaccounted_mails",
                "Mails that the last sweep found without a row in the ledger.",
                &["channel"],
            ),
            labels_owed: m.gauges("mailbox_labels_owed", "Labels not yet set on the server.", &["channel"]),
            credential_expires: m.floats(
                "credential_expires_timestamp_seconds",
                "When the credential of a mailbox dies, as far as that is known.",
                &["channel"],
            ),
            refreshes: m.counters("oauth_refreshes_total", "Access tokens asked for.", &["channel", "outcome"]),
        }
    }
}

impl Metrics {
    /// A connection is in a new state, with the code of its problem if it has one.
    pub fn connection_state(&self, channel: &str, state: &str, problem: Option<&str>) {
        let mailboxes = &self.0.mailboxes;
        for word in CONNECTION_STATES {
            mailboxes.state.with_label_values(&[channel, word]).set(i64::from(*word == state));
        }
        // Series of problems that are over go away, so that the list stays as short as the problems are.
        if let Some(cause) = problem {
            mailboxes.problem.with_label_values(&[channel, cause]).set(1);
        }
        for family in prometheus::core::Collector::collect(&mailboxes.problem) {
            for metric in family.get_metric() {
                let value =
                    |name: &str| metric.get_label().iter().find(|l| l.name() == name).map(|l| l.value().to_owned());
                if let (Some(whose), Some(cause)) = (value("channel"), value("cause"))
                    && whose == channel
                    && problem != Some(cause.as_str())
                {
                    let _ = mailboxes.problem.remove_label_values(&[channel, &cause]);
                }
            }
        }
    }

    /// So many mails of a mailbox reached a state of the ledger.
    pub fn pulled(&self, channel: &str, state: &str, mails: u64) {
        self.0.mailboxes.mails.with_label_values(&[channel, known(PULLED, state)]).inc_by(mails);
    }

    /// At most so many mails came and went between two looks.
    pub fn vanished(&self, channel: &str, uids: u64) {
        self.0.mailboxes.vanished.with_label_values(&[channel]).inc_by(uids);
    }

    /// A mailbox was looked into.
    pub fn looked(&self, channel: &str, now: Timestamp) {
        self.0.mailboxes.looks.with_label_values(&[channel, "done"]).inc();
        self.0.mailboxes.looked_at.with_label_values(&[channel]).set(seconds(now));
    }

    /// A mailbox could not be looked into.
    pub fn look_failed(&self, channel: &str) {
        self.0.mailboxes.looks.with_label_values(&[channel, "failed"]).inc();
    }

    /// How many mails wait for the rate.
    pub fn mails_waiting(&self, channel: &str, mails: u64) {
        self.0.mailboxes.waiting.with_label_values(&[channel]).set(signed(mails));
    }

    /// How many labels are owed on the server.
    pub fn labels_owed(&self, channel: &str, mails: u64) {
        self.0.mailboxes.labels_owed.with_label_values(&[channel]).set(signed(mails));
    }

    /// What a sweep has found.
    pub fn swept(&self, channel: &str, unaccounted: u64) {
        self.0.mailboxes.unaccounted.with_label_values(&[channel]).set(signed(unaccounted));
    }

    /// When the credential of a mailbox dies; None where that is not known, or not to be expected.
    pub fn credential_expires(&self, channel: &str, at: Option<Timestamp>) {
        match at {
            Some(at) => self.0.mailboxes.credential_expires.with_label_values(&[channel]).set(seconds(at)),
            // It need not be there.
            None => drop(self.0.mailboxes.credential_expires.remove_label_values(&[channel])),
        }
    }

    /// An access token was asked for: `refreshed`, `kept` (trouble, and the old one still works), `failed`, `dead`.
    pub fn oauth_refreshed(&self, channel: &str, outcome: &str) {
        for word in REFRESHES {
            self.0.mailboxes.refreshes.with_label_values(&[channel, word]);
        }
        self.0.mailboxes.refreshes.with_label_values(&[channel, known(REFRESHES, outcome)]).inc();
    }
}
