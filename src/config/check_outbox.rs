//! The checks of `[outbox]`, `[loops]` and the relays that channels name.

use std::time::Duration;

use super::Config;
use super::check::Checker;
use super::read::meant;
use crate::relay::Kind;
use crate::ticket::loops::{LONGEST, Limit, Pattern};
use crate::units::{count, show_bytes, show_duration};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Checker<'_> {
    pub(super) fn outbox(&mut self, config: &Config) {
        let outbox = &config.outbox;
        if let Some(name) = &outbox.default_relay {
            self.names_relay(config, &["outbox", "default_relay"], name);
        }
        if let Some(name) = &outbox.sandbox {
            let path = ["outbox", "sandbox"];
            self.names_relay(config, &path, name);
            if config.relays.iter().any(|relay| relay.name == *name && relay.kind != Kind::Maildir) {
                let wrong = format!("relay \"{name}\" sends mail to people");
                self.wrong(&path, &wrong, "name a [[relay]] of kind = \"maildir\"");
            }
        }
        for (index, channel) in config.channels.iter().enumerate() {
            let at = index.to_string();
            for (key, name) in [("relay", &channel.relay), ("attachments_relay", &channel.attachments_relay)] {
                if let Some(name) = name {
                    self.names_relay(config, &["channel", &at, key], name);
                }
            }
        }
        let waits = &outbox.retry_waits;
        let wrong = if waits.is_empty() || waits.len() > 50 {
            Some(format!("it has {}", count(waits.len(), "wait", "waits")))
        } else {
            let odd = waits.iter().find(|wait| !(MINUTE / 60..=DAY).contains(*wait));
            odd.map(|wait| format!("{} is out of range", show_duration(*wait)))
        };
        if let Some(wrong) = wrong {
            let advice = "write 1 to 50 durations of 1s to 1d each, such as [\"1m\", \"5m\"]";
            self.wrong(&["outbox", "retry_waits"], &wrong, advice);
        }
        let durations = [
            ("give_up", outbox.give_up, MINUTE, DAY * 28),
            ("give_up_automatic", outbox.give_up_automatic, MINUTE, DAY * 28),
            ("delayed_notice", outbox.delayed_notice, MINUTE, DAY * 28),
            ("rest_first", outbox.rest_first, MINUTE / 60, DAY),
            ("rest_most", outbox.rest_most, outbox.rest_first, DAY),
            ("keep_keys", outbox.keep_keys, MINUTE * 60, DAY * 365),
            ("drain_timeout", outbox.drain_timeout, Duration::ZERO, MINUTE * 10),
        ];
        for (key, given, least, most) in durations {
            self.range(&["outbox", key], given, (least, most), show_duration);
        }
        self.range(&["outbox", "concurrency"], outbox.concurrency, (1, 10_000), |count| count.to_string());
        self.range(&["outbox", "memory_bytes"], outbox.memory_bytes, (1 << 20, 4 << 30), show_bytes);
    }

    fn names_relay(&mut self, config: &Config, path: &[&str], name: &str) {
        if config.relays.iter().any(|relay| relay.name == name) {
            return;
        }
        let known = config.relays.iter().map(|relay| relay.name.as_str());
        let advice = meant(name, known, "add a [[relay]] with this name");
        self.wrong(path, &format!("there is no relay \"{name}\""), &advice);
    }

    pub(super) fn loops(&mut self, config: &Config) {
        let loops = &config.loops;
        for text in &loops.never_send_to {
            if let Err(said) = Pattern::parse(text) {
                let wrong = format!("\"{text}\" is not a pattern: {said}");
                self.wrong(&["loops", "never_send_to"], &wrong, "write local@domain, *@domain or local@*");
            }
        }
        let limits = [
            ("per_ticket_and_recipient", &loops.per_ticket_and_recipient),
            ("per_recipient", &loops.per_recipient),
            ("overall", &loops.overall),
        ];
        let good = |(minutes, mails): &Limit| (1..=LONGEST).contains(minutes) && *mails > 0;
        for (key, limits) in limits {
            let wrong = match limits.iter().find(|limit| !good(limit)) {
                Some((minutes, mails)) => format!("[{minutes}, {mails}] is out of range"),
                None if limits.len() > 20 => format!("{} limits are too many, 20 are the most", limits.len()),
                None => continue,
            };
            let advice = format!(
                "write pairs of minutes, 1 to {LONGEST}, and mails, 1 or more, such as [[10, 30]]; [] is no brake"
            );
            self.wrong(&["loops", key], &wrong, &advice);
        }
    }
}
