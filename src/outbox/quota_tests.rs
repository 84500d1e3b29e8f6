//! The windows as tables, and days of sending through them.

use std::collections::BTreeMap;

use super::*;
use crate::relay::Preset;

fn of(preset: Preset) -> QuotaRules {
    QuotaRules::of(preset).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

/// The windows after a restart: nothing but what was kept.
fn restarted(windows: &mut Windows, kept: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Windows {
    for (name, value) in windows.changes() {
        match value {
            Some(value) => {
                assert!(value.len() <= 4000, "a page of {} bytes", value.len());
                kept.insert(name, value);
            }
            None => drop(kept.remove(&name)),
        }
    }
    Windows::restore(kept.clone())
}

#[test]
fn a_mail_counts_from_its_answer_on() {
    let rules = of(Preset::Exchange);
    let (mut windows, load) = (Windows::default(), Load { bytes: 5, recipients: &[1] });
    (0..10).for_each(|_| windows.note(at(0), load));
    // The server was slow: it may have counted any of them just before it answered.
    (0..10).for_each(|n| windows.answered(at(0), at(4 + n % 2), load));
    assert_eq!(windows.remaining(&rules, at(5)).messages_per_minute, Some(0));
    assert_eq!(windows.may(&rules, at(60), load), May::Until(at(64), "messages a minute"));
    assert_eq!(windows.may(&rules, at(64), load), May::Yes);
    // One that took longer than the window takes nothing from those that came later.
    windows.answered(at(-400), at(70), load);
    assert_eq!(windows.remaining(&rules, at(70)).bytes_per_five_minutes, Some(50_000_000 - 55));
}

#[test]
fn each_window_says_until_when() {
    let rules = QuotaRules {
        mails_per_minute: Some(3),
        bytes_per_5_minutes: Some(1000),
        recipients_per_day: Some(4),
        mails_per_day: Some(6),
        ..of(Preset::Exchange)
    };
    let mut windows = Windows::default();
    let send = |windows: &mut Windows, second, bytes, recipients: &[u64]| {
        windows.note(at(second), Load { bytes, recipients });
    };
    send(&mut windows, 0, 100, &[1]);
    send(&mut windows, 1, 100, &[2]);
    let may = |windows: &Windows, second, bytes, recipients: &[u64]| {
        windows.may(&rules, at(second), Load { bytes, recipients })
    };
    assert_eq!(may(&windows, 2, 800, &[1, 2, 3, 4]), May::Yes);
    assert_eq!(may(&windows, 2, 801, &[1]), May::Until(at(300), "bytes in 5 minutes"));
    // Larger than the limit by itself: it goes when the window is empty.
    assert_eq!(may(&windows, 2, 5000, &[1]), May::Until(at(301), "bytes in 5 minutes"));
    assert_eq!(may(&windows, 301, 5000, &[1]), May::Yes);
    assert_eq!(may(&windows, 2, 1, &[3, 4, 5]), May::Until(at(86_400), "recipients in 24 hours"));
    send(&mut windows, 2, 1, &[1]);
    assert_eq!(may(&windows, 3, 1, &[1]), May::Until(at(60), "messages a minute"));
    windows.take_back(at(2), Load { bytes: 1, recipients: &[1] });
    assert_eq!(may(&windows, 3, 1, &[1]), May::Yes);
    for second in [100, 200, 300, 400] {
        send(&mut windows, second, 1, &[1]);
    }
    assert!(windows.is_near(&rules, at(401)));
    let left = windows.remaining(&rules, at(401));
    assert_eq!((left.messages_per_day, left.recipients_per_day), (Some(0), Some(2)));
    // Five minutes are one slot, which ends when its last mail does.
    assert!(matches!(may(&windows, 401, 1, &[1]), May::Until(until, "messages in 24 hours") if until >= at(86_400)));
}

#[test]
fn the_provider_is_right_and_its_word_survives_a_restart() {
    // What it says, how long it asks for, what is waited the first and the second time.
    let table = [
        ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", None, [60, 120]),
        ("450 4.2.1 too fast", None, [60, 120]),
        ("421 4.7.0 try again later", Some(Duration::from_secs(7)), [7, 7]),
        ("429 Retry-After", Some(Duration::from_secs(90)), [90, 90]),
        ("550 5.4.5 Daily user sending quota exceeded", None, [3600, 3600]),
        ("550 5.1.90 you've reached your daily limit", None, [3600, 3600]),
    ];
    for (said, asked, [first, second]) in table {
        let (mut windows, mut kept) = (Windows::default(), BTreeMap::new());
        assert_eq!(windows.refused(at(0), said, asked), at(first), "{said}");
        let mut windows = restarted(&mut windows, &mut kept);
        let load = Load { bytes: 1, recipients: &[] };
        let rules = of(Preset::Workspace);
        assert_eq!(windows.may(&rules, at(1), load), May::Until(at(first), "what the provider said"));
        assert_eq!(windows.is_near(&rules, at(1)), said.starts_with("550"));
        assert_eq!(windows.remaining(&rules, at(1)).messages_per_day, Some(0));
        assert_eq!(windows.may(&rules, at(first), load), May::Yes);
        assert_eq!(windows.refused(at(first), said, asked), at(first + second), "{said}");
        windows.accepted(at(first + second));
        assert_eq!(windows.full(at(first + second)), None);
        assert!(restarted(&mut windows, &mut kept).full.is_none());
    }
}

/// Days of sending as fast as the windows allow, with restarts: no window of any place in time holds too much, and
/// no more than the width of a slot is lost.
#[test]
fn no_window_is_ever_over_its_limit_in_days_of_sending() {
    let presets = [
        ("exchange", QuotaRules { recipients_per_day: Some(700), ..of(Preset::Exchange) }, 2),
        ("gmail", of(Preset::Gmail), 3),
        ("workspace", of(Preset::Workspace), 3),
    ];
    for (name, rules, days) in presets {
        let (mut windows, mut kept) = (Windows::default(), BTreeMap::new());
        let mut sent: Vec<(Timestamp, u64, u64)> = Vec::new();
        let (mut now, mut dice) = (at(0), 0x9e37_79b9_7f4a_7c15u64);
        while now < at(days * 86_400) {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (bytes, recipient) = ((dice >> 33) % 9_000_000, (dice >> 20) % 5_000);
            let recipients = [recipient];
            let load = Load { bytes, recipients: &recipients };
            match windows.may(&rules, now, load) {
                May::Yes => {
                    windows.note(now, load);
                    sent.push((now, bytes, recipient));
                    // Now and then nobody sends for a while.
                    let pause = if dice.is_multiple_of(97) { 200_000 } else { (dice >> 40) as i64 % 900 };
                    now = now.checked_add(SignedDuration::from_millis(pause)).unwrap();
                }
                May::Until(until, _) => {
                    assert!(until > now);
                    now = until;
                }
            }
            if dice.is_multiple_of(31) {
                windows = restarted(&mut windows, &mut kept);
            }
        }
        check(name, &rules, &sent);
    }
}

fn check(name: &str, rules: &QuotaRules, sent: &[(Timestamp, u64, u64)]) {
    let within = |from: usize, window: SignedDuration| {
        let start = sent[from].0;
        sent[from..].iter().take_while(move |(at, ..)| at.duration_since(start) < window)
    };
    for from in 0..sent.len() {
        let minute = within(from, MINUTE).count() as u64;
        assert!(rules.mails_per_minute.is_none_or(|most| minute <= most), "{name}: {minute} in a minute");
        let bytes: u64 = within(from, FIVE_MINUTES).map(|(_, bytes, _)| bytes).sum();
        assert!(rules.bytes_per_5_minutes.is_none_or(|most| bytes <= most), "{name}: {bytes} bytes");
    }
    for from in (0..sent.len()).step_by(41) {
        let day = within(from, DAY).count() as u64;
        assert!(rules.mails_per_day.is_none_or(|most| day <= most), "{name}: {day} in a day");
        let who: BTreeSet<u64> = within(from, DAY).map(|(.., who)| *who).collect();
        assert!(rules.recipients_per_day.is_none_or(|most| who.len() as u64 <= most), "{name}: {} who", who.len());
    }
    // What the narrowest window allows is used: nothing is lost but the width of a slot.
    if let Some(most) = rules.mails_per_day {
        let days = sent[sent.len() - 1].0.duration_since(sent[0].0).as_hours() as u64 / 24 + 1;
        assert!(sent.len() as u64 >= most * days * 98 / 100, "{name}: {} in {days} days", sent.len());
    }
}
