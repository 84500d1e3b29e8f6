//! The exposition as a scraper sees it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ticketgate::mail::Reason;
use ticketgate::mail::auth::Verdict;
use ticketgate::metrics::{self, Deferral, Health, Metrics, ReloadResult, StoreTotals};

/// A registry in which everything has happened once.
fn busy() -> Metrics {
    let metrics = Metrics::new();
    let now = jiff::Timestamp::from_second(1_795_000_000).unwrap();
    let took = Duration::from_millis(3);
    metrics.mail_accepted("smtp", 1000, Some(took));
    metrics.mail_refused("smtp", "too_large");
    metrics.mail_filed("smtp", "opened", None, took);
    metrics.mail_filed("smtp", "quarantined", Some("too_deep"), took);
    metrics.mail_deferred("smtp", Deferral::Full);
    metrics.verified("dkim", "pass");
    metrics.spool_is(3, 4096, took);
    metrics.smtp_listener("forward");
    metrics.smtp_connection_opened("forward");
    metrics.smtp_refused("relay");
    metrics.smtp_refused("a word that nobody listed");
    metrics.store_did(&StoreTotals { records: 7, last_flush: Some(now), ..StoreTotals::default() });
    metrics.store_is(1, 2, 3);
    metrics.health_is(Health::Good, Health::Bad);
    metrics.config_reloaded(ReloadResult::Applied, now);
    metrics.certificate_expires("forward", now);
    metrics
}

#[test]
fn promtool_finds_nothing_to_say() {
    let mut promtool = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        // Without promtool the other tests of this file still hold names and series.
        Err(_) => return,
    };
    promtool.stdin.take().unwrap().write_all(busy().render().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn what_happened_is_what_a_scraper_reads() {
    let text = busy().render();
    let wanted = [
        "ticketgate_mails_accepted_total{door=\"smtp\"} 1",
        "ticketgate_mails_accepted_bytes_total{door=\"smtp\"} 1000",
        "ticketgate_mails_total{door=\"smtp\",outcome=\"opened\"} 1",
        "ticketgate_mails_total{door=\"smtp\",outcome=\"refused\"} 1",
        "ticketgate_rejects_total{reason=\"too_deep\"} 1",
        "ticketgate_mails_deferred_total{cause=\"full\",door=\"smtp\"} 1",
        "ticketgate_auth_verdicts_total{method=\"dkim\",verdict=\"pass\"} 1",
        "ticketgate_spool_oldest_age_seconds 0.003",
        "ticketgate_smtp_sessions_open{listener=\"forward\"} 1",
        "ticketgate_smtp_refusals_total{kind=\"other\"} 1",
        "ticketgate_log_records_total 7",
        "ticketgate_last_flush_timestamp_seconds 1795000000",
        "ticketgate_healthy 1",
        "ticketgate_ready 0",
        "ticketgate_config_reloads_total{result=\"applied\"} 1",
        "ticketgate_tls_certificate_expiry_timestamp_seconds{name=\"forward\"} 1795000000",
        concat!("ticketgate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ];
    for line in wanted {
        assert!(text.lines().any(|have| have == line), "{line} is missing from\n{text}");
    }
}

#[test]
fn every_series_with_a_known_label_exists_before_anything_happened() {
    let text = Metrics::new().render();
    for reason in Reason::ALL {
        let line = format!("ticketgate_rejects_total{{reason=\"{reason}\"}} 0");
        assert!(text.contains(&line), "{line} is missing: metrics::REASONS lacks it");
    }
    for verdict in ["none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror"] {
        assert!(metrics::VERDICTS.contains(&verdict) && Verdict::from_word(verdict).as_str() == verdict);
    }
    for name in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
        assert!(text.contains(&format!("\n{name} ")), "{name}");
    }
}
