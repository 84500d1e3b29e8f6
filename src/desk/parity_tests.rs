//! Parity as a table: entries of a channel, and what is said of its two ways.

use super::*;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + minutes * 60).unwrap()
}

/// An entry by `door[!id] [=seq]` at a minute: `!` has no ticket, `=` repeats an entry.
fn entry(seq: u64, text: &str, minutes: i64) -> EntryRow {
    let (text, duplicate_of) = match text.split_once('=') {
        Some((text, of)) => (text, of.parse::<u64>().ok()),
        None => (text, None),
    };
    let (door, id, ticket) = match text.split_once('!') {
        Some((door, id)) => (door, id.to_owned(), None),
        None => (text, format!("{seq}@x"), Some(seq)),
    };
    serde_json::from_value(serde_json::json!({
        "seq": seq, "id": format!("e{seq}"), "kind": "inbound", "filing": "opened", "reason": null, "ticket": ticket,
        "channel": "a@x", "queue": "q", "received_at": at(minutes), "filed_at": at(minutes), "mail": null, "rcpt_to": [],
        "message_id": id, "matched_by": null, "needs_review": false, "related": null, "duplicate_of": duplicate_of,
        "also_seen": [], "size": 1, "sha256": "", "from": "a", "subject": "s".repeat(200), "author": null, "note": null,
        "door": door, "trace": []
    }))
    .unwrap()
}

#[test]
fn what_came_which_way_and_what_follows() {
    let week = 7 * 24 * 60;
    // Twelve mails both ways, the mailbox a minute behind.
    let pairs = |from: u64| {
        (0..12).flat_map(move |n| {
            let (first, minutes) = (from + n * 2, n as i64 * 10);
            [entry(first, "smtp", minutes), entry(first + 1, &format!("imap={first}"), minutes + 1)]
        })
    };
    let with = |more: Vec<EntryRow>| pairs(1).chain(more).collect::<Vec<_>>();
    let (long, short) = (at(week + 100), at(1000));
    let connected = Some(at(-10));
    // Entries, the time, since when the mailbox is there, cut; then both, by forwarding, by mailbox, pending, and why.
    let table = [
        (with(vec![]), long, connected, false, (12, 0, 0, 0), "forwarding can be switched off: in 7 days all 12"),
        (with(vec![entry(90, "imap", 200)]), long, connected, false, (12, 0, 1, 0), "can be switched off"),
        (
            with(vec![entry(90, "smtp", 200)]),
            long,
            connected,
            false,
            (12, 1, 0, 0),
            "keep forwarding: 1 mail came by forw",
        ),
        (with(vec![entry(90, "smtp", week + 90)]), long, connected, false, (12, 0, 0, 1), "can be switched off"),
        (with(vec![]), short, connected, false, (12, 0, 0, 0), "7 days are needed"),
        (with(vec![]), long, connected, true, (12, 0, 0, 0), "only the newest 50000 entries"),
        (with(vec![]), long, None, false, (12, 0, 0, 0), "no mailbox"),
        (vec![entry(1, "smtp", 0), entry(2, "imap=1", 0)], long, connected, false, (1, 0, 0, 0), "10 are needed"),
        // Rejected both ways; what was forwarded before the mailbox was there says nothing.
        (
            with(vec![entry(90, "smtp!r@x", 200), entry(91, "imap!r@x", 201)]),
            long,
            connected,
            false,
            (13, 0, 0, 0),
            "can be",
        ),
        (with(vec![entry(90, "smtp", -20)]), long, connected, false, (12, 0, 0, 0), "can be switched off"),
    ];
    for (mut rows, now, connected_at, cut, want, said) in table {
        rows.reverse();
        let span = Span { since: at(-60), now, connected_at };
        let parity = report(rows.iter(), &span, cut);
        let got = (parity.both, parity.only_forwarded_count, parity.only_connector_count, parity.pending);
        assert_eq!(got, want, "{said}: {parity:?}");
        assert!(
            parity.verdict.contains(said)
                && parity.can_switch_off == said.starts_with("can") | said.starts_with("forw")
        );
    }
    let rows: Vec<EntryRow> = with((100..350).map(|n| entry(n, "smtp", 300 + n as i64)).collect());
    let parity = report(rows.iter().rev(), &Span { since: at(0), now: long, connected_at: connected }, false);
    assert_eq!((parity.only_forwarded.len(), parity.only_forwarded_count), (100, 250));
    assert_eq!(
        (parity.only_forwarded[0].entry.as_str(), parity.only_forwarded[0].subject.chars().count()),
        ("e349", 81)
    );
    assert_eq!((parity.lag_median, parity.lag_most), (Some(60), Some(60)));
}
