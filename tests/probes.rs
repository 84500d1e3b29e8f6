//! Probes of relays, the whole way: sent by the outbox to a scripted server that spoils header fields, come home by a
//! door, compared; and what mail does that must carry what a relay loses.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ticketgate::accounts::{Account, Accounts, Setup, State};
use ticketgate::clock::Clock;
use ticketgate::config::Config;
use ticketgate::desk::{Desk, ProbeOrder, ProbeState, Replies};
use ticketgate::filing;
use ticketgate::mail::message::Limits;
use ticketgate::mail::origin::OriginKind;
use ticketgate::mail::{Address, Envelope, MailId};
use ticketgate::metrics::Metrics;
use ticketgate::net::dns;
use ticketgate::outbox;
use ticketgate::relay::{LostHeaders, RelayConfig, Relays};
use ticketgate::shutdown;
use ticketgate::store::rows::{DeliveryState, EntryRow, FieldRow, ProbeHome, ProbeRow};
use ticketgate::store::{Delivery, OutgoingMeta, OutgoingRecipient, Store, Suppress};
use ticketgate::ticket::token::TokenKeys;

#[path = "support/dns.rs"]
mod stub;
use stub::{Answer, DnsServer};
#[path = "support/parts.rs"]
mod parts;
use parts::{origin, until};
#[path = "support/peer.rs"]
mod peer;
use peer::{Peer, smtp};

const SUPPORT: &str = "support@example.com";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A mail that a server took: its recipient, and its bytes as it hands them on.
type Taken = (String, String);

/// A field, and what stands there instead, if anything.
type Spoil = (&'static str, Option<&'static str>);

/// A server that leaves out header fields, or writes another value.
struct Spoiler {
    peer: Peer,
    spoils: &'static [Spoil],
}

impl Spoiler {
    async fn start(spoils: &'static [Spoil]) -> Self {
        Self { peer: Peer::start().await, spoils }
    }

    fn relay(&self, name: &str) -> RelayConfig {
        smtp(name, self.peer.port)
    }

    /// The next mail that it takes.
    async fn next(&self) -> Taken {
        until(|| "a mail arrives".into(), || !self.peer.taken.lock().unwrap().is_empty()).await;
        let mut mail = self.peer.taken.lock().unwrap().pop().unwrap();
        (mail.to.pop().unwrap(), spoiled(&mail.lines, self.spoils))
    }
}

fn spoiled(lines: &[String], spoils: &[Spoil]) -> String {
    let (mut text, mut leaves_out, mut head) = (String::from("Received: by spoiler\r\n"), false, true);
    for line in lines {
        head &= !line.is_empty();
        if head && !line.starts_with([' ', '\t']) {
            let spoil =
                spoils.iter().find(|(name, _)| line.to_lowercase().starts_with(&format!("{name}:").to_lowercase()));
            leaves_out = spoil.is_some();
            if let Some((name, Some(instead))) = spoil {
                text.push_str(&format!("{name}: {instead}\r\n"));
            }
        }
        if !(head && leaves_out) {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    text
}

/// A store with its filing, an outbox that runs, and somebody who probes.
struct Bed {
    store: Store,
    desk: Desk,
    replies: Replies,
    relays: Relays,
    accounts: Accounts,
    metrics: Metrics,
    keys: TokenKeys,
    triggers: Vec<shutdown::Trigger>,
    filing: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Bed {
    /// The channel leaves by the first relay, and the last one is the default.
    fn new(relays: Vec<RelayConfig>, names: &DnsServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.filing.interval = Duration::from_millis(1);
        config.channels[0].address = SUPPORT.into();
        config.channels[0].relay = Some(relays[0].name.clone());
        config.outbox.default_relay = relays.last().map(|relay| relay.name.clone());
        let clock = Clock::system();
        let store_config =
            ticketgate::store::Config { low_water_bytes: 0, ballast_bytes: 0, ..ticketgate::store::Config::default() };
        let (store, _) = Store::open(&dir.path().join("data"), &store_config, clock.clone()).unwrap();
        let keys = TokenKeys::new(vec![[7; 32]]);
        let directory = Arc::new(ArcSwap::from_pointee(config.directory()));
        let letters = Arc::new(ArcSwap::from_pointee(config.letters().unwrap()));
        let desk = Desk::new(store.clone(), clock.clone(), Limits::default());
        let limits = Arc::new(ArcSwap::from_pointee(config.replies.clone()));
        let replies = Replies::new(desk.clone(), Arc::clone(&directory), keys.clone(), Arc::clone(&letters), limits);
        let query_timeout = Duration::from_millis(300);
        let dns = dns::Config { name_servers: vec![names.address], query_timeout, attempts: 1 };
        let outbox = outbox::Worker {
            config: Arc::new(ArcSwap::from_pointee(config.outbox)),
            suppress: Arc::new(ArcSwap::from_pointee(Suppress { after: 0, within: jiff::SignedDuration::ZERO })),
            letters,
            ..parts::outbox(&store, dir.path(), &relays, dns, &directory, &clock)
        };
        let (relays, accounts, metrics) = (outbox.relays.clone(), outbox.accounts.clone(), outbox.metrics.clone());
        let worker = filing::Worker {
            store: store.clone(),
            directory,
            keys: keys.clone(),
            header_limit: config.intake.header_limit(),
            loops: Arc::new(ArcSwap::from_pointee(config.loops.loops())),
            config: config.filing,
            clock,
            metrics: metrics.clone(),
        };
        let (trigger, shutdown) = shutdown::channel();
        let runtime = tokio::runtime::Handle::current();
        let filing = std::thread::spawn(move || worker.run(&runtime, shutdown).unwrap());
        let (sending, until) = shutdown::channel();
        tokio::spawn(outbox.run(until));
        let triggers = vec![sending, trigger];
        Self { store, desk, replies, relays, accounts, metrics, keys, triggers, filing: Some(filing), _dir: dir }
    }

    fn config(&self, relay: &str) -> RelayConfig {
        self.relays.get(relay).unwrap().config().clone()
    }

    /// Sends a probe; its entry.
    async fn probe(&self, relay: &str) -> EntryRow {
        let order = ProbeOrder { channel: None, author: "eve".into(), peer: "uid 1".into() };
        self.replies.probe(&self.config(relay), order).await.unwrap();
        let sent = self.store.probe(relay).unwrap().unwrap().sent;
        self.store.entry(&sent.entry).unwrap().unwrap()
    }

    /// A mail comes in by a door; its entry.
    async fn receive(&self, kind: OriginKind, (to, text): &Taken) -> EntryRow {
        let envelope = Envelope { mail_from: None, rcpt_to: vec![address(to)] };
        self.spool(kind, envelope, vec![address(to)], None, text).await
    }

    /// A program hands in a mail to somebody; its entry.
    async fn submit(&self, to: &str, fields: &str, relay: Option<&str>) -> EntryRow {
        let text = format!("From: {SUPPORT}\r\nTo: {to}\r\nSubject: News\r\n{fields}\r\nIt prints.\r\n");
        let recipients = vec![OutgoingRecipient { address: address(to), notify: None, orcpt: None }];
        let relay = relay.map(str::to_owned);
        let meta = OutgoingMeta { author: "crm".into(), recipients, relay, ..OutgoingMeta::default() };
        let envelope = Envelope { mail_from: Some(address(SUPPORT)), rcpt_to: vec![address(to)] };
        self.spool(OriginKind::Submission, envelope, Vec::new(), Some(meta), &text).await
    }

    async fn spool(
        &self,
        kind: OriginKind,
        envelope: Envelope,
        rcpt_to: Vec<Address>,
        outgoing: Option<OutgoingMeta>,
        text: &str,
    ) -> EntryRow {
        let deliveries = vec![Delivery { channel: address(SUPPORT), rcpt_to }];
        let mail = parts::Arrival { at: Clock::system().now(), envelope, origin: origin(kind), deliveries, outgoing };
        let id = parts::spool(&self.store, mail, text.as_bytes()).await.to_string();
        let found = || self.store.entry(&id).unwrap();
        until(|| "it is filed".into(), || found().is_some()).await;
        found().unwrap()
    }

    /// A relay is probed, and the probe comes home.
    async fn probed(&self, name: &str, spoiler: &Spoiler) {
        self.probe(name).await;
        let home = self.receive(OriginKind::Smtp, &spoiler.next().await).await;
        assert_eq!(home.reason.as_deref(), Some("probe"), "{home:?}");
    }

    /// The recipient of a mail once it is relayed: by which relay, and what the trace says about its fields.
    async fn left(&self, entry: &EntryRow) -> (String, Vec<String>) {
        let to = || self.store.recipients(entry.seq, 0, 1).unwrap().remove(0);
        until(|| "it is relayed".into(), || to().state == DeliveryState::Relayed).await;
        let trace = self.store.entry(&entry.id).unwrap().unwrap().trace;
        let said = trace.into_iter().filter(|step| step.step == "fields").map(|step| step.said);
        (to().relay.unwrap(), said.collect())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.triggers.drain(..).for_each(|trigger| trigger.shut_down());
        let _ = self.filing.take().unwrap().join();
    }
}

const LOSSY: &[Spoil] = &[("Auto-Submitted", None), ("Message-ID", Some("<new@provider.example>"))];

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_comes_home_is_compared_and_becomes_no_ticket() {
    let (names, spoiler) = (DnsServer::start(&[]).await, Spoiler::start(LOSSY).await);
    let bed = Bed::new(vec![spoiler.relay("lossy")], &names);
    let sent = bed.probe("lossy").await;
    let view = || bed.desk.probe(&bed.config("lossy")).unwrap().unwrap();
    assert_eq!((sent.filing.as_str(), sent.ticket, view().state), ("relayed", None, ProbeState::UnderWay));
    let taken = spoiler.next().await;
    assert!(taken.0.starts_with("support+p"), "{}", taken.0);
    // By forwarding, and in the mailbox once more; the Message-ID has changed on the way.
    let home = bed.receive(OriginKind::Smtp, &taken).await;
    assert_eq!((home.filing.as_str(), home.reason.as_deref(), home.ticket), ("dropped", Some("probe"), None));
    assert!(home.trace[0].said.starts_with("the probe of relay \"lossy\" came home by smtp after"), "{:?}", home.trace);
    let again = bed.receive(OriginKind::Imap, &taken).await;
    assert_eq!(again.trace[0].said, "it is a probe of relay \"lossy\"; it came home before, by smtp");
    let shown = view();
    assert_eq!((shown.state, shown.said), (ProbeState::Home, None));
    let came = shown.row.home.unwrap();
    assert_eq!((came.entry.as_str(), came.door.as_str()), (sent.id.as_str(), "smtp"));
    let fates: Vec<(&str, &str)> = came.fields.iter().map(|field| (field.name.as_str(), field.fate.as_str())).collect();
    for (name, fate) in [
        ("Auto-Submitted", "dropped"),
        ("Message-ID", "changed"),
        ("X-Auto-Response-Suppress", "kept"),
        ("X-Mailer", "kept"),
        ("X-Ticketgate-From-Account-Id", "kept"),
        ("X-Ticketgate-Email-Id", "kept"),
        ("X-Zendesk-From-Account-Id", "kept"),
        ("X-Zendesk-Email-Id", "kept"),
        ("References", "kept"),
        ("In-Reply-To", "kept"),
        ("Reply-To", "kept"),
        ("From", "kept"),
    ] {
        assert!(fates.contains(&(name, fate)), "{name} {fate}: {fates:?}");
    }
    let of_sent = bed.store.entry(&sent.id).unwrap().unwrap().trace;
    assert!(
        of_sent.iter().any(|step| step.step == "probe" && step.said.contains("dropped Auto-Submitted")),
        "{of_sent:?}"
    );
    // It went to find out what is lost, so that nothing of it is lost.
    assert!(!bed.metrics.render().contains("ticketgate_relay_header_losses_total{"));
    assert!(bed.store.tickets(&ticketgate::store::TicketFilter { limit: 9, ..Default::default() }).unwrap().is_empty());
    let events = bed.store.events(0, 100).unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == "relay_probed").count(), 1);
    let report = bed.store.fsck(ticketgate::store::Depth::Deep).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_comes_home_by_the_mailbox_first_counts_as_one_that_did_not() {
    // The token comes home in the recipient's field, or in the Message-ID as well.
    const PLAIN: &[Spoil] = &[("Auto-Submitted", None)];
    for spoils in [LOSSY, PLAIN] {
        let (names, spoiler) = (DnsServer::start(&[]).await, Spoiler::start(spoils).await);
        let bed = Bed::new(vec![spoiler.relay("lossy")], &names);
        let sent = bed.probe("lossy").await;
        let taken = spoiler.next().await;
        // A mailbox knows nothing of the envelope.
        let envelope = Envelope { mail_from: None, rcpt_to: vec![address(SUPPORT)] };
        let home = bed.spool(OriginKind::Imap, envelope, Vec::new(), None, &taken.1).await;
        assert_eq!((home.filing.as_str(), home.reason.as_deref(), home.ticket), ("dropped", Some("probe"), None));
        assert!(home.trace[0].said.starts_with("the probe of relay \"lossy\" came home by imap after"), "{home:?}");
        let view = || bed.desk.probe(&bed.config("lossy")).unwrap().unwrap();
        let came = view().row.home.unwrap();
        assert_eq!(
            (view().state, came.entry.as_str(), came.door.as_str()),
            (ProbeState::Home, sent.id.as_str(), "imap")
        );
        let dropped = |field: &&FieldRow| field.fate == "dropped";
        let dropped: Vec<&str> = came.fields.iter().filter(dropped).map(|field| field.name.as_str()).collect();
        assert_eq!(dropped, ["Auto-Submitted"]);
        // What forwarding brings later is the same one, however it was spoilt on that way.
        let again = bed.receive(OriginKind::Smtp, &(taken.0, spoiled_again(&taken.1))).await;
        assert_eq!(again.trace[0].said, "it is a probe of relay \"lossy\"; it came home before, by imap");
        assert_eq!(view().row.home.unwrap(), came);
        let events = bed.store.events(0, 100).unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == "relay_probed").count(), 1);
    }
}

/// The mail after one more server that leaves something out.
fn spoiled_again(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    spoiled(&lines, &[("X-Mailer", None)])
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_probe_of_our_own_reaches_an_address_of_ours() {
    let (names, spoiler) = (DnsServer::start(&[]).await, Spoiler::start(&[]).await);
    let bed = Bed::new(vec![spoiler.relay("smart")], &names);
    let sent = bed.probe("smart").await;
    let (to, text) = spoiler.next().await;
    let id = sent.message_id.clone().unwrap();
    let forged = bed.keys.sign_probe(MailId(42)).unwrap();
    // A program that has seen a probe, or makes one up, or knows a key that is not ours, has its mail filtered.
    let fields = [
        format!("Message-ID: <{id}>\r\n"),
        format!("Message-ID: <{forged}.x@example.com>\r\n"),
        "Message-ID: <p0000000000000-0000000000000000.x@example.com>\r\n".to_owned(),
    ];
    for field in fields {
        for to in [to.as_str(), SUPPORT] {
            let mail = bed.submit(to, &field, Some("smart")).await;
            let recipient = bed.store.recipients(mail.seq, 0, 1).unwrap().remove(0);
            assert_eq!(recipient.state, DeliveryState::Filtered, "{field} {to}");
        }
    }
    // None of them took the place of the probe that is under way.
    assert_eq!(bed.store.probe("smart").unwrap().unwrap().sent.entry, sent.id);
    // Whoever answers it, and a server that reports about it, open no ticket either.
    let back = text.split("Reply-To: <").nth(1).unwrap().split('>').next().unwrap().to_owned();
    let answer = "From: Ann <ann@example.net>\r\nSubject: Re: what is that?\r\nMessage-ID: <a@b.example>\r\n\r\n?\r\n"
        .to_owned();
    let row = bed.receive(OriginKind::Smtp, &(back.clone(), answer)).await;
    assert_eq!((row.filing.as_str(), row.trace[0].said.as_str()), ("dropped", "it answers a probe of relay \"smart\""));
    let report = format!(
        "From: MAILER-DAEMON@mx.example\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n\
         Final-Recipient: rfc822; {to}\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 nobody\r\n\r\n\
         --b\r\nContent-Type: message/rfc822-headers\r\n\r\nMessage-ID: <{id}>\r\n\r\n--b--\r\n"
    );
    let row = bed.receive(OriginKind::Smtp, &(back, report)).await;
    assert_eq!((row.filing.as_str(), row.reason.as_deref()), ("dropped", Some("probe")), "{row:?}");
    let view = bed.desk.probe(&bed.config("smart")).unwrap().unwrap();
    assert_eq!((view.state, view.said.unwrap().contains("5.1.1")), (ProbeState::Failed, true));
    assert_eq!(bed.store.recipients(sent.seq, 0, 1).unwrap()[0].reported.as_deref(), Some("failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_avoids_a_relay_that_loses_what_it_carries() {
    let permits = ("example.com", Answer::Txt("v=spf1 ip4:127.0.0.1 -all".into()));
    let refuses = ("example.com", Answer::Txt("v=spf1 ip4:192.0.2.1 -all".into()));
    let machine = "Auto-Submitted: auto-generated\r\nX-Zendesk-Email-Id: 1\r\n";
    // What DNS permits, the setting, whether the other relay is probed, header fields, the relay that is asked for; the
    // relay that the mail leaves by, what is said, and whether a loss is counted.
    let avoid = LostHeaders::Avoid;
    type Case = (bool, LostHeaders, bool, &'static str, Option<&'static str>, &'static str, &'static str, bool);
    let table: [Case; 7] = [
        (
            true,
            avoid,
            true,
            machine,
            None,
            "good",
            "relay \"lossy\" loses Auto-Submitted; it leaves by \"good\"",
            false,
        ),
        (true, avoid, true, "X-Zendesk-Email-Id: 1\r\n", None, "lossy", "", false),
        (true, avoid, true, machine, Some("lossy"), "lossy", "and somebody asked for that relay", true),
        (true, LostHeaders::Count, true, machine, None, "lossy", "and its lost_headers is \"count\"", true),
        (true, avoid, false, machine, None, "lossy", "and no other relay that it may leave by is known", true),
        (false, avoid, true, machine, None, "lossy", "and no other relay that it may leave by is known", true),
        (true, avoid, true, machine, Some("good"), "good", "", false),
    ];
    for (may, lost_headers, both, fields, asked, relay, said, counted) in table {
        let names = DnsServer::start(&[if may { permits.clone() } else { refuses.clone() }]).await;
        let (lossy, good) = (Spoiler::start(LOSSY).await, Spoiler::start(&[]).await);
        let bed = Bed::new(vec![RelayConfig { lost_headers, ..lossy.relay("lossy") }, good.relay("good")], &names);
        bed.probed("lossy", &lossy).await;
        if both {
            bed.probed("good", &good).await;
        }
        let mail = bed.submit("ann@example.net", fields, asked).await;
        let (by, told) = bed.left(&mail).await;
        assert_eq!(by, relay, "{fields} {told:?}");
        assert_eq!(told.len(), usize::from(!said.is_empty()), "{told:?}");
        assert!(told.iter().all(|told| told.contains(said)), "{told:?}");
        let series = "ticketgate_relay_header_losses_total{header=\"Auto-Submitted\",relay=\"lossy\"} 1";
        if counted {
            until(|| "the loss is counted".into(), || bed.metrics.render().contains(series)).await;
        } else {
            assert!(!bed.metrics.render().contains("ticketgate_relay_header_losses_total{"), "{fields}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_to_another_relay_while_an_account_is_disconnected() {
    let names = DnsServer::start(&[]).await;
    let (lossy, good) = (Spoiler::start(LOSSY).await, Spoiler::start(&[]).await);
    let owner = "hub@example.com";
    // It logs in with the account of another channel than the one that sends.
    let of_hub = RelayConfig { account: Some(owner.into()), ..lossy.relay("lossy") };
    let bed = Bed::new(vec![of_hub, good.relay("good")], &names);
    let accounts = vec![Account::with_password(address(owner), "hub", "imap.example.com")];
    bed.accounts.configure(Setup { accounts, ..Setup::default() });
    bed.probed("good", &good).await;
    let entry = bed.store.entry(&bed.store.probe("good").unwrap().unwrap().sent.entry).unwrap().unwrap();
    let fields = vec![FieldRow { name: "Auto-Submitted".into(), fate: "dropped".into(), got: None }];
    let home = Some(ProbeHome { entry: entry.id.clone(), fields, ..ProbeHome::default() });
    let row = ProbeRow { relay: "lossy".into(), home, ..ProbeRow::default() };
    bed.store.step(|step| step.probed(row, &entry, "it came home", Clock::system().now())).unwrap();
    let machine = "Auto-Submitted: auto-generated\r\n";
    let moves = bed.submit("ann@example.net", machine, None).await;
    assert_eq!(bed.left(&moves).await.0, "good");
    bed.accounts.show(&address(owner), |connection| connection.state = State::Disconnected);
    let waits = bed.submit("ann@example.net", machine, None).await;
    let goes = bed.submit("bob@example.net", machine, Some("good")).await;
    assert_eq!(bed.left(&goes).await.0, "good");
    let to = bed.store.recipients(waits.seq, 0, 1).unwrap().remove(0);
    assert_eq!((to.state, to.attempts), (DeliveryState::Queued, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_probed_as_often_as_it_wants() {
    let (names, spoiler) = (DnsServer::start(&[]).await, Spoiler::start(&[]).await);
    let every = RelayConfig { probe_every: Duration::from_secs(3600), ..spoiler.relay("often") };
    let bed = Bed::new(vec![every, spoiler.relay("never")], &names);
    for _ in 0..3 {
        bed.replies.probe_due(&bed.relays).await;
    }
    let taken = spoiler.next().await;
    assert!(taken.1.contains("\r\n\"often\". ticketgate sent it"), "{}", taken.1);
    assert!(bed.store.probe("often").unwrap().is_some() && bed.store.probe("never").unwrap().is_none());
    assert_eq!(bed.store.entries(0, 100).unwrap().len(), 1, "one of three looks found it due");
}
