//! What senders of mail hear of it: reports that are owed with the commit that settles a mail, written once, and sent.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ticketgate::desk::reports::{Accepted, Config, Unasked, Word};
use ticketgate::desk::{Desk, Reporter};
use ticketgate::filing::LoopsConfig;
use ticketgate::mail::Class;
use ticketgate::mail::message::{self, BounceKind, Limits, Summary};
use ticketgate::mail::origin::OriginKind;
use ticketgate::mail::{Envelope, MailId};
use ticketgate::metrics::Metrics;
use ticketgate::relay::{Kind, RelayConfig};
use ticketgate::store::rows::{DeliveryState, EntryRow};
use ticketgate::store::{OutgoingMeta, OutgoingRecipient, Settled, SettledRecipient, Suppress, Told};
use ticketgate::ticket::letter::Letters;

use super::{House, Peer, QUESTION, SUPPORT, address, sandbox, smtp, until};

const CRM: &str = "crm@shop.example";

impl House {
    fn reporter(&self, config: Config) -> Reporter {
        Reporter {
            desk: Desk::new(self.store().clone(), self.clock.clone(), Limits::default()),
            directory: Arc::clone(&self.directory),
            letters: Arc::new(ArcSwap::from_pointee(Letters::default())),
            config: Arc::new(ArcSwap::from_pointee(config)),
            host: "desk.example.com".into(),
            metrics: Metrics::new(),
        }
    }

    /// A program hands a mail in; each recipient with its NOTIFY.
    async fn submit(
        &self,
        from: Option<&str>,
        to: &[(&str, Option<&str>)],
        change: impl FnOnce(&mut OutgoingMeta),
    ) -> EntryRow {
        let unique = MailId::fresh(self.clock.now());
        let text =
            format!("From: {SUPPORT}\nMessage-ID: <{unique}@shop.example>\nSubject: Order\n\nIt is on its way.\n");
        let recipient = |(to, notify): &(&str, Option<&str>)| OutgoingRecipient {
            address: address(to),
            notify: notify.map(str::to_owned),
            orcpt: notify.map(|_| format!("rfc822;{to}")),
        };
        let recipients: Vec<OutgoingRecipient> = to.iter().map(recipient).collect();
        let rcpt_to = recipients.iter().map(|one| one.address.clone()).collect();
        let mut meta =
            OutgoingMeta { author: "crm".into(), recipients, envid: Some("E+2B1".into()), ..OutgoingMeta::default() };
        change(&mut meta);
        let envelope = Envelope { mail_from: from.map(address), rcpt_to };
        self.spool(envelope, OriginKind::Submission, Some(meta), &text).await;
        self.file().await.pop().unwrap()
    }

    /// Writes what is owed, and files it.
    async fn tell(&self) -> Vec<EntryRow> {
        self.reporter(Config::default()).write(&mut Accepted::new()).await.unwrap();
        self.file().await
    }

    fn text(&self, entry: &EntryRow) -> String {
        let stored = self.store().mail(entry.mail.unwrap()).unwrap();
        String::from_utf8(stored.body.read().unwrap().into_owned()).unwrap()
    }

    fn read(&self, entry: &EntryRow) -> Summary {
        message::parse(self.text(entry).as_bytes(), &Limits::default()).unwrap().summary()
    }

    /// Waits until reports about so many recipients are owed.
    async fn owed(&self, count: usize) {
        let reports = || self.store().reports(100).unwrap();
        until(|| format!("{:#?}", reports()), || reports().len() == count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_once_with_all_recipients_that_failed_together() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    let to = [("bad1@example.net", None), ("ok@example.net", None), ("bad2@example.net", Some("FAILURE"))];
    let mail = house.submit(Some(CRM), &to, |_| {}).await;
    house.until(&mail, &[DeliveryState::Failed, DeliveryState::Relayed, DeliveryState::Failed]).await;
    let owed = house.store().reports(9).unwrap();
    assert_eq!(owed.iter().map(|row| (row.n, row.asked)).collect::<Vec<_>>(), [(0, false), (2, true)]);
    assert_eq!(owed[0].event, owed[1].event, "one report for both");
    let told = house.tell().await;
    let [report] = told.as_slice() else { panic!("one report: {told:#?}") };
    let row = house.store().outbox_row(report.seq).unwrap().unwrap();
    assert_eq!((row.sender, row.class, row.ticket), (None, Class::Automatic, None));
    assert_eq!(report.rcpt_to, [CRM]);
    let summary = house.read(report);
    let bounce = summary.bounce.unwrap();
    assert_eq!((bounce.kind, bounce.original_message_id.as_deref()), (BounceKind::Failed, mail.message_id.as_deref()));
    let addresses: Vec<_> = bounce.recipients.iter().map(|one| (one.address.as_str(), one.status.as_deref())).collect();
    assert_eq!(addresses, [("bad1@example.net", Some("5.1.1")), ("bad2@example.net", Some("5.1.1"))]);
    let text = house.text(report);
    for line in [
        "Reporting-MTA: dns; desk.example.com",
        "Original-Envelope-Id: E+1",
        "Original-Recipient: rfc822; bad2@example.net",
        "Remote-MTA: dns; [127.0.0.1]",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user",
        "Auto-Submitted: auto-replied",
        "Subject: Order",
    ] {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} in {text}");
    }
    // It leaves like any mail, and nothing more is owed.
    house.until(report, &[DeliveryState::Relayed]).await;
    assert_eq!(peer.count(CRM), 1);
    assert!(peer.heard.lock().unwrap().iter().any(|line| line.starts_with("MAIL FROM:<>")));
    assert!(house.tell().await.is_empty() && house.store().reports(9).unwrap().is_empty());
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_hear_what_they_have_asked_for_and_no_more() {
    let (mute, telling) = (Peer::start().await, Peer::offering("250-DSN\r\n").await);
    let direct = |name: &str, port| RelayConfig { kind: Kind::Direct, host: None, security: None, ..smtp(name, port) };
    let relays = vec![
        smtp("mute", mute.port),
        smtp("telling", telling.port),
        sandbox("box"),
        direct("direct mute", mute.port),
        direct("direct telling", telling.port),
    ];
    let mut house = House::new(relays);
    house.start(false);
    house.receive(Some("ann@example.net"), QUESTION).await;
    let (ok, bad) = ("ok@example.net", "bad@example.net");
    let (ok_there, bad_there) = ("ok@[127.0.0.1]", "bad@[127.0.0.1]");
    // Relay, sender, ticket, recipient, NOTIFY; what is told.
    type Case<'a> = (&'a str, Option<&'a str>, Option<u64>, &'a str, Option<&'a str>, Option<&'a str>);
    let table: [Case<'_>; 19] = [
        ("mute", Some(CRM), None, bad, None, Some("failed")),
        ("mute", Some(CRM), None, bad, Some("FAILURE,DELAY"), Some("failed")),
        ("mute", Some(CRM), None, bad, Some("NEVER"), None),
        ("mute", Some(CRM), None, bad, Some("SUCCESS"), None),
        ("mute", Some(CRM), None, ok, None, None),
        ("mute", Some(CRM), None, ok, Some("SUCCESS"), Some("relayed")),
        ("telling", Some(CRM), None, ok, Some("SUCCESS,FAILURE"), None),
        ("telling", Some(CRM), None, bad, Some("SUCCESS,FAILURE"), Some("failed")),
        ("box", Some(CRM), None, ok, Some("SUCCESS"), Some("delivered")),
        ("box", Some(CRM), None, ok, None, None),
        ("direct mute", Some(CRM), None, ok_there, Some("SUCCESS"), Some("relayed")),
        ("direct telling", Some(CRM), None, ok_there, Some("SUCCESS"), None),
        ("direct telling", Some(CRM), None, bad_there, None, Some("failed")),
        ("mute", None, None, bad, None, None),
        ("mute", None, None, bad, Some("FAILURE"), None),
        ("mute", Some(CRM), Some(1), bad, None, None),
        ("mute", Some(CRM), Some(1), bad, Some("FAILURE"), Some("failed")),
        ("mute", Some(SUPPORT), Some(1), bad, Some("FAILURE"), None),
        ("mute", Some(SUPPORT), None, ok, Some("FAILURE"), None),
    ];
    for (n, (relay, sender, ticket, to, notify, want)) in table.into_iter().enumerate() {
        // Each to an address of its own, so that none is suppressed.
        let to = to.replace('@', &format!("{n}@"));
        let mail = house
            .submit(sender, &[(&to, notify)], |meta| (meta.relay, meta.ticket) = (Some(relay.into()), ticket))
            .await;
        let end = if to.starts_with("bad") { DeliveryState::Failed } else { DeliveryState::Relayed };
        house.until(&mail, &[end]).await;
        let told = house.tell().await;
        let texts: Vec<String> = told.iter().map(|entry| house.text(entry)).collect();
        let action =
            |text: &String| text.split("\r\nAction: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        let got: Vec<String> = texts.iter().map(action).collect();
        assert_eq!(got, want.map(str::to_owned).into_iter().collect::<Vec<_>>(), "row {n}");
        assert!(house.store().reports(9).unwrap().is_empty(), "row {n}");
        let takes_part = house.store().ticket(1).unwrap().unwrap().participants.contains(&CRM.to_owned());
        assert!(!takes_part, "row {n}: whoever is told takes no part in the ticket");
    }
    // The server that reports itself was handed the wishes.
    let heard = telling.heard.lock().unwrap().join("\n");
    assert!(heard.contains("ENVID=E+2B1") && heard.contains("NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ok6@"), "{heard}");
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_decides_what_is_told_unasked() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    let config = |default_notify: &[Unasked]| Config { default_notify: default_notify.to_vec(), ..Config::default() };
    for (unasked, notify, want) in
        [(&[Unasked::Failure][..], None, 1), (&[Unasked::Delay], None, 0), (&[], None, 0), (&[], Some("FAILURE"), 1)]
    {
        let to = format!("bad{}{}@example.net", unasked.len(), MailId::fresh(house.clock.now()));
        let mail = house.submit(Some(CRM), &[(&to, notify)], |_| {}).await;
        house.until(&mail, &[DeliveryState::Failed]).await;
        house.reporter(config(unasked)).write(&mut Accepted::new()).await.unwrap();
        assert_eq!(house.file().await.len(), want, "{unasked:?} {notify:?}");
        assert!(house.store().reports(9).unwrap().is_empty());
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_mail_is_told_of_and_then_its_end() {
    let peer = Peer::start().await;
    peer.busy.lock().unwrap().push("busy".into());
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    let mail = house.submit(Some(CRM), &[("busy@example.net", None)], |meta| meta.ret = Some("FULL".into())).await;
    house.until(&mail, &[DeliveryState::Delayed]).await;
    assert!(house.tell().await.is_empty(), "a first attempt is no news");
    house.pass(4 * 3600);
    house.owed(1).await;
    let told = house.tell().await;
    let text = house.text(&told[0]);
    // By an attempt, or because its server has asked for a pause.
    assert!(text.contains("\r\nAction: delayed\r\nStatus: 4."), "{text}");
    assert!(text.contains("\r\nWill-Retry-Until: Mon, 23 Nov 2026 11:06:40 +0000\r\n"), "{text}");
    assert!(text.contains("text/rfc822-headers") && !text.contains("on its way"), "only a failure returns the mail");
    // The server's pause is over.
    house.pass(120);
    house.until(&told[0], &[DeliveryState::Relayed]).await;
    // At its end it is given up.
    house.pass(5 * 24 * 3600);
    house.until(&mail, &[DeliveryState::Failed]).await;
    house.owed(1).await;
    let told = house.tell().await;
    let text = house.text(&told[0]);
    assert!(text.contains("\r\nAction: failed\r\nStatus: 4.4.7\r\n"), "{text}");
    assert!(text.contains("Content-Type: message/rfc822") && text.contains("It is on its way."), "{text}");
    assert_eq!(house.read(&told[0]).bounce.unwrap().kind, BounceKind::Failed);
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_never_had_its_turn_is_told_of_as_well() {
    // There is no relay at all.
    let mut house = House::new(vec![]);
    house.start(false);
    let mail = house.submit(Some(CRM), &[("ann@example.net", None), ("bob@example.net", Some("NEVER"))], |_| {}).await;
    house.pass(4 * 3600 + 60);
    house.owed(1).await;
    let told = house.tell().await;
    assert!(house.text(&told[0]).contains("\r\nAction: delayed\r\n"));
    house.pass(5 * 24 * 3600);
    house.until(&mail, &[DeliveryState::Failed, DeliveryState::Failed]).await;
    house.owed(1).await;
    let told = house.tell().await;
    let text = house.text(&told[0]);
    assert!(text.contains("Diagnostic-Code: x-ticketgate; given up: ") && !text.contains("Remote-MTA"), "{text}");
    house.stop().await;
}

/// Mails that have failed for the first `recipients` of each, in one commit.
fn fail(house: &House, mails: &[EntryRow], recipients: u32) {
    let one = |n| SettledRecipient {
        n,
        state: DeliveryState::Failed,
        told: Some(Told::failed("5.1.1", "no such user")),
        ..SettledRecipient::default()
    };
    let of = |mail: &EntryRow| Settled {
        seq: mail.seq,
        at: house.clock.now(),
        recipients: (0..recipients).map(one).collect(),
        ..Settled::default()
    };
    let settled: Vec<Settled> = mails.iter().map(of).collect();
    let suppress = Suppress { after: 0, within: jiff::SignedDuration::from_hours(1) };
    house.store().step(|step| step.settle(&settled, suppress)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reports_share_their_syncs() {
    const MANY: usize = 150;
    let house = House::new(vec![]);
    let mut mails = Vec::new();
    for n in 0..MANY {
        let to = format!("bad{n}@example.net");
        mails.push(house.submit(Some(CRM), &[(to.as_str(), None)], |_| {}).await);
    }
    fail(&house, &mails, 1);
    let before = house.store().stats();
    house.reporter(Config::default()).write(&mut Accepted::new()).await.unwrap();
    let after = house.store().stats();
    assert_eq!((after.records - before.records) as usize, MANY);
    assert!(after.syncs - before.syncs <= MANY as u64 / 4, "{} syncs", after.syncs - before.syncs);
    while !house.file().await.is_empty() {}
    assert!(house.store().reports(9).unwrap().is_empty());
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_nobody_wants_go_in_one_commit() {
    let house = House::new(vec![]);
    let to: Vec<String> = (0..150).map(|n| format!("bad{n}@example.net")).collect();
    let to: Vec<(&str, Option<&str>)> = to.iter().map(|to| (to.as_str(), None)).collect();
    for _ in 0..3 {
        let mail = house.submit(Some(CRM), &to, |_| {}).await;
        fail(&house, &[mail], 150);
    }
    let before = house.store().stats().commits;
    let silent = Config { default_notify: Vec::new(), ..Config::default() };
    house.reporter(silent).write(&mut Accepted::new()).await.unwrap();
    assert!(house.store().reports(9).unwrap().is_empty());
    assert_eq!(house.store().stats().commits - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn death_in_between_loses_no_report_and_doubles_none() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    let mail = house.submit(Some(CRM), &[("bad@example.net", None)], |_| {}).await;
    house.until(&mail, &[DeliveryState::Failed]).await;
    house.stop().await;
    // Settled, and nothing written.
    house.restart_store();
    assert_eq!(house.store().reports(9).unwrap().len(), 1);
    // Written, and not filed: after the death nobody knows of it, and it is written again.
    house.reporter(Config::default()).write(&mut Accepted::new()).await.unwrap();
    house.restart_store();
    assert_eq!(house.store().reports(9).unwrap().len(), 1);
    house.reporter(Config::default()).write(&mut Accepted::new()).await.unwrap();
    let told = house.file().await;
    let filings: Vec<&str> = told.iter().map(|row| row.filing.as_str()).collect();
    assert_eq!(filings, ["relayed", "duplicate"]);
    assert_eq!(told[0].message_id, told[1].message_id);
    assert!(house.tell().await.is_empty());
    house.restart_store();
    assert!(house.tell().await.is_empty());
    house.start(false);
    house.until(&told[0], &[DeliveryState::Relayed]).await;
    assert_eq!(peer.count(CRM), 1);
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_delivered_is_told_to_nobody() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    let mail = house.submit(Some("bad@shop.example"), &[("bad@example.net", Some("FAILURE"))], |_| {}).await;
    house.until(&mail, &[DeliveryState::Failed]).await;
    let told = house.tell().await;
    house.until(&told[0], &[DeliveryState::Failed]).await;
    assert!(house.store().reports(9).unwrap().is_empty());
    assert!(house.tell().await.is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_address_that_sends_gets_a_ticket_and_no_mail() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    let mail = house.submit(Some(SUPPORT), &[("bad@example.net", None)], |_| {}).await;
    house.until(&mail, &[DeliveryState::Failed]).await;
    let told = house.tell().await;
    let [report] = told.as_slice() else { panic!("{told:#?}") };
    assert_eq!((report.filing.as_str(), report.channel.as_str(), report.ticket), ("opened", SUPPORT, Some(1)));
    assert_eq!(house.store().outbox_row(report.seq).unwrap(), None, "nothing leaves");
    assert_eq!(house.read(report).bounce.unwrap().kind, BounceKind::Failed);
    assert!(house.store().acknowledgements(9).unwrap().is_empty(), "and nothing is answered");
    assert!(house.store().reports(9).unwrap().is_empty());
    // The address is not counted as having failed a second time.
    let failures = house.store().suppressions(ticketgate::store::Every::Failure, 9).unwrap();
    assert_eq!(failures[0].failures, 1);
    assert_eq!(house.kinds().iter().filter(|kind| *kind == "mail_failed").count(), 1);
    // After a death before its word was taken back it would be written again, the same, and be known.
    let again = house.text(report).replace("\r\n", "\n");
    let envelope = Envelope { mail_from: None, rcpt_to: vec![address(SUPPORT)] };
    house.spool(envelope, OriginKind::Api, None, &again).await;
    assert_eq!(house.file().await.pop().unwrap().filing, "duplicate");
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_of_a_report_filed_here_is_taken_back_after_trouble() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    for (word, owed) in [(Word::IsOurs, 0), (Word::GoesWithFiling, 1)] {
        let to = format!("bad{owed}@example.net");
        let mail = house.submit(Some(SUPPORT), &[(&to, None)], |_| {}).await;
        house.until(&mail, &[DeliveryState::Failed]).await;
        let row = house.store().reports(9).unwrap().pop().unwrap();
        // It was accepted in a turn before.
        let mut accepted = Accepted::from([((row.seq, row.event), word)]);
        house.reporter(Config::default()).write(&mut accepted).await.unwrap();
        assert_eq!(house.store().reports(9).unwrap().len(), owed, "{word:?}");
        assert!(house.file().await.is_empty(), "{word:?}: and it is not written again");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reports_to_one_program_are_no_loop() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    let brakes = LoopsConfig { per_recipient: vec![(10, 2)], ..LoopsConfig::default() };
    house.loops.store(Arc::new(brakes.loops()));
    house.start(false);
    let held = |house: &House, mail: &EntryRow| house.recipients(mail).iter().any(|to| to.brake.is_some());
    for n in 0..4 {
        let mail = house.submit(Some(CRM), &[(&format!("bad{n}@example.net"), None)], |_| {}).await;
        house.until(&mail, &[DeliveryState::Failed]).await;
        let told = house.tell().await;
        assert!(!held(&house, &told[0]), "report {n}");
    }
    // Nor does other mail to that address wait for them; it is counted by itself.
    for want in [false, false, true] {
        let mail = house.send(&[CRM], |_| {}).await;
        assert_eq!(held(&house, &mail), want);
    }
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_suppressed_is_told_of() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    for _ in 0..3 {
        let mail = house.submit(Some(CRM), &[("bad@example.net", Some("NEVER"))], |_| {}).await;
        house.until(&mail, &[DeliveryState::Failed]).await;
    }
    let mail = house.submit(Some(CRM), &[("bad@example.net", None), (SUPPORT, None)], |_| {}).await;
    house.until(&mail, &[DeliveryState::Suppressed, DeliveryState::Filtered]).await;
    let told = house.tell().await;
    let bounce = house.read(&told[0]).bounce.unwrap();
    let got: Vec<_> = bounce.recipients.iter().map(|one| (one.address.as_str(), one.status.as_deref())).collect();
    assert_eq!(got, [("bad@example.net", Some("5.7.1"))]);
    house.stop().await;
}
