//! Mail that leaves, the whole way: accepted into the log, filed, sent by real relays (a Maildir, and a scripted SMTP
//! server on loopback), settled. The clock stands still until a test moves it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use ticketgate::accounts::{Account, Accounts, Setup, State};
use ticketgate::clock::Clock;
use ticketgate::filing::{self, Loops};
use ticketgate::mail::origin::OriginKind;
use ticketgate::mail::{Address, Class, Envelope, MailId};
use ticketgate::metrics::Metrics;
use ticketgate::net::dns;
use ticketgate::outbox::{self, Board};
use ticketgate::relay::{GiveWay, Kind, QuotaConfig, RelayConfig};
use ticketgate::shutdown;
use ticketgate::store::rows::{DeliveryState, EntryKind, EntryRow, OutboxState, RecipientRow, SourceRow, Wanted};
use ticketgate::store::{self, Delivery, OutboxOrder, OutgoingMeta, OutgoingRecipient, Store, StoreError};
use ticketgate::ticket::channel::{Channel, Directory};
use ticketgate::ticket::loops::Pattern;
use ticketgate::ticket::token::TokenKeys;

#[path = "support/channel.rs"]
mod settled;
use settled::channel;
#[path = "support/dns.rs"]
mod stub;
use stub::{Answer, DnsServer};
#[path = "support/parts.rs"]
mod parts;
use parts::{origin, until};
#[path = "support/peer.rs"]
mod peer;
use peer::{Peer, Say, smtp};

#[path = "support/reports.rs"]
mod reports;

const SUPPORT: &str = "support@example.com";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn sandbox(name: &str) -> RelayConfig {
    RelayConfig { name: name.into(), kind: Kind::Maildir, path: Some(name.into()), ..RelayConfig::default() }
}

/// A store with a filing worker, and an outbox that runs.
struct House {
    dir: tempfile::TempDir,
    store: Option<Store>,
    relays: Vec<RelayConfig>,
    config: outbox::Config,
    now: Arc<AtomicI64>,
    clock: Clock,
    directory: Arc<ArcSwap<Directory>>,
    keys: TokenKeys,
    loops: Arc<ArcSwap<Loops>>,
    never: Arc<ArcSwap<Vec<Pattern>>>,
    board: Board,
    accounts: Option<Accounts>,
    dns: dns::Config,
    running: Option<(shutdown::Trigger, tokio::task::JoinHandle<Result<(), StoreError>>)>,
}

impl House {
    fn new(relays: Vec<RelayConfig>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(1_795_000_000));
        let ticking = Arc::clone(&now);
        let clock = Clock::from_fn(move || Timestamp::from_second(ticking.load(Ordering::SeqCst)).unwrap());
        let channel = Channel { acknowledge: true, ..channel(SUPPORT) };
        let directory = Arc::new(ArcSwap::from_pointee(Directory::new(vec![channel], vec![], vec![], None)));
        let store = open(dir.path(), &clock);
        Self {
            dir,
            store: Some(store),
            relays,
            config: outbox::Config::default(),
            now,
            clock,
            directory,
            keys: TokenKeys::new(vec![[7; 32]]),
            loops: Arc::default(),
            never: Arc::default(),
            board: Board::default(),
            accounts: None,
            dns: dns::Config::default(),
            running: None,
        }
    }

    /// Gives the channel relays of its own, one of them for mail with attachments.
    fn channel_by(&self, relay: &str, attachments: Option<&str>) {
        let mut channel = self.directory.load().channels()[0].clone();
        (channel.relay, channel.attachments_relay) = (Some(relay.into()), attachments.map(str::to_owned));
        self.directory.store(Arc::new(Directory::new(vec![channel], vec![], vec![], None)));
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Starts the outbox; `configured` is whether the channel has a mailbox.
    fn start(&mut self, configured: bool) {
        let worker = outbox::Worker {
            config: Arc::new(ArcSwap::from_pointee(self.config.clone())),
            never: Arc::clone(&self.never),
            board: self.board.clone(),
            ..parts::outbox(self.store(), self.dir.path(), &self.relays, self.dns.clone(), &self.directory, &self.clock)
        };
        if configured {
            let of = vec![Account::with_password(address(SUPPORT), "support", "imap.example.com")];
            worker.accounts.configure(Setup { accounts: of, ..Setup::default() });
        }
        self.accounts = Some(worker.accounts.clone());
        let (trigger, shutdown) = shutdown::channel();
        self.running = Some((trigger, tokio::spawn(worker.run(shutdown))));
    }

    async fn stop(&mut self) {
        if let Some((trigger, task)) = self.running.take() {
            trigger.shut_down();
            task.await.unwrap().unwrap();
        }
    }

    fn restart_store(&mut self) {
        self.accounts = None;
        if let Some(store) = self.store.take() {
            store.close();
        }
        self.store = Some(open(self.dir.path(), &self.clock));
    }

    async fn spool(&self, envelope: Envelope, kind: OriginKind, outgoing: Option<OutgoingMeta>, bytes: &str) {
        let rcpt_to = if outgoing.is_some() { Vec::new() } else { envelope.rcpt_to.clone() };
        let deliveries = vec![Delivery { channel: address(SUPPORT), rcpt_to }];
        let mail = parts::Arrival { at: self.clock.now(), envelope, origin: origin(kind), deliveries, outgoing };
        parts::spool(self.store(), mail, bytes.replace('\n', "\r\n").as_bytes()).await;
    }

    /// A mail comes in, is filed, and its entry is returned.
    async fn receive(&self, from: Option<&str>, bytes: &str) -> EntryRow {
        let envelope = Envelope { mail_from: from.map(address), rcpt_to: vec![address(SUPPORT)] };
        self.spool(envelope, OriginKind::Smtp, None, bytes).await;
        self.file().await.pop().unwrap()
    }

    async fn send(&self, to: &[&str], change: impl FnOnce(&mut OutgoingMeta)) -> EntryRow {
        let unique = MailId::fresh(self.clock.now());
        let text = format!("From: {SUPPORT}\nMessage-ID: <{unique}@example.com>\nSubject: Hello\n\nHello\n");
        self.send_text(to, OriginKind::Api, &text, change).await
    }

    /// Hands in the acknowledgement of a mail that came in.
    async fn acknowledge(&self, to: &str, entry: &EntryRow) -> EntryRow {
        let acknowledgement = |meta: &mut OutgoingMeta| {
            (meta.class, meta.ticket) = (Class::Automatic, entry.ticket);
            meta.answers = Some(entry.id.clone());
        };
        self.send(&[to], acknowledgement).await
    }

    async fn send_text(
        &self,
        to: &[&str],
        kind: OriginKind,
        text: &str,
        change: impl FnOnce(&mut OutgoingMeta),
    ) -> EntryRow {
        let recipient = |to: &&str| OutgoingRecipient { address: address(to), notify: None, orcpt: None };
        let mut meta = OutgoingMeta {
            author: "Bea".into(),
            recipients: to.iter().map(recipient).collect(),
            ..OutgoingMeta::default()
        };
        change(&mut meta);
        let rcpt_to = to.iter().map(|to| address(to)).collect();
        let envelope = Envelope { mail_from: Some(address(SUPPORT)), rcpt_to };
        self.spool(envelope, kind, Some(meta), text).await;
        self.file().await.pop().unwrap()
    }

    /// Files what is spooled; returns the entries.
    async fn file(&self) -> Vec<EntryRow> {
        let worker = filing::Worker {
            store: self.store().clone(),
            directory: Arc::clone(&self.directory),
            keys: self.keys.clone(),
            loops: Arc::clone(&self.loops),
            config: filing::Config::default(),
            header_limit: 256 << 10,
            clock: self.clock.clone(),
            metrics: Metrics::new(),
        };
        let before = self.store().stats().seq;
        let task = tokio::task::spawn_blocking(move || {
            let mut reader = worker.reader().unwrap();
            worker.file_batch(&mut reader).unwrap();
        });
        task.await.unwrap();
        let mut rows = self.store().entries(before, 1000).unwrap();
        // The outbox may have sent the mail by now, and noted what became of it.
        rows.retain(|row| row.kind != EntryKind::Note);
        rows
    }

    fn recipients(&self, entry: &EntryRow) -> Vec<RecipientRow> {
        self.store().recipients(entry.seq, 0, 100).unwrap()
    }

    /// Waits until the recipients of a mail are in these states.
    async fn until(&self, entry: &EntryRow, states: &[DeliveryState]) {
        let got = || self.recipients(entry).iter().map(|row| row.state).collect::<Vec<DeliveryState>>();
        until(|| format!("{:?}\n{:#?}", self.recipients(entry), self.board.now()), || got() == states).await;
    }

    /// Lets time pass until a mail has left, or the board tells why it has not.
    async fn decided(&self, entry: &EntryRow, takes: bool, told: &str) -> bool {
        let end = tokio::time::Instant::now() + Duration::from_secs(15);
        loop {
            if self.recipients(entry)[0].state == DeliveryState::Relayed {
                return true;
            }
            let row = self.store().outbox_row(entry.seq).unwrap().unwrap();
            let why = self.board.now().waits_for(&row, self.clock.now()).unwrap_or_default();
            if !takes && why.contains("messages in 24 hours") && why.contains(told) {
                return false;
            }
            assert!(tokio::time::Instant::now() < end, "{why}\n{:#?}", self.board.now());
            // The worker looks once a second, and what DNS did not say is known for a minute.
            self.pass(1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn order(&self, mail: &EntryRow, order: OutboxOrder) {
        self.store().step(|step| step.order_outbox(&mail.id, &order, "kim", self.clock.now())).unwrap();
    }

    /// Waits until nothing is to be done for a mail any more.
    async fn until_done(&self, mail: &EntryRow) {
        let state = || self.store().outbox_row(mail.seq).unwrap().unwrap().state;
        let said = || format!("{:?}\n{:#?}", self.recipients(mail), self.board.now());
        until(said, || state() == OutboxState::Done).await;
    }

    /// Gives the worker the time to do what it must not do.
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_millis(400)).await;
    }

    fn kinds(&self) -> Vec<String> {
        self.store().events(0, 1000).unwrap().into_iter().map(|event| event.kind).collect()
    }

    /// What the last event of a kind says.
    fn said(&self, kind: &str) -> String {
        let events = self.store().events(0, 1000).unwrap();
        events.into_iter().rfind(|event| event.kind == kind).and_then(|event| event.said).unwrap_or_default()
    }

    fn kept(&self, name: &str) -> usize {
        std::fs::read_dir(self.dir.path().join(name).join("new")).map_or(0, Iterator::count)
    }

    fn sound(&self) {
        let report = self.store().fsck(store::Depth::Deep).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

/// Waits until a server has heard a command so often.
async fn hears(peer: &Peer, verb: &str, often: usize) {
    until(|| format!("{verb} {often} times"), || peer.heard(verb) >= often).await;
}

fn open(dir: &Path, clock: &Clock) -> Store {
    let config = store::Config { low_water_bytes: 0, ballast_bytes: 0, ..store::Config::default() };
    // A piece of a worker that was broken off may still hold the directory for a moment.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        match Store::open(&dir.join("data"), &config, clock.clone()) {
            Err(store::OpenError::Held { .. }) if std::time::Instant::now() < deadline => std::thread::yield_now(),
            opened => return opened.unwrap().0,
        }
    }
}

const QUESTION: &str = "From: Ann <ann@example.net>\nMessage-ID: <q1@example.net>\nSubject: Printer\n\nIt burns\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_leaves_is_settled_and_its_reply_comes_home() {
    let mut house = House::new(vec![sandbox("outbound")]);
    house.start(false);
    let opened = house.receive(Some("ann@example.net"), QUESTION).await;
    assert_eq!(house.store().acknowledgements(9).unwrap().len(), 1, "a person who writes is acknowledged");
    let answer = house.send(&["ann@example.net"], |meta| meta.ticket = opened.ticket).await;
    assert_eq!((answer.filing.as_str(), answer.ticket), ("appended", Some(1)));
    house.until(&answer, &[DeliveryState::Relayed]).await;
    assert_eq!(house.kept("outbound"), 1);
    assert!(house.kinds().contains(&"mail_relayed".to_owned()));
    // The acknowledgement is filed once, however often it is handed in.
    let first = house.acknowledge("ann@example.net", &opened).await;
    let again = house.acknowledge("ann@example.net", &opened).await;
    assert_eq!((first.filing.as_str(), again.filing.as_str()), ("appended", "duplicate"));
    assert!(house.store().acknowledgements(9).unwrap().is_empty());
    house.until(&first, &[DeliveryState::Relayed]).await;
    // Bob, who was written to, takes part from then on: his answer finds the ticket by reference.
    let copy = house.send(&["bob@example.net"], |meta| meta.ticket = Some(1)).await;
    let reference = copy.message_id.clone().unwrap();
    let reply = format!("From: bob@example.net\nMessage-ID: <r@x>\nIn-Reply-To: <{reference}>\n\nThanks\n");
    let reply = house.receive(Some("bob@example.net"), &reply).await;
    assert_eq!((reply.ticket, reply.matched_by.as_deref()), (Some(1), Some("reference")));
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_peer_is_tried_again_and_a_refusal_is_told_to_the_ticket() {
    let peer = Peer::start().await;
    peer.busy.lock().unwrap().push("busy".into());
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    house.start(false);
    house.receive(Some("ann@example.net"), QUESTION).await;
    let to = ["ok@example.net", "busy@example.net", "bad@example.net"];
    let answer = house.send(&to, |meta| meta.ticket = Some(1)).await;
    house.until(&answer, &[DeliveryState::Relayed, DeliveryState::Delayed, DeliveryState::Failed]).await;
    let rows = house.recipients(&answer);
    assert_eq!(rows[2].reply.as_deref(), Some("550 5.1.1 no such user"));
    assert_eq!(rows[1].relay.as_deref(), Some("smart"));
    let notes = house.store().entries_of(1, 99).unwrap();
    assert!(notes.iter().any(|row| row.note.as_deref().is_some_and(|note| note.contains("bad@example.net: 550"))));
    // Late: four hours pass, and the next attempt fails as well.
    house.pass(4 * 3600);
    until(|| "a late mail is told of".into(), || house.kinds().contains(&"mail_delayed".to_owned())).await;
    until(|| "it is tried again".into(), || house.recipients(&answer)[1].attempts >= 2).await;
    peer.busy.lock().unwrap().clear();
    house.pass(3600);
    house.until(&answer, &[DeliveryState::Relayed, DeliveryState::Relayed, DeliveryState::Failed]).await;
    assert_eq!((peer.count("ok@example.net"), peer.count("busy@example.net")), (1, 1), "nothing is sent twice");
    // Two more hard failures, and the address is suppressed.
    for _ in 0..2 {
        let mail = house.send(&["bad@example.net"], |_| {}).await;
        house.until(&mail, &[DeliveryState::Failed]).await;
    }
    let mail = house.send(&["bad@example.net"], |_| {}).await;
    assert_eq!(house.recipients(&mail)[0].state, DeliveryState::Suppressed);
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_restart_and_is_sent_once() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    let mut mails = Vec::new();
    for n in 0..40 {
        mails.push(house.send(&[&format!("u{n}@example.net")], |_| {}).await);
    }
    house.restart_store();
    house.start(false);
    for mail in &mails {
        house.until(mail, &[DeliveryState::Relayed]).await;
    }
    house.stop().await;
    house.restart_store();
    house.start(false);
    let last = house.send(&["last@example.net"], |_| {}).await;
    house.until(&last, &[DeliveryState::Relayed]).await;
    assert!((0..40).all(|n| peer.count(&format!("u{n}@example.net")) == 1));
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_a_disconnected_account_waits_and_says_so() {
    let mut house = House::new(vec![sandbox("outbound")]);
    house.start(true);
    let accounts = house.accounts.clone().unwrap();
    accounts.show(&address(SUPPORT), |connection| connection.state = State::Disconnected);
    let mail = house.send(&["ann@example.net"], |_| {}).await;
    let waits = async || loop {
        let row = house.store().outbox_row(mail.seq).unwrap().unwrap();
        match house.board.now().waits_for(&row, house.clock.now()) {
            Some(why) => break why,
            None => {
                house.pass(1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let why = tokio::time::timeout(Duration::from_secs(15), waits()).await.expect("it says why it waits");
    assert!(why.contains("disconnected"), "{why}");
    assert_eq!((house.kept("outbound"), house.recipients(&mail)[0].attempts), (0, 0));
    accounts.show(&address(SUPPORT), |connection| connection.state = State::Connected);
    house.pass(5);
    house.until(&mail, &[DeliveryState::Relayed]).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_waits_for_its_window_or_gives_way() {
    let quota = QuotaConfig { mails_per_minute: Some(2), ..QuotaConfig::default() };
    let mut house = House::new(vec![RelayConfig { quota, ..sandbox("outbound") }]);
    house.start(false);
    let mut mails = Vec::new();
    for n in 0..3 {
        mails.push(house.send(&[&format!("u{n}@example.net")], |_| {}).await);
    }
    house.until(&mails[0], &[DeliveryState::Relayed]).await;
    house.until(&mails[1], &[DeliveryState::Relayed]).await;
    house.stop().await;
    // The windows are on disk: a restart does not open them.
    house.restart_store();
    house.start(false);
    house.pass(30);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(house.recipients(&mails[2])[0].attempts, 0);
    house.pass(31);
    house.until(&mails[2], &[DeliveryState::Relayed]).await;
    house.stop().await;

    let quota = QuotaConfig { mails_per_day: Some(2), give_way_percent: Some(90), ..QuotaConfig::default() };
    let mut house = House::new(vec![RelayConfig { quota, ..sandbox("gmail") }, sandbox("other")]);
    house.channel_by("gmail", None);
    house.config.default_relay = Some("other".into());
    house.start(false);
    for n in 0..4 {
        let mail = house.send(&[&format!("u{n}@example.net")], |_| {}).await;
        house.until(&mail, &[DeliveryState::Relayed]).await;
    }
    assert_eq!((house.kept("gmail"), house.kept("other")), (2, 2));
    assert_eq!(house.kinds().iter().filter(|kind| *kind == "quota_near").count(), 1);
    assert!(house.said("quota_near").contains("the default relay takes over"));
    house.pass(25 * 3600);
    let mail = house.send(&["u9@example.net"], |_| {}).await;
    house.until(&mail, &[DeliveryState::Relayed]).await;
    assert_eq!(house.kept("gmail"), 3, "the account takes over again");
    house.stop().await;
    house.sound();

    // Nothing takes over where no default relay is named, and nobody is told otherwise.
    let quota = QuotaConfig { mails_per_day: Some(1), give_way_percent: Some(90), ..QuotaConfig::default() };
    let mut house = House::new(vec![RelayConfig { quota, ..sandbox("gmail") }]);
    house.start(false);
    let mail = house.send(&["u1@example.net"], |_| {}).await;
    house.until(&mail, &[DeliveryState::Relayed]).await;
    house.send(&["u2@example.net"], |_| {}).await;
    until(|| "the quota is nearly used".into(), || house.kinds().contains(&"quota_near".to_owned())).await;
    let said = house.said("quota_near");
    assert!(said.ends_with("its mail waits then, as no other relay takes over"), "{said}");
    house.stop().await;
}

/// In the sandbox nothing reaches anybody, whatever was asked for (R13).
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_takes_everything() {
    let mut house = House::new(vec![sandbox("gmail"), sandbox("out"), sandbox("box")]);
    house.channel_by("gmail", Some("out"));
    house.config.sandbox = Some("box".into());
    house.start(false);
    let plain = house.send(&["u1@example.net"], |_| {}).await;
    let asked = house.send(&["u2@example.net"], |order| order.relay = Some("out".into())).await;
    for mail in [&plain, &asked] {
        house.until(mail, &[DeliveryState::Relayed]).await;
    }
    assert_eq!((house.kept("gmail"), house.kept("out"), house.kept("box")), (0, 0, 2));
    house.stop().await;
}

/// Near the end of its quota an account gives way to the default relay only where the sender's domain lets that send.
#[tokio::test(flavor = "multi_thread")]
async fn the_default_relay_takes_over_where_the_domain_permits_it() {
    let reject = ("_dmarc.example.com", Answer::Txt("v=DMARC1; p=reject".into()));
    let spf = |text: &str| ("example.com", Answer::Txt(format!("v=spf1 {text}")));
    let (permits, refuses) = (spf("ip4:127.0.0.1 -all"), spf("ip4:192.0.2.1 -all"));
    let silent = ("example.com", Answer::ServFail);
    // What DNS has, the setting, whether it takes over, and what is told instead.
    let table = [
        (vec![permits, reject.clone()], GiveWay::Aligned, true, ""),
        (
            vec![refuses.clone(), reject],
            GiveWay::Aligned,
            false,
            "by its DMARC record (p=reject) SPF or DKIM has to pass",
        ),
        (vec![refuses.clone()], GiveWay::Aligned, false, "from which addresses that smarthost sends is not known here"),
        (vec![], GiveWay::Aligned, true, ""),
        (vec![silent.clone()], GiveWay::Aligned, false, "is not known to be allowed to send for example.com"),
        (vec![silent], GiveWay::Always, true, ""),
        (vec![], GiveWay::Never, false, ""),
    ];
    for (names, give_way, takes, told) in table {
        let (server, peer) = (DnsServer::start(&names).await, Peer::start().await);
        let mut house = giving_way(give_way, &server, &peer);
        house.start(false);
        let mut mails = Vec::new();
        for n in 0..3 {
            mails.push(house.send(&[&format!("u{n}@example.net")], |_| {}).await);
        }
        house.until(&mails[0], &[DeliveryState::Relayed]).await;
        house.until(&mails[1], &[DeliveryState::Relayed]).await;
        let decided = house.decided(&mails[2], takes, told).await;
        assert_eq!(decided, takes, "{names:?} {give_way:?}");
        assert_eq!(
            (house.kept("gmail"), peer.count("u2@example.net")),
            (2, usize::from(takes)),
            "{names:?} {give_way:?}"
        );
        let told_of = |kind: &str| house.kinds().iter().filter(|known| *known == kind).count();
        let refused = usize::from(!told.is_empty());
        assert_eq!((told_of("quota_near"), told_of("takeover")), (1, usize::from(takes)));
        assert_eq!(told_of("takeover_refused"), refused, "{names:?}");
        if !takes {
            // The mail was not lost, and goes by its own account once there is room.
            house.pass(25 * 3600);
            house.until(&mails[2], &[DeliveryState::Relayed]).await;
            assert_eq!((house.kept("gmail"), peer.count("u2@example.net")), (3, 0));
        }
        house.stop().await;
        house.sound();
    }
}

/// An account that may send two mails a day, and a smarthost on loopback as the default relay.
fn giving_way(give_way: GiveWay, server: &DnsServer, peer: &Peer) -> House {
    let quota = QuotaConfig { mails_per_day: Some(2), give_way_percent: Some(90), give_way, ..QuotaConfig::default() };
    let mut house = House::new(vec![RelayConfig { quota, ..sandbox("gmail") }, smtp("other", peer.port)]);
    house.channel_by("gmail", None);
    house.config.default_relay = Some("other".into());
    let query_timeout = Duration::from_millis(300);
    house.dns = dns::Config { name_servers: vec![server.address], query_timeout, attempts: 1 };
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn people_hold_reroute_and_release_what_waits() {
    let peer = Peer::start().await;
    peer.busy.lock().unwrap().push("busy".into());
    let mut house = House::new(vec![smtp("smart", peer.port), sandbox("outbound")]);
    house.start(false);
    let mail = house.send(&["busy@example.net"], |_| {}).await;
    house.until(&mail, &[DeliveryState::Delayed]).await;
    house.order(&mail, OutboxOrder::Hold);
    house.pass(3600);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(house.recipients(&mail)[0].attempts, 1);
    house.order(&mail, OutboxOrder::Reroute("outbound".into()));
    house.order(&mail, OutboxOrder::Release);
    house.until(&mail, &[DeliveryState::Relayed]).await;
    assert_eq!(house.kept("outbound"), 1);
    assert_eq!(house.store().outbox_row(mail.seq).unwrap().unwrap().state, OutboxState::Done);
    // A relay that is not configured: the mail waits, and goes once a person says where.
    let lost = house.send(&["ann@example.net"], |meta| meta.relay = Some("nowhere".into())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(house.recipients(&lost)[0].state, DeliveryState::Queued);
    house.order(&lost, OutboxOrder::Reroute("outbound".into()));
    house.until(&lost, &[DeliveryState::Relayed]).await;
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_find_their_ticket_and_loops_end() {
    let house = House::new(vec![sandbox("outbound")]);
    house.receive(Some("ann@example.net"), QUESTION).await;
    let token = house.keys.sign(1).unwrap();
    // Header fields, the ticket that is found, and how.
    let table = [
        ("X-Ticketgate-Ticket: 1", Some(1), None),
        ("X-Ticketgate-Ticket: #99", None, None),
        ("In-Reply-To: <q1@example.net>", Some(1), Some("reference")),
        (&format!("Reply-To: support+{token}@example.com"), Some(1), Some("token")),
        ("X-Nothing: 1", None, None),
    ];
    for (n, (field, ticket, matched_by)) in table.into_iter().enumerate() {
        let text = format!("From: {SUPPORT}\nMessage-ID: <s{n}@app>\n{field}\n\nHello\n");
        let entry = house.send_text(&["ann@example.net"], OriginKind::Submission, &text, |_| {}).await;
        assert_eq!((entry.ticket, entry.matched_by.as_deref()), (ticket, matched_by), "{field}");
        let again = house.send_text(&["ann@example.net"], OriginKind::Submission, &text, |_| {}).await;
        assert_eq!(again.filing, "duplicate", "a program that did not hear our 250");
        let other = house.send_text(&["eve@example.net"], OriginKind::Submission, &text, |_| {}).await;
        assert_ne!(other.filing, "duplicate");
        let changed = text.replace("Hello", "Another mail under the same Message-ID");
        let changed = house.send_text(&["ann@example.net"], OriginKind::Submission, &changed, |_| {}).await;
        assert_ne!(changed.filing, "duplicate", "scanners give all of their mails one Message-ID");
    }
    let ours = house.send(&["support+x@example.com", "ann@example.net"], |_| {}).await;
    let states: Vec<DeliveryState> = house.recipients(&ours).iter().map(|row| row.state).collect();
    assert_eq!(states, [DeliveryState::Filtered, DeliveryState::Queued]);
    assert!(ours.trace.iter().any(|step| step.step == "loops"));
    // A robot answers every mail of ours: it settles after the brake's number of mails.
    let mut queued = 0;
    for _ in 0..40 {
        let mail = house.send(&["robot@example.net"], |meta| meta.ticket = Some(1)).await;
        queued += usize::from(house.recipients(&mail)[0].state == DeliveryState::Queued);
    }
    assert_eq!((queued, house.store().brakes(9).unwrap().len()), (10, 1));
    // No machine is acknowledged.
    for (n, field) in ["Auto-Submitted: auto-replied", "List-Id: <l.example>", "Precedence: bulk"].iter().enumerate() {
        let text = format!("From: robot{n}@example.net\nMessage-ID: <a{n}@x>\n{field}\n\nAway\n");
        house.receive(Some("robot@example.net"), &text).await;
    }
    house.receive(None, "From: x@example.net\nMessage-ID: <n@x>\n\nnull sender\n").await;
    // And no machine that hands in mail answers one of them; people, and machines that answer people, may write.
    for (n, (answered, class, state)) in [
        ("a0@x", Class::Automatic, DeliveryState::Filtered),
        ("n@x", Class::Automatic, DeliveryState::Filtered),
        ("q1@example.net", Class::Automatic, DeliveryState::Queued),
        ("a0@x", Class::Person, DeliveryState::Queued),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("From: {SUPPORT}\nMessage-ID: <r{n}@app>\nIn-Reply-To: <{answered}>\n\nReceived\n");
        let kind = OriginKind::Submission;
        let answer = house.send_text(&["dan@example.net"], kind, &text, |meta| meta.class = class).await;
        assert_eq!(house.recipients(&answer)[0].state, state, "{answered} {class:?}: {:?}", answer.trace);
    }
    assert_eq!(house.store().acknowledgements(9).unwrap().len(), 1, "only the person who wrote first is owed one");
    house.sound();
}

/// Another program writes as often as we acknowledge, each time as if it were new; returns how many of our
/// acknowledgements may leave until one is not owed, or is held.
async fn settle(house: &House, from: Option<&str>, field: &str) -> usize {
    let mut left = 0;
    for n in 0..100 {
        let unique = MailId::fresh(house.clock.now());
        let text = format!(
            "From: robot@example.net\nMessage-ID: <{unique}@example.net>\nSubject: Answer {n}\n{field}\n\nNumber {n}\n"
        );
        let entry = house.receive(from, &text).await;
        let Some(owed) = house.store().acknowledgements(9).unwrap().pop() else { return left };
        assert_eq!(owed.entry, entry.id);
        let sent = house.acknowledge("robot@example.net", &entry).await;
        match house.recipients(&sent)[0].state {
            DeliveryState::Queued => left += 1,
            DeliveryState::Held => return left,
            other => panic!("{other:?}"),
        }
    }
    panic!("it did not settle");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_everything_settles_after_the_number_of_its_brake() {
    // Who answers, under which sender, with which field; how many of our mails leave before it is over.
    let table = [
        ("another gateway, or a robot that does not say that it is one", Some("robot@example.net"), "X-A: 1", 30),
        ("an out-of-office robot", Some("robot@example.net"), "Auto-Submitted: auto-replied", 0),
        ("a gateway like ours", Some("robot@example.net"), "X-Auto-Response-Suppress: All", 0),
        ("a list", Some("list-bounces@example.net"), "List-Id: <all.example.net>", 0),
        ("a bounce of whatever form", None, "X-A: 1", 0),
    ];
    for (who, from, field, want) in table {
        let house = House::new(vec![sandbox("outbound")]);
        assert_eq!(settle(&house, from, field).await, want, "{who}");
        let brakes = house.store().brakes(9).unwrap();
        assert_eq!(brakes.len(), usize::from(want > 0), "{who}: {brakes:?}");
        // Other people are answered all the same.
        let answer = house.send(&["ann@example.net"], |meta| meta.ticket = Some(1)).await;
        assert_eq!(house.recipients(&answer)[0].state, DeliveryState::Queued, "{who}");
        // Once released it counts anew.
        if let Some(brake) = brakes.first() {
            let now = house.clock.now();
            house.store().step(|step| step.release_brake(&brake.id, "Bea", now).map(drop)).unwrap();
            assert!(house.store().brakes(9).unwrap().is_empty(), "{who}");
            let rows = house.store().outbox(&store::OutboxFilter { limit: 200, ..Default::default() }).unwrap();
            let held = rows.iter().flat_map(|row| house.store().recipients(row.seq, 0, 9).unwrap());
            assert_eq!(held.filter(|row| row.state == DeliveryState::Held).count(), 0, "{who}: what it held goes");
        }
        house.sound();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_bounces_is_not_answered() {
    let mut house = House::new(vec![sandbox("outbound")]);
    house.start(false);
    let question = house.receive(Some("ann@example.net"), QUESTION).await;
    let sent = house.acknowledge("ann@example.net", &question).await;
    house.until(&sent, &[DeliveryState::Relayed]).await;
    let qmail = format!(
        "From: MAILER-DAEMON@mx.example.net\nTo: {SUPPORT}\nMessage-ID: <q@mx>\nSubject: failure notice\n\n\
         Hi. This is the qmail-send program at mx.example.net.\n\
         I'm afraid I wasn't able to deliver your message to the following addresses.\n\
         This is a permanent error; I've given up. Sorry it didn't work out.\n\n\
         <ann@example.net>:\n550 5.1.1 no mailbox here by that name\n\n\
         --- Below this line is a copy of the message.\n\n\
         From: {SUPPORT}\nMessage-ID: <{}>\nSubject: Hello\n\nHello\n",
        sent.message_id.clone().unwrap()
    );
    let report = house.receive(None, &qmail).await;
    assert_eq!((report.filing.as_str(), report.ticket), ("reported", Some(1)));
    let row = &house.recipients(&sent)[0];
    assert_eq!((row.state, row.reported.as_deref()), (DeliveryState::Failed, Some("failed")));
    assert!(house.store().acknowledgements(9).unwrap().is_empty());
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_comes_home_sets_the_state() {
    let mut house = House::new(vec![sandbox("outbound")]);
    house.start(false);
    house.receive(Some("ann@example.net"), QUESTION).await;
    let answer = house.send(&["ann@example.net"], |meta| meta.ticket = Some(1)).await;
    house.until(&answer, &[DeliveryState::Relayed]).await;
    house.stop().await;
    let report = format!(
        "From: MAILER-DAEMON@mx.example.net\nTo: {SUPPORT}\nMessage-ID: <dsn1@mx>\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nIt failed\n--b\n\
         Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n\
         Final-Recipient: rfc822; ann@example.net\nAction: failed\nStatus: 5.1.1\n\
         Diagnostic-Code: smtp; 550 5.1.1 no such user\n\n--b\nContent-Type: message/rfc822\n\n\
         From: {SUPPORT}\nMessage-ID: <{}>\n\nHello\n--b--\n",
        answer.message_id.clone().unwrap()
    );
    let entry = house.receive(None, &report).await;
    assert_eq!((entry.filing.as_str(), entry.ticket), ("reported", Some(1)));
    let row = &house.recipients(&answer)[0];
    assert_eq!((row.state, row.reported.as_deref()), (DeliveryState::Failed, Some("failed")));
    assert!(row.reply.as_deref().unwrap().contains("no such user"), "{row:?}");
    assert!(house.kinds().contains(&"mail_failed".to_owned()));
    assert_eq!(house.store().suppressions(store::Every::Failure, 9).unwrap()[0].failures, 1);
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_proves_nothing_changes_nothing() {
    let mut house = House::new(vec![sandbox("outbound")]);
    house.start(false);
    house.receive(Some("ann@example.net"), QUESTION).await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = house.send(&["ann@example.net"], |meta| meta.ticket = Some(1)).await;
        house.until(&answer, &[DeliveryState::Relayed]).await;
        answers.push(answer);
    }
    house.stop().await;
    let token = house.keys.sign(1).unwrap();
    let forged = format!("{}0", &token[..token.len() - 1]);
    let (good, bad) = (answers[0].message_id.clone().unwrap(), format!("{forged}.1@example.com"));
    let mut reported = 0;
    // Whom it is sent to, what it answers, the mail that it says came back; how it is filed, and whether it counts.
    let table = [
        (SUPPORT.to_owned(), "x@y", "unknown@example.com", "opened", false),
        (SUPPORT.to_owned(), "x@y", bad.as_str(), "opened", false),
        (format!("support+{forged}@example.com"), "x@y", "unknown@example.com", "opened", false),
        // Whoever had the customer's mail knows its Message-ID.
        (SUPPORT.to_owned(), "q1@example.net", "unknown@example.com", "reported", false),
        (SUPPORT.to_owned(), "x@y", "q1@example.net", "reported", false),
        (SUPPORT.to_owned(), "x@y", good.as_str(), "reported", true),
        (format!("support+{token}@example.com"), "x@y", "unknown@example.com", "reported", true),
    ];
    for (n, (to, refers, original, filing, counts)) in table.into_iter().enumerate() {
        let report = format!(
            "From: MAILER-DAEMON@mx.example.net\nTo: {to}\nMessage-ID: <f{n}@mx>\nIn-Reply-To: <{refers}>\n\
             Subject: [#1] Undelivered\nMIME-Version: 1.0\n\
             Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nSpam\n--b\n\
             Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nOriginal-Rcpt-To: ann@example.net\n\n\
             --b\nContent-Type: message/rfc822\n\nMessage-ID: <{original}>\n\nHello\n--b--\n"
        );
        let envelope = Envelope { mail_from: None, rcpt_to: vec![address(&to)] };
        house.spool(envelope, OriginKind::Smtp, None, &report).await;
        let entry = house.file().await.pop().unwrap();
        assert_eq!(entry.filing, filing, "report {n}");
        let suppressed = house.store().suppressions(store::Every::Suppressed, 9).unwrap();
        let states: Vec<RecipientRow> = answers.iter().flat_map(|answer| house.recipients(answer)).collect();
        reported += usize::from(counts);
        assert_eq!(states.iter().filter(|row| row.reported.is_some()).count(), reported, "report {n}");
        assert!(states.iter().all(|row| row.state == DeliveryState::Relayed));
        assert_eq!(suppressed.len(), usize::from(counts), "report {n}");
        assert_eq!(entry.trace.iter().any(|step| step.said.contains("changes no state")), !counts, "report {n}");
        for row in suppressed {
            house.store().step(|step| step.clear_suppression(&row.address)).unwrap();
        }
    }
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ends_share_a_commit_and_people_do_not_wait_for_machines() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("smart", peer.port)]);
    let mut mails = Vec::new();
    for n in 0..300 {
        mails.push(house.send(&[&format!("u{n}@example.net")], |meta| meta.class = Class::Automatic).await);
    }
    let person = house.send(&["person@example.net"], |_| {}).await;
    let before = house.store().stats().commits;
    house.start(false);
    house.until(&person, &[DeliveryState::Relayed]).await;
    for mail in &mails {
        house.until(mail, &[DeliveryState::Relayed]).await;
    }
    let commits = house.store().stats().commits - before;
    assert!(commits < 200, "{commits} commits for 301 mails");
    let settled = |entry: &EntryRow| {
        let events = house.store().events(0, 1000).unwrap().into_iter();
        events.filter(|event| event.kind == "mail_relayed").position(|event| event.entry.as_ref() == Some(&entry.id))
    };
    assert!(settled(&person).unwrap() < 60, "{:?}", settled(&person));
    house.stop().await;
    house.sound();
}

/// The daemon dies after the peer has answered and before our commit: the mail is sent again, and only that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_sends_again_only_what_was_under_way() {
    let peer = Peer::start().await;
    // One at a time, so that a crash may meet one mail between its answer and our commit, and no second one.
    let mut house = House::new(vec![RelayConfig { concurrency: Some(1), ..smtp("smart", peer.port) }]);
    let mut mails = Vec::new();
    for n in 0..60 {
        mails.push(house.send(&[&format!("u{n}@example.net")], |_| {}).await);
    }
    let mut rounds = 0;
    while house.store().undone(0, 1).unwrap().len() == 1 {
        house.start(false);
        tokio::time::sleep(Duration::from_millis(20 + 15 * rounds)).await;
        // As a kill does: no drain, no last commit.
        let (trigger, task) = house.running.take().unwrap();
        task.abort();
        let _ = task.await;
        drop(trigger);
        house.restart_store();
        rounds += 1;
        assert!(rounds < 200);
    }
    let mut twice = 0;
    for (n, mail) in mails.iter().enumerate() {
        let count = peer.count(&format!("u{n}@example.net"));
        assert!(count >= 1, "mail {n} is lost");
        twice += count - 1;
        assert_eq!(house.recipients(mail)[0].state, DeliveryState::Relayed);
    }
    assert!(twice <= usize::try_from(rounds).unwrap(), "{twice} sent again in {rounds} rounds");
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_a_peer_may_have_is_not_rerouted_to_a_second_one() {
    // What the first peer says in the end; how often each of the two gets the mail.
    let table: [(Say, usize, usize); 2] =
        [(|_, _| None, 1, 0), (|verb, _| (verb == ".").then_some("451 4.3.0 not now\r\n"), 0, 1)];
    for (say, first, second) in table {
        let (slow, other) = (Peer::led(false, say).await, Peer::led(true, |_, _| None).await);
        // The gate is before the end of the mail where that is refused.
        let mut house = House::new(vec![smtp("a", slow.port), smtp("b", other.port)]);
        house.start(false);
        let mail = house.send(&["ann@example.net"], |_| {}).await;
        hears(&slow, ".", 1).await;
        house.order(&mail, OutboxOrder::Reroute("b".into()));
        if first == 1 {
            house.rest().await;
            assert_eq!(other.heard("MAIL"), 0, "the first one may have it");
        }
        slow.gate.send_replace(true);
        house.until_done(&mail).await;
        assert_eq!((slow.count("ann@example.net"), other.count("ann@example.net")), (first, second));
        house.stop().await;
        house.sound();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_a_silent_peer_may_have_is_rerouted_only_by_whoever_insists() {
    let (silent, other) = (Peer::led(false, |_, _| None).await, Peer::led(true, |_, _| None).await);
    let hasty = RelayConfig { data_timeout: Duration::from_millis(700), ..smtp("a", silent.port) };
    let mut house = House::new(vec![hasty, smtp("b", other.port)]);
    house.start(false);
    let row = |mail: &EntryRow| house.store().outbox_row(mail.seq).unwrap().unwrap();
    let order = |mail: &EntryRow, order| {
        house.store().step(|step| step.order_outbox(&mail.id, &order, "kim", house.clock.now()))
    };
    let mail = house.send(&["ann@example.net"], |_| {}).await;
    house.until(&mail, &[DeliveryState::Delayed]).await;
    assert_eq!(house.recipients(&mail)[0].unanswered.as_deref(), Some("a"));
    let refused = order(&mail, OutboxOrder::Reroute("b".into()));
    assert!(matches!(&refused, Err(StoreError::MayComeTwice(said)) if said.contains("\"a\"")), "{refused:?}");
    assert_eq!((row(&mail).relay, other.heard("MAIL")), (None, 0));
    // Whoever reroutes it before that is known gets the same answer later.
    let second = house.send(&["bob@example.net"], |_| {}).await;
    hears(&silent, ".", 2).await;
    order(&second, OutboxOrder::Reroute("b".into())).unwrap();
    house.until(&second, &[DeliveryState::Delayed]).await;
    let why = row(&second).why.unwrap();
    assert!(why.contains("not rerouted to b"), "{why}");
    until(|| house.said("delivery_changed"), || house.said("delivery_changed") == why).await;
    house.rest().await;
    assert_eq!((row(&second).relay.as_deref(), other.heard("MAIL")), (Some("a"), 0));
    for mail in [&mail, &second] {
        order(mail, OutboxOrder::RerouteAnyway("b".into())).unwrap();
        house.until(mail, &[DeliveryState::Relayed]).await;
    }
    assert_eq!(other.count("ann@example.net") + other.count("bob@example.net"), 2);
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_loaded_ahead_can_be_taken_back() {
    let reroute = || OutboxOrder::Reroute("other".into());
    for order in [OutboxOrder::Cancel, OutboxOrder::Hold, reroute()] {
        let slow = Peer::led(false, |_, _| None).await;
        let mut house = House::new(vec![
            RelayConfig {
                concurrency: Some(1),
                quota: QuotaConfig { mails_per_day: Some(3), ..QuotaConfig::default() },
                ..smtp("a", slow.port)
            },
            sandbox("other"),
        ]);
        house.start(false);
        let first = house.send(&["first@example.net"], |_| {}).await;
        hears(&slow, ".", 1).await;
        let second = house.send(&["second@example.net"], |_| {}).await;
        house.rest().await;
        house.order(&second, order.clone());
        if order == reroute() {
            house.until_done(&second).await;
        }
        slow.gate.send_replace(true);
        house.until_done(&first).await;
        house.rest().await;
        assert_eq!(
            (slow.count("second@example.net"), house.kept("other")),
            (0, usize::from(order == reroute())),
            "{order:?}"
        );
        // The quota has it back: two more mails have room.
        for n in 0..2 {
            let mail = house.send(&[&format!("more{n}@example.net")], |_| {}).await;
            house.until_done(&mail).await;
        }
        if order == OutboxOrder::Hold {
            house.pass(25 * 3600);
            house.order(&second, OutboxOrder::Release);
            house.until_done(&second).await;
            assert_eq!(slow.count("second@example.net"), 1);
        }
        house.stop().await;
        house.sound();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_begins_nothing_new() {
    let slow = Peer::led(false, |_, _| None).await;
    let mut house = House::new(vec![RelayConfig { concurrency: Some(1), ..smtp("a", slow.port) }]);
    house.start(false);
    let first = house.send(&["first@example.net"], |_| {}).await;
    let second = house.send(&["second@example.net"], |_| {}).await;
    hears(&slow, ".", 1).await;
    house.rest().await;
    let (trigger, task) = house.running.take().unwrap();
    trigger.shut_down();
    tokio::time::sleep(Duration::from_millis(50)).await;
    slow.gate.send_replace(true);
    task.await.unwrap().unwrap();
    assert_eq!(house.recipients(&first)[0].state, DeliveryState::Relayed);
    assert_eq!((house.recipients(&second)[0].attempts, slow.heard("MAIL")), (0, 1));
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_recipients_are_all_tried_and_none_without_a_wait() {
    let busy = Peer::led(true, |verb, _| verb.starts_with("MAIL").then_some("451 4.3.0 busy, later\r\n")).await;
    let mut house = House::new(vec![smtp("a", busy.port)]);
    house.start(false);
    let to: Vec<String> = (0..150).map(|n| format!("u{n}@example.net")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mail = house.send(&to, |_| {}).await;
    hears(&busy, "MAIL", 2).await;
    house.rest().await;
    let rows = house.store().recipients(mail.seq, 0, 1000).unwrap();
    assert!(rows.iter().all(|row| row.attempts == 1 && row.state == DeliveryState::Delayed), "{rows:?}");
    assert_eq!(busy.heard("MAIL"), 2, "nobody is tried again before its time");
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_recipients_than_one_transaction_takes_go_in_the_next_at_once() {
    let strict = Peer::led(true, |verb, taken| {
        (verb.starts_with("RCPT") && taken >= 10).then_some("452 4.5.3 Error: too many recipients\r\n")
    })
    .await;
    let mut house = House::new(vec![smtp("a", strict.port)]);
    house.start(false);
    let to: Vec<String> = (0..40).map(|n| format!("u{n}@example.net")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mail = house.send(&to, |_| {}).await;
    house.until_done(&mail).await;
    let rows = house.store().recipients(mail.seq, 0, 1000).unwrap();
    assert!(rows.iter().all(|row| (row.attempts, row.state) == (1, DeliveryState::Relayed)), "{rows:?}");
    assert_eq!(
        (strict.heard("MAIL"), strict.taken.lock().unwrap().iter().map(|mail| mail.to.len()).sum::<usize>()),
        (4, 40)
    );
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_leaves_memory_and_places_to_the_others() {
    // Bytes of each mail for the server that hangs, bytes of memory, attempts at the same time, those of the relay.
    for (size, memory, concurrency, of_relay) in
        [(9_000, 64 << 10, 200, 5), (10, 32 << 20, 8, 16), (200_000, 64 << 10, 200, 5)]
    {
        let (slow, other) = (Peer::led(false, |_, _| None).await, Peer::led(true, |_, _| None).await);
        let mut house = House::new(vec![
            RelayConfig { concurrency: Some(of_relay), ..smtp("a", slow.port) },
            smtp("b", other.port),
        ]);
        (house.config.memory_bytes, house.config.concurrency) = (memory, concurrency);
        house.start(false);
        let mut mails = Vec::new();
        for n in 0..20 {
            let unique = MailId::fresh(house.clock.now());
            let text = format!(
                "From: {SUPPORT}\nMessage-ID: <{unique}@example.com>\n\n{}\n",
                "x".repeat(70).repeat(size / 70)
            );
            mails.push(house.send_text(&[&format!("u{n}@example.net")], OriginKind::Api, &text, |_| {}).await);
        }
        hears(&slow, ".", 1).await;
        house.rest().await;
        let mail = house.send(&["ann@example.net"], |meta| meta.relay = Some("b".into())).await;
        house.until_done(&mail).await;
        slow.gate.send_replace(true);
        for mail in &mails {
            house.pass(1);
            house.until_done(mail).await;
        }
        house.stop().await;
        house.sound();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_in_reading_a_mail_fails_nothing_and_holds_up_no_other() {
    let mut house = House::new(vec![sandbox("outbound")]);
    let text = |id: &str| format!("From: {SUPPORT}\nMessage-ID: <{id}@example.com>\n\n{}\n", "x".repeat(300_000));
    let mail = house.send_text(&["ann@example.net"], OriginKind::Api, &text("large"), |_| {}).await;
    let gone = house.send_text(&["ann@example.net"], OriginKind::Api, &text("gone"), |_| {}).await;
    let changed = house.send_text(&["ann@example.net"], OriginKind::Api, &text("changed"), |_| {}).await;
    let file = |entry: &EntryRow| {
        let stored = house.store().mail(entry.mail.unwrap()).unwrap();
        let store::MailBytes::File { path, .. } = stored.body else { panic!("it has a file") };
        path
    };
    // A folder cannot be read as a file: trouble that has nothing to do with the mail.
    let (path, aside) = (file(&mail), house.dir.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::remove_file(file(&gone)).unwrap();
    let mut bytes = std::fs::read(file(&changed)).unwrap();
    bytes[200_000] ^= 1;
    std::fs::write(file(&changed), bytes).unwrap();
    house.start(false);
    let other = house.send(&["bob@example.net"], |_| {}).await;
    house.until_done(&other).await;
    house.until(&gone, &[DeliveryState::Failed]).await;
    house.until(&changed, &[DeliveryState::Failed]).await;
    assert_eq!(house.recipients(&mail)[0].state, DeliveryState::Queued);
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    house.pass(31);
    house.until_done(&mail).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_rests_and_costs_no_quota() {
    let strict = Peer::led(true, |verb, _| verb.starts_with("AUTH").then_some("535 5.7.8 wrong\r\n")).await;
    let quota = QuotaConfig { mails_per_day: Some(10), ..QuotaConfig::default() };
    let mut house = House::new(vec![]);
    let secret = house.dir.path().join("password");
    std::fs::write(&secret, "x\n").unwrap();
    let login = |port| RelayConfig {
        user: Some("desk".into()),
        password_file: Some(secret.clone()),
        quota: quota.clone(),
        ..smtp("a", port)
    };
    house.relays = vec![login(strict.port)];
    let mut mails = Vec::new();
    for n in 0..40 {
        mails.push(house.send(&[&format!("u{n}@example.net")], |_| {}).await);
    }
    house.start(false);
    hears(&strict, "AUTH", 5).await;
    house.rest().await;
    assert!(strict.heard("AUTH") <= 10, "{} logins", strict.heard("AUTH"));
    assert_eq!(strict.heard("MAIL"), 0);
    house.stop().await;
    // The password is right again: the day's quota is all there.
    let kind = Peer::led(true, |verb, _| verb.starts_with("AUTH").then_some("235 2.7.0 welcome\r\n")).await;
    house.relays = vec![login(kind.port)];
    house.pass(120);
    house.start(false);
    hears(&kind, ".", 10).await;
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_was_held_or_blocked_has_its_time_before_it() {
    let peer = Peer::start().await;
    peer.busy.lock().unwrap().push("busy".into());
    let mut house = House::new(vec![smtp("a", peer.port)]);
    house.start(true);
    let accounts = house.accounts.clone().unwrap();
    accounts.show(&address(SUPPORT), |connection| connection.state = State::Connected);
    let held = house.send(&["busy@example.net"], |_| {}).await;
    house.until(&held, &[DeliveryState::Delayed]).await;
    house.order(&held, OutboxOrder::Hold);
    house.pass(6 * 24 * 3600);
    house.order(&held, OutboxOrder::Release);
    let attempts = async |mail: &EntryRow, most| {
        until(|| "it is tried".into(), || house.recipients(mail)[0].attempts >= most).await;
    };
    attempts(&held, 2).await;
    assert_eq!(house.recipients(&held)[0].state, DeliveryState::Delayed);
    house.order(&held, OutboxOrder::Cancel);
    // An account that is disconnected for longer than mail is kept: nothing is given up, and then all is tried.
    accounts.show(&address(SUPPORT), |connection| connection.state = State::Disconnected);
    let blocked = || {
        house.pass(1);
        !house.board.now().blocked.is_empty()
    };
    until(|| "it is seen".into(), blocked).await;
    let mail = house.send(&["busy@example.net"], |_| {}).await;
    house.rest().await;
    for _ in 0..8 {
        house.pass(24 * 3600);
        house.rest().await;
    }
    assert_eq!((house.recipients(&mail)[0].state, house.recipients(&mail)[0].attempts), (DeliveryState::Queued, 0));
    assert!(house.kinds().contains(&"mail_delayed".to_owned()), "that it is late is told all the same");
    accounts.show(&address(SUPPORT), |connection| connection.state = State::Connected);
    house.pass(5);
    attempts(&mail, 1).await;
    assert_eq!(house.recipients(&mail)[0].state, DeliveryState::Delayed);
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_restart_loses_anything_of_a_stopped_clock() {
    let peer = Peer::start().await;
    let mut house = House::new(vec![smtp("a", peer.port)]);
    house.config.give_up = Duration::from_secs(3600);
    let wants = |house: &House, wanted| {
        let row = SourceRow { channel: SUPPORT.into(), wanted, ..SourceRow::default() };
        house.store().step(|step| step.put_source(&address(SUPPORT), &row)).unwrap();
    };
    // It has used 10 of its 60 minutes when its account is disconnected.
    let mail = house.send(&["ann@example.net"], |_| {}).await;
    house.pass(600);
    wants(&house, Wanted::Disconnected);
    let blocked = house.clock.now();
    for _ in 0..4 {
        house.start(true);
        let clocks = || house.store().clocks().unwrap();
        until(|| "its clock stands still".into(), || !clocks().is_empty()).await;
        assert_eq!(clocks()[0].since, blocked);
        house.pass(50 * 60);
        house.rest().await;
        house.stop().await;
        house.pass(60);
        house.restart_store();
    }
    wants(&house, Wanted::Connected);
    let free = house.clock.now();
    house.start(true);
    let given = || house.store().outbox_row(mail.seq).unwrap().unwrap();
    until(|| format!("{:?}", given()), || given().since != given().created_at).await;
    assert_eq!(given().since.duration_since(given().created_at), free.duration_since(blocked));
    house.until(&mail, &[DeliveryState::Relayed]).await;
    assert!(house.store().clocks().unwrap().is_empty());
    house.stop().await;
    house.sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_are_asked_again_when_mail_is_sent() {
    let peer = Peer::start().await;
    peer.busy.lock().unwrap().extend(["bot".into(), "ann".into()]);
    let mut house = House::new(vec![smtp("a", peer.port)]);
    house.config.retry_waits = vec![Duration::from_secs(3600)];
    house.start(false);
    house.receive(Some("ann@example.net"), QUESTION).await;
    let mail = house.send(&["bot@robot.example", "ann@example.net"], |meta| meta.ticket = Some(1)).await;
    house.until(&mail, &[DeliveryState::Delayed, DeliveryState::Delayed]).await;
    house.never.store(Arc::new(vec![Pattern::parse("*@robot.example").unwrap()]));
    peer.busy.lock().unwrap().clear();
    house.pass(61);
    house.order(&mail, OutboxOrder::Retry);
    house.until(&mail, &[DeliveryState::Filtered, DeliveryState::Relayed]).await;
    house.until_done(&mail).await;
    assert_eq!(peer.count("bot@robot.example"), 0);
    let notes = house.store().entries_of(1, 99).unwrap();
    assert!(notes.iter().any(|row| row.note.as_deref().is_some_and(|note| note.contains("bot@robot.example"))));
    // An address that was suppressed while its mail waited.
    peer.busy.lock().unwrap().push("bad".into());
    let waits = house.send(&["bad@example.net"], |_| {}).await;
    house.until(&waits, &[DeliveryState::Delayed]).await;
    peer.busy.lock().unwrap().clear();
    house.pass(61);
    for _ in 0..3 {
        let mail = house.send(&["bad@example.net"], |_| {}).await;
        house.until(&mail, &[DeliveryState::Failed]).await;
    }
    house.order(&waits, OutboxOrder::Retry);
    house.until(&waits, &[DeliveryState::Suppressed]).await;
    house.stop().await;
    house.sound();
}
