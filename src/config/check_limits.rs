//! The numbers of the doors, of verification and of the admin socket: each has a range in which it makes sense.
//!
//! What is too small for the SMTP doors their own room says.

use std::time::Duration;

use super::Config;
use super::check::Checker;
use crate::units::{show_bytes, show_duration};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// More connections, mails or commands than any machine has in one of these places.
const MANY: u64 = 1_000_000;
const LARGEST_MAIL: u64 = 1 << 30;

impl Checker<'_> {
    pub(super) fn limits(&mut self, config: &Config) {
        for (path, given, least, most) in counts(config) {
            self.range(path, given, (least, most), |count| count.to_string());
        }
        for (path, given, most) in sizes(config) {
            if given > most {
                let wrong = format!("{} is out of range", show_bytes(given));
                self.wrong(path, &wrong, &format!("write at most {}", show_bytes(most)));
            }
        }
        for (path, given, least, most) in waits(config) {
            self.range(path, given, (least, most), show_duration);
        }
    }
}

/// The key, what is given, the least and the most.
fn counts(config: &Config) -> [(&'static [&'static str], u64, u64, u64); 17] {
    let (smtp, submission, verify) = (&config.smtp, &config.submission, &config.verify);
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    [
        (&["smtp", "max_connections"], count(smtp.max_connections), 0, MANY),
        (&["smtp", "max_connections_per_peer"], count(smtp.max_connections_per_peer), 0, MANY),
        (&["smtp", "max_mails_per_minute"], smtp.max_mails_per_minute.into(), 0, MANY),
        (&["smtp", "max_commands"], smtp.max_commands.into(), 0, MANY),
        (&["smtp", "max_bad_commands"], smtp.max_bad_commands.into(), 0, MANY),
        (&["smtp", "max_recipients"], count(smtp.max_recipients), 0, 10_000),
        (&["smtp", "max_command_line"], count(smtp.max_command_line), 0, 64 << 10),
        (&["submission", "max_connections"], count(submission.max_connections), 0, MANY),
        (&["submission", "max_connections_per_peer"], count(submission.max_connections_per_peer), 0, MANY),
        (&["submission", "max_mails_per_minute"], submission.max_mails_per_minute.into(), 0, MANY),
        (&["submission", "max_recipients"], count(submission.max_recipients), 0, 10_000),
        (&["verify", "max_concurrent"], count(verify.max_concurrent), 1, 10_000),
        (&["verify", "max_signatures"], count(verify.max_signatures), 0, 100),
        // RFC 8617 section 4.2.1: a chain has at most 50.
        (&["verify", "max_arc_sets"], count(verify.max_arc_sets), 0, 50),
        (&["verify", "dns", "attempts"], count(verify.dns.attempts), 1, 10),
        (&["admin", "max_connections"], count(config.admin.max_connections), 1, 100_000),
        (&["submission", "max_failed_logins"], submission.max_failed_logins.into(), 1, MANY),
    ]
}

fn sizes(config: &Config) -> [(&'static [&'static str], u64, u64); 4] {
    let (smtp, submission) = (&config.smtp, &config.submission);
    [
        (&["smtp", "max_data_line"], smtp.max_data_line, LARGEST_MAIL),
        (&["smtp", "max_message_bytes"], smtp.max_message_bytes, LARGEST_MAIL),
        (&["submission", "max_message_bytes"], submission.max_message_bytes, LARGEST_MAIL),
        (&["verify", "max_body_bytes"], config.verify.max_body_bytes, LARGEST_MAIL),
    ]
}

fn waits(config: &Config) -> [(&'static [&'static str], Duration, Duration, Duration); 8] {
    let (smtp, verify) = (&config.smtp, &config.verify);
    let least = Duration::from_millis(10);
    [
        (&["smtp", "idle_timeout"], smtp.idle_timeout, Duration::ZERO, DAY),
        (&["smtp", "transaction_timeout"], smtp.transaction_timeout, Duration::ZERO, DAY),
        (&["smtp", "handshake_timeout"], smtp.handshake_timeout, Duration::ZERO, 60 * MINUTE),
        (&["smtp", "drain_timeout"], smtp.drain_timeout, Duration::ZERO, 10 * MINUTE),
        (&["verify", "timeout"], verify.timeout, least, 10 * MINUTE),
        (&["verify", "dns", "query_timeout"], verify.dns.query_timeout, least, MINUTE),
        (&["loops", "suppress_within"], config.loops.suppress_within, MINUTE, 3650 * DAY),
        (&["admin", "request_timeout"], config.admin.request_timeout, SECOND, 60 * MINUTE),
    ]
}
