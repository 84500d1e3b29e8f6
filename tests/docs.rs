//! The documentation says what the program does: every reason is explained, every metric that is named exists.

use std::path::Path;

use ticketgate::accounts::Cause;
use ticketgate::mail::Reason;
use ticketgate::metrics::Metrics;

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

#[test]
fn every_reason_is_explained_once() {
    let page = page("troubleshoot.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` |", reason.code());
        assert_eq!(page.matches(&row).count(), 1, "{row} in docs/troubleshoot.md");
    }
}

#[test]
fn every_cause_of_a_failed_connection_is_explained_once() {
    let page = page("mailboxes.md");
    for cause in Cause::ALL {
        let row = format!("| `{}` |", cause.code());
        assert_eq!(page.matches(&row).count(), 1, "{row} in docs/mailboxes.md");
    }
}

#[test]
fn every_problem_of_the_status_is_explained_once() {
    let page = page("troubleshoot.md");
    let rooms = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
    let mut codes = Vec::new();
    for file in ["status.rs", "outbox_status.rs", "relays.rs", "upkeep.rs"] {
        let text = std::fs::read_to_string(rooms.join(file)).unwrap();
        let production = text.split("#[cfg(test)]").next().unwrap();
        for word in ["add(", "code: "] {
            let behind = production.split(word).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            codes.extend(behind.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    assert!(codes.len() > 15, "the rooms that tell problems: {codes:?}");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    for code in codes {
        let told =
            rows.iter().filter(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{code}`"))));
        assert_eq!(told.count(), 1, "{code} in docs/troubleshoot.md");
    }
}

#[test]
fn every_metric_that_is_named_exists() {
    let metrics = Metrics::new();
    // Series with a label that the configuration names exist from the moment it does.
    metrics.smtp_listener("smtp");
    metrics.certificate_expires("smtp", jiff::Timestamp::UNIX_EPOCH);
    metrics.relay("sandbox");
    // As those of a mailbox do once it is looked into.
    metrics.connection_state("support@localhost", "problem", Some("dns"));
    metrics.looked("support@localhost", jiff::Timestamp::UNIX_EPOCH);
    metrics.swept("support@localhost", 0);
    // As those of an account with a quota do once it sends.
    metrics.quota_left("smarthost", "support@localhost", "messages_day", 1);
    // As those of a relay do once it was probed, and loses something.
    metrics.headers_are(&[("smarthost".into(), "X-Mailer".into(), true)]);
    metrics.header_lost("smarthost", "X-Mailer");
    metrics.pulled("support@localhost", "unfetchable", 1);
    metrics.oauth_refreshed("support@localhost", "refreshed");
    metrics.credential_expires("support@localhost", Some(jiff::Timestamp::UNIX_EPOCH));
    let exposition = metrics.render();
    let page = page("metrics.md");
    let named: Vec<&str> = page
        .split(|c: char| !c.is_ascii_lowercase() && c != '_')
        .filter(|word| word.starts_with("ticketgate_") || word.starts_with("process_"))
        .collect();
    assert!(named.len() > 8, "the page names the metrics to watch");
    for name in named {
        let family = name.trim_end_matches("_bucket");
        assert!(exposition.contains(&format!("# TYPE {family} ")), "{name} in docs/metrics.md does not exist");
    }
}
