//! What becomes of mail, as scenarios: each file in `tests/scenarios` is a sequence of mails with what is expected.
//!
//! The whole way from the door's hand-over to the filed entry is run, with a real store in a temporary directory. A
//! file's lines: `#` begins a comment; `channel ADDRESS` and `intake ADDRESS` set the house up; `mail FROM > RCPT…`
//! begins a forwarded mail and `pull FROM > RCPT` one from the mailbox of that address; it ends at a line that begins with `=>`; that line says what is expected, one entry a line.
//! `{reply:N}` and `{token:N}` stand for the signed address and token of ticket N. `close N`, `reopen N`, `merge N M`
//! are what people do; `restart` closes the store and opens it again.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use ticketgate::clock::Clock;
use ticketgate::filing::{self, Worker};
use ticketgate::intake::{self, Arrival, Intake, Refusal};
use ticketgate::mail::auth::AuthResults;
use ticketgate::mail::origin::{OriginKind, RemoteMessage};
use ticketgate::mail::{Address, Envelope, MailId, Origin};
use ticketgate::metrics::Metrics;
use ticketgate::store::rows::SourceRow;
use ticketgate::store::{self, Store, StoreError};
use ticketgate::ticket::channel::{Channel, Directory};
use ticketgate::ticket::letter::reply_address;
use ticketgate::ticket::token::TokenKeys;

#[path = "support/channel.rs"]
mod settled;
use settled::channel;

/// A house with a store, channels, an intake and a filing worker.
struct House {
    dir: tempfile::TempDir,
    /// `None` only between two lives of the store.
    life: Option<Store>,
    directory: Arc<ArcSwap<Directory>>,
    keys: TokenKeys,
    clock: Clock,
    metrics: Metrics,
    filing: filing::Config,
    seen: u64,
    /// The last uid of the mailboxes.
    uid: u32,
}

impl House {
    fn new(channels: Vec<Channel>, intakes: Vec<Address>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::from_fn(|| Timestamp::from_second(1_795_000_000).unwrap());
        let metrics = Metrics::new();
        let store = open(dir.path(), &clock);
        let directory = Arc::new(ArcSwap::from_pointee(Directory::new(channels, vec![], intakes, None)));
        Self {
            dir,
            life: Some(store),
            directory,
            keys: TokenKeys::new(vec![[7; 32]]),
            clock,
            metrics,
            filing: filing::Config::default(),
            seen: 0,
            uid: 0,
        }
    }

    fn restart(&mut self) {
        // The old handle goes first: a data directory has one owner at a time.
        if let Some(store) = self.life.take() {
            store.close();
        }
        self.life = Some(open(self.dir.path(), &self.clock));
    }

    fn store(&self) -> &Store {
        self.life.as_ref().unwrap()
    }

    async fn mail(&mut self, from: &str, to: &[String], text: &str) -> Vec<String> {
        self.arrive(OriginKind::Smtp, from, to, text).await
    }

    async fn arrive(&mut self, kind: OriginKind, from: &str, to: &[String], text: &str) -> Vec<String> {
        let config = Arc::new(ArcSwap::from_pointee(intake::Config::default()));
        let intake = Intake::new(self.store().clone(), self.directory.clone(), config, self.metrics.clone());
        let id = MailId::fresh(self.clock.now());
        let mut body = intake.body(id);
        body.push(text.as_bytes()).await.unwrap();
        let body = body.finish().await.unwrap();
        let envelope = Envelope {
            mail_from: Address::parse(from).ok(),
            rcpt_to: to.iter().map(|rcpt| Address::parse(rcpt).unwrap()).collect(),
        };
        self.uid += 1;
        let channel = envelope.rcpt_to[0].clone();
        if kind == OriginKind::Imap {
            let source = SourceRow { channel: channel.to_string(), validity: 1, ..SourceRow::default() };
            let written: Result<(), StoreError> = self.store().step(|step| step.put_source(&channel, &source));
            written.unwrap();
        }
        let remote = RemoteMessage { channel, validity: 1, uid: self.uid, backfill: false };
        let origin = Origin {
            kind,
            peer: "192.0.2.1".into(),
            helo: Some("mx.example.org".into()),
            tls: None,
            client_certificate: None,
            auth: AuthResults::default(),
            remote: (kind == OriginKind::Imap).then_some(remote),
        };
        let arrival = Arrival { id, received_at: self.clock.now(), envelope, origin, body };
        match intake.accept(arrival).await {
            Ok(_) => self.file(),
            Err(Refusal::Permanent(reason)) => vec![format!("refused {reason}")],
            Err(other) => panic!("our own trouble: {other:?}"),
        }
    }

    /// Files what is spooled and tells what became of it.
    fn file(&mut self) -> Vec<String> {
        let worker = self.worker();
        let mut reader = worker.reader().unwrap();
        while worker.file_batch(&mut reader).unwrap() > 0 {}
        let rows = self.store().entries(self.seen, 100).unwrap();
        self.seen = rows.last().map_or(self.seen, |row| row.seq);
        rows.iter().map(|row| self.told(row)).collect()
    }

    fn worker(&self) -> Worker {
        Worker {
            store: self.store().clone(),
            directory: self.directory.clone(),
            keys: self.keys.clone(),
            loops: Arc::default(),
            config: self.filing.clone(),
            header_limit: 1 << 18,
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// One entry in the words of the scenarios.
    fn told(&self, row: &store::rows::EntryRow) -> String {
        let mut words = vec![row.filing.clone()];
        let mut word = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.push(format!("{name}={value}"));
            }
        };
        word("reason", row.reason.clone());
        word("ticket", row.ticket.map(|ticket| ticket.to_string()));
        word("by", row.matched_by.clone());
        word("related", row.related.map(|ticket| ticket.to_string()));
        word("channel", (self.directory.load().channels().len() > 1).then(|| row.channel.clone()));
        if row.needs_review {
            words.push("review".into());
        }
        words.join(" ")
    }

    fn step(&mut self, words: &[&str]) {
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        let now = self.clock.now();
        let done: Result<(), StoreError> = self.store().step(|step| match words[0] {
            "close" => step.close(number(1), "tester", now).map(drop),
            "reopen" => step.reopen(number(1), "tester", now).map(drop),
            "merge" => step.merge(number(1), number(2), "tester", now).map(drop),
            other => panic!("unknown step {other:?}"),
        });
        done.unwrap();
    }

    /// Puts the signed addresses and tokens in.
    fn fill(&self, text: &str) -> String {
        let directory = self.directory.load();
        let channel = directory.default_channel().unwrap();
        (1..10).fold(text.to_owned(), |text, number| {
            let reply = reply_address(channel, number, &self.keys).unwrap().to_string();
            let token = self.keys.sign(number).unwrap();
            text.replace(&format!("{{reply:{number}}}"), &reply).replace(&format!("{{token:{number}}}"), &token)
        })
    }
}

fn open(dir: &Path, clock: &Clock) -> Store {
    let config = store::Config { low_water_bytes: 0, ballast_bytes: 0, ..store::Config::default() };
    Store::open(dir, &config, clock.clone()).unwrap().0
}

async fn run(name: &str, text: &str) {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let named = |word: &str| lines.iter().filter_map(|line| line.strip_prefix(word)).map(str::trim).collect::<Vec<_>>();
    let channels = named("channel ").into_iter().map(channel).collect();
    let intakes = named("intake ").into_iter().map(|address| Address::parse(address).unwrap()).collect();
    let mut house = House::new(channels, intakes);
    let mut rest = lines.into_iter().enumerate().peekable();
    while let Some((number, line)) = rest.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            None | Some(&"channel" | &"intake") => {}
            Some(&"restart") => house.restart(),
            Some(&("mail" | "pull")) => {
                let kind = if words[0] == "mail" { OriginKind::Smtp } else { OriginKind::Imap };
                let (from, to) = line["mail ".len()..].split_once('>').expect("mail FROM > RCPT");
                let to: Vec<String> = to.split_whitespace().map(|rcpt| house.fill(rcpt)).collect();
                let mut mail = String::new();
                while let Some((_, line)) = rest.next_if(|(_, line)| !line.starts_with("=>")) {
                    mail.push_str(&house.fill(line));
                    mail.push_str("\r\n");
                }
                let got = house.arrive(kind, from.trim(), &to, &mail).await;
                let mut want = Vec::new();
                while let Some((_, line)) = rest.next_if(|(_, line)| line.starts_with("=>")) {
                    want.push(line[2..].trim().to_owned());
                }
                assert_eq!(got, want, "{name}, the mail at line {}", number + 1);
            }
            Some(_) => house.step(&words),
        }
    }
    let report = house.store().fsck(store::Depth::Deep).unwrap();
    assert!(report.findings.is_empty(), "{name}: {:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_ends_as_it_says() {
    let mut files: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        run(&file.display().to_string(), &std::fs::read_to_string(&file).unwrap()).await;
    }
}

/// A header section over the limit is refused, however far it goes, and one just under it is not; whether the mail is
/// kept in memory or in a file of its own makes no difference.
#[tokio::test(flavor = "multi_thread")]
async fn header_sections_are_measured_whole() {
    let mut house = House::new(vec![channel("support@example.com")], vec![]);
    let to = ["support@example.com".to_owned()];
    let mut send = async |filler: usize| {
        let field = format!("X-Filler: {}\r\n", "x".repeat(988));
        let head = format!("From: ann@example.org\r\nMessage-ID: <{filler}@example.org>\r\n");
        let mail = format!("{head}{}\r\nHello\r\n", field.repeat(filler));
        house.mail("ann@example.org", &to, &mail).await.pop().unwrap()
    };
    assert_eq!(send(250).await, "opened ticket=1");
    assert_eq!(send(300).await, "refused header_too_large");
    assert_eq!(send(2000).await, "refused header_too_large");
}

/// A mail in quarantine is filed once the limit that kept it there is raised and somebody asks; the first entry stays
/// and says so. Nothing behind it waited.
#[tokio::test(flavor = "multi_thread")]
async fn quarantine_holds_one_mail_and_a_retry_frees_it() {
    let mut house = House::new(vec![channel("support@example.com")], vec![]);
    let to = ["support@example.com".to_owned()];
    let parts = "--b\r\n\r\npart\r\n".repeat(30);
    let head = "From: ann@example.org\r\nMessage-ID: <q1@example.org>\r\nSubject: Many\r\n";
    let many = format!("{head}Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n");
    house.filing.max_parts = 10;
    assert_eq!(house.mail("ann@example.org", &to, &many).await, ["quarantined reason=too_many_parts"]);
    let plain = "From: bob@example.org\r\nMessage-ID: <p1@example.org>\r\n\r\nHello\r\n";
    assert_eq!(house.mail("bob@example.org", &to, plain).await, ["opened ticket=1"]);
    let now = house.clock.now();
    // Each try leaves an entry; the newest is the one to try again.
    let retry = |house: &House| {
        let entry = house.store().find_message("q1@example.org").unwrap().pop().unwrap();
        let tried: Result<(), StoreError> = house.store().step(|step| step.retry(&entry.id, "tester", now).map(drop));
        tried.unwrap();
    };
    retry(&house);
    assert_eq!(house.file(), ["quarantined reason=too_many_parts"], "the limit is what it was");
    house.filing.max_parts = 100;
    house.restart();
    retry(&house);
    assert_eq!(house.file(), ["opened ticket=2"]);
    assert!(house.store().fsck(store::Depth::Deep).unwrap().findings.is_empty());
}

#[tokio::test]
async fn a_large_mail_whose_bytes_have_changed_goes_to_quarantine() {
    let channel = channel("support@localhost");
    let to = [channel.address.to_string()];
    let mut house = House::new(vec![channel], Vec::new());
    house.filing.batch = 0;
    let large = format!("From: ann@example.org\r\nSubject: q\r\n\r\n{}", "x\r\n".repeat(100_000));
    house.mail("ann@example.org", &to, &large).await;
    let mail = house.store().spooled(1, u64::MAX).unwrap().remove(0);
    let store::MailBytes::File { path, .. } = &mail.body else { panic!("it has a file") };
    let mut bytes = std::fs::read(path).unwrap();
    bytes[200_000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    house.filing.batch = 10;
    assert_eq!(house.file(), ["quarantined reason=damaged"]);
}

#[tokio::test]
async fn what_is_read_ahead_is_filed_in_turn_and_what_is_tried_again_goes_first() {
    let channel = channel("support@localhost");
    let to = [channel.address.to_string()];
    let mut house = House::new(vec![channel], Vec::new());
    house.filing.max_parts = 1;
    let nested = "From: ann@example.org\r\nSubject: q\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n";
    let filed = house.mail("ann@example.org", &to, nested).await;
    assert!(filed[0].starts_with("quarantined"), "{filed:?}");
    // With room for nothing in a batch, mail only waits.
    (house.filing.max_parts, house.filing.batch) = (10, 0);
    for name in ["1", "2", "3", "4", "5"] {
        house
            .mail("ann@example.org", &to, &format!("From: ann@example.org\r\nSubject: {name}\r\n\r\n{name}\r\n"))
            .await;
    }
    house.filing.batch = 2;
    let worker = house.worker();
    let mut reader = worker.reader().unwrap();
    assert_eq!((worker.file_batch(&mut reader).unwrap(), reader.has_begun()), (2, true));
    let quarantined = house.store().entries(0, 1).unwrap().remove(0).id;
    let again: Result<_, StoreError> = house.store().step(|step| step.retry(&quarantined, "eve", house.clock.now()));
    again.unwrap();
    assert_eq!((worker.file_batch(&mut reader).unwrap(), reader.has_begun()), (2, false), "read before the order");
    assert_eq!(
        (worker.file_batch(&mut reader).unwrap(), reader.has_begun()),
        (2, false),
        "the order is carried out first"
    );
    assert_eq!((worker.file_batch(&mut reader).unwrap(), worker.file_batch(&mut reader).unwrap()), (0, 0));
    let rows = house.store().entries(0, 100).unwrap();
    let subjects: Vec<&str> = rows.iter().map(|row| row.subject.as_str()).collect();
    assert_eq!(subjects, ["q", "1", "2", "3", "4", "q", "5"]);
}
