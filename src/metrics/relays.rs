//! Metrics of the ways out. The label `relay` holds a name from the configuration, never a destination.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec};

use super::handles::{Maker, opts};
use super::{Metrics, RELAY_PROTECTIONS, RELAYED, known};

/// From a hundredth of a second to the time-out of a slow server.
const BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0];

#[derive(Debug)]
pub(super) struct Relays {
    recipients: IntCounterVec,
    connections: IntCounterVec,
    seconds: HistogramVec,
    survives: IntGaugeVec,
    lost: IntCounterVec,
}

impl Relays {
    pub fn new(m: &Maker) -> Self {
        let seconds = HistogramOpts {
            common_opts: opts("relay_attempt_seconds", "How long attempts to hand a mail on took."),
            buckets: BUCKETS.to_vec(),
        };
        Self {
            recipients: m.counters(
                "relay_recipients_total",
                "Recipients of attempts, by what became of them.",
                &["relay", "outcome"],
            ),
            connections: m.counters(
                "relay_connections_total",
                "Connections that relays made, by their protection.",
                &["relay", "protection"],
            ),
            seconds: m.add(HistogramVec::new(seconds, &["relay"])),
            survives: m.gauges(
                "relay_header_survives",
                "Whether a header field came home with the latest probe of a relay as it was written.",
                &["relay", "header"],
            ),
            lost: m.counters(
                "relay_header_losses_total",
                "Mails that left by a relay that loses a header field which they must carry.",
                &["relay", "header"],
            ),
        }
    }
}

impl Metrics {
    /// A relay was configured: its series exist from now on.
    pub fn relay(&self, relay: &str) {
        let relays = &self.0.relays;
        RELAYED.iter().for_each(|word| drop(relays.recipients.with_label_values(&[relay, word])));
        RELAY_PROTECTIONS.iter().for_each(|word| drop(relays.connections.with_label_values(&[relay, word])));
        drop(relays.seconds.with_label_values(&[relay]));
    }

    /// An attempt ended so for one of its recipients.
    pub fn relay_settled(&self, relay: &str, outcome: &str) {
        self.0.relays.recipients.with_label_values(&[relay, known(RELAYED, outcome)]).inc();
    }

    /// A connection was made, or could not be.
    pub fn relay_connected(&self, relay: &str, protection: &str) {
        self.0.relays.connections.with_label_values(&[relay, known(RELAY_PROTECTIONS, protection)]).inc();
    }

    /// An attempt took so long.
    pub fn relay_attempt_took(&self, relay: &str, took: Duration) {
        self.0.relays.seconds.with_label_values(&[relay]).observe(took.as_secs_f64());
    }

    /// What became of the header fields of the latest probes: relay, field, and whether it survived.
    pub fn headers_are(&self, fields: &[(String, String, bool)]) {
        let survives = &self.0.relays.survives;
        survives.reset();
        for (relay, header, kept) in fields {
            survives.with_label_values(&[relay, header]).set(i64::from(*kept));
        }
    }

    /// A mail left without a header field that it must carry.
    pub fn header_lost(&self, relay: &str, header: &str) {
        self.0.relays.lost.with_label_values(&[relay, header]).inc();
    }
}
