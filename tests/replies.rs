//! Answers from the order to the entry: a real store, real filing, and mail that is read back as a recipient reads it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ticketgate::clock::Clock;
use ticketgate::config::Config;
use ticketgate::desk::reply::{About, Order, Replied};
use ticketgate::desk::{Desk, DeskError, EntryView, Replies};
use ticketgate::filing::Worker;
use ticketgate::mail::compose::{Body, Enclosure, Words};
use ticketgate::mail::message::{self, Limits};
use ticketgate::mail::origin::{OriginKind, RemoteMessage};
use ticketgate::mail::{Address, Class, Envelope, Origin};
use ticketgate::metrics::Metrics;
use ticketgate::outbox;
use ticketgate::relay::{Kind, RelayConfig};
use ticketgate::shutdown;
use ticketgate::store::rows::EntryKind;
use ticketgate::store::{Delivery, Depth, OutgoingMeta, Store, StoreError};
use ticketgate::ticket::Directory;
use ticketgate::ticket::token::TokenKeys;

#[path = "support/parts.rs"]
mod parts;

const QUESTION: &str = "From: Ada <ada@example.org>\r\nTo: support@localhost\r\nCc: Bob <bob@example.org>\r\n\
    Subject: AW: Printer\r\nMessage-ID: <two@example.org>\r\nReferences: <zero@example.org> <one@example.org>\r\n\
    Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nIt is on fire.\r\n> Is it?\r\n";

/// A store with its filing, and somebody who answers.
struct Bed {
    store: Store,
    desk: Desk,
    replies: Replies,
    keys: TokenKeys,
    directory: Arc<ArcSwap<Directory>>,
    trigger: Option<shutdown::Trigger>,
    filing: Option<std::thread::JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Bed {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.filing.interval = Duration::from_millis(1);
        change(&mut config);
        let clock = Clock::system();
        let (store, _) = Store::open(&dir.path().join("data"), &config.store, clock.clone()).unwrap();
        let keys = TokenKeys::new(vec![[7; 32]]);
        let directory = Arc::new(ArcSwap::from_pointee(config.directory()));
        let desk = Desk::new(store.clone(), clock.clone(), Limits::default());
        let replies = Replies::new(
            desk.clone(),
            Arc::clone(&directory),
            keys.clone(),
            Arc::new(ArcSwap::from_pointee(config.letters().unwrap())),
            Arc::new(ArcSwap::from_pointee(config.replies.clone())),
        );
        let worker = Worker {
            store: store.clone(),
            directory: Arc::clone(&directory),
            keys: keys.clone(),
            header_limit: config.intake.header_limit(),
            loops: Arc::new(ArcSwap::from_pointee(config.loops.loops())),
            config: config.filing,
            clock,
            metrics: Metrics::new(),
        };
        let (trigger, shutdown) = shutdown::channel();
        let runtime = tokio::runtime::Handle::current();
        let filing = std::thread::spawn(move || worker.run(&runtime, shutdown).unwrap());
        Self { store, desk, replies, keys, directory, trigger: Some(trigger), filing: Some(filing), dir }
    }

    /// A mail comes in; returns once it is filed.
    async fn receive(&self, raw: &str, from: Option<&str>) -> String {
        self.receive_as(raw, from, None).await
    }

    /// A mail that may have been pulled from a mailbox.
    async fn receive_as(&self, raw: &str, from: Option<&str>, remote: Option<RemoteMessage>) -> String {
        let address = Address::parse("support@localhost").unwrap();
        let mail = parts::Arrival {
            at: Clock::system().now(),
            envelope: Envelope {
                mail_from: from.map(|from| Address::parse(from).unwrap()),
                rcpt_to: vec![address.clone()],
            },
            origin: Origin { remote, ..parts::origin(OriginKind::Smtp) },
            deliveries: vec![Delivery { channel: address.clone(), rcpt_to: vec![address] }],
            outgoing: None,
        };
        let id = parts::spool(&self.store, mail, raw.as_bytes()).await.to_string();
        self.until(|| self.store.entry(&id).unwrap().is_some()).await;
        id
    }

    async fn until(&self, done: impl Fn() -> bool) {
        let mut progress = self.store.watch();
        let wait = async {
            loop {
                progress.mark_unchanged();
                if done() {
                    return;
                }
                progress.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it happens in time");
    }

    async fn reply(&self, order: Order) -> Result<EntryView, DeskError> {
        match self.replies.reply(order).await? {
            Replied::Filed(view) => Ok(*view),
            Replied::Accepted(id) => panic!("{id} was not filed in time"),
        }
    }

    /// An outbox whose only relay is the sandbox.
    fn outbox(&self) -> outbox::Worker {
        let sandbox = RelayConfig {
            name: "sandbox".into(),
            kind: Kind::Maildir,
            path: Some("outbound".into()),
            ..RelayConfig::default()
        };
        let (dir, dns) = (self.dir.path(), Default::default());
        parts::outbox(&self.store, dir, &[sandbox], dns, &self.directory, &Clock::system())
    }

    fn raw(&self, id: &str) -> String {
        String::from_utf8(self.desk.raw(id).unwrap().read().unwrap().into_owned()).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.trigger.take().unwrap().shut_down();
        let _ = self.filing.take().unwrap().join();
    }
}

fn order(text: &str) -> Order {
    let words = Words { body: Body::Text(text.into()), html: None };
    let about = About::Ticket(1);
    Order { about, author: "eve".into(), peer: "uid 1".into(), words, ..Order::default() }
}

/// A mail that opens a ticket.
fn first(text: &str) -> Order {
    Order {
        about: About::New("Support@localhost".into()),
        to: vec!["Ada <ada@example.org>".into(), "bob@example.org".into()],
        subject: Some(" Your printer ".into()),
        ..order(text)
    }
}

/// The value of a header field, unfolded.
fn field(raw: &str, name: &str) -> Option<String> {
    let parsed = message::parse(raw.as_bytes(), &Limits::default()).unwrap();
    parsed.headers().values(name).next().map(|value| value.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_threaded_signed_and_branded() {
    let bed = Bed::new(|_| {});
    bed.receive(QUESTION, Some("ada@example.org")).await;
    let view = bed.reply(Order { quote: true, everybody: true, ..order("Take the stairs.") }).await.unwrap();
    assert_eq!(
        (view.row.filing.as_str(), view.row.ticket, view.row.author.as_deref()),
        ("appended", Some(1), Some("eve"))
    );
    let raw = bed.raw(&view.row.id);
    let want = [
        ("From", "\"Support\" <support@localhost>"),
        ("To", "\"Ada\" <ada@example.org>"),
        ("Cc", "<bob@example.org>"),
        ("Subject", "Re: Printer"),
        ("In-Reply-To", "<two@example.org>"),
        ("References", "<zero@example.org> <one@example.org> <two@example.org>"),
        ("X-Auto-Response-Suppress", "All"),
        ("X-Mailer", "Ticketgate Mailer"),
        ("X-Ticketgate-Email-Id", view.row.id.as_str()),
    ];
    for (name, want) in want {
        assert_eq!(field(&raw, name).as_deref(), Some(want), "{name} of\n{raw}");
    }
    assert_eq!(field(&raw, "Auto-Submitted"), None);
    assert_eq!(field(&raw, "X-Ticketgate-From-Account-Id").unwrap().len(), 13);
    let mail = view.mail.as_ref().unwrap();
    let token = |address: &Address| bed.keys.verify_address(address);
    assert_eq!(bed.keys.verify(mail.summary.message_id.as_ref().unwrap()), Some(1));
    assert_eq!(token(&Address::parse(&mail.summary.reply_to[0].address).unwrap()), Some(1));
    assert_eq!(token(mail.meta.envelope.mail_from.as_ref().unwrap()), Some(1));
    assert_eq!(mail.content.new_text.trim(), "Take the stairs.");
    let quoted = "On 22 Nov 2026 at 10:00 UTC, Ada <ada@example.org> wrote:\n> It is on fire.\n>> Is it?";
    assert!(mail.content.text.contains(quoted), "{}", mail.content.text);
    // The customer's answer finds its way back by what our mail carries.
    let id = mail.summary.message_id.clone().unwrap();
    let back = format!("From: c@example.net\r\nSubject: x\r\nMessage-ID: <b@x>\r\nIn-Reply-To: <{id}>\r\n\r\nok\r\n");
    let back = bed.receive(&back, Some("c@example.net")).await;
    assert_eq!(bed.store.entry(&back).unwrap().unwrap().ticket, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_under_the_same_key_is_carried_out_once() {
    let bed = Bed::new(|_| {});
    bed.receive(QUESTION, Some("ada@example.org")).await;
    let keyed = |text: &str| Order { key: Some("k1".into()), ..order(text) };
    let first = bed.reply(keyed("Yes.")).await.unwrap();
    let again = bed.reply(keyed("Yes.")).await.unwrap();
    assert_eq!(first.row.id, again.row.id);
    let refused = bed.reply(keyed("No.")).await.unwrap_err();
    assert!(matches!(&refused, DeskError::NotPossible(said) if said.contains(&first.row.id)), "{refused}");
    let other = bed.reply(Order { key: Some("k2".into()), ..order("Yes.") }).await.unwrap();
    assert_ne!(other.row.id, first.row.id);
    let (both, none) = tokio::join!(bed.replies.reply(keyed("Yes.")), bed.replies.reply(order("Yes.")));
    assert!(both.is_ok() && none.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_cannot_be_carried_out_say_why() {
    let bed = Bed::new(|config| {
        config.replies.max_recipients = 2;
        config.replies.max_mail_bytes = 100_000;
    });
    bed.receive(QUESTION, Some("ada@example.org")).await;
    let file = |bytes: usize| Enclosure {
        name: "f".into(),
        content_type: String::new(),
        bytes: vec![0; bytes],
        content_id: None,
    };
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let table = [
        (Order { about: About::Ticket(9), ..order("x") }, "there is no ticket 9"),
        (
            Order { about: About::New("x@y.example".into()), ..first("x") },
            "channel: \"x@y.example\" is no support address",
        ),
        (Order { to: Vec::new(), ..first("x") }, "to: nobody is named"),
        (Order { to: list(&["a@b.example, c@d.example"]), ..first("x") }, "; give each address by itself"),
        (Order { subject: Some(" ".into()), ..first("x") }, "subject: there is none"),
        (Order { close: true, ..first("x") }, "close: a ticket is not closed by the mail that opens it"),
        (first(" "), "there is nothing to send"),
        (order(" \n"), "there is nothing to send"),
        (Order { author: " ".into(), ..order("x") }, "an author is a name"),
        (Order { to: list(&["nonsense"]), ..order("x") }, "to: \"nonsense\" is not an address"),
        (Order { to: list(&["a@b.example\r\nBcc: c@d"]), ..order("x") }, "is not an address"),
        (Order { cc: list(&["Support@localhost"]), ..order("x") }, "cc: Support@localhost is the support address"),
        (Order { cc: list(&["support+x@localhost"]), ..order("x") }, "mail to it would loop"),
        (
            Order { cc: list(&["a@b.example", "c@d.example"]), ..order("x") },
            "3 recipients; replies.max_recipients is 2",
        ),
        (Order { attachments: vec![file(100_001)], ..order("x") }, "replies.max_mail_bytes is 100kB"),
        // In base64 it is larger.
        (Order { attachments: vec![file(80_000)], ..order("x") }, "replies.max_mail_bytes is 100kB"),
        (Order { key: Some(String::new()), ..order("x") }, "an idempotency key has"),
    ];
    for (order, want) in table {
        let said = bed.reply(order).await.unwrap_err().to_string();
        assert!(said.contains(want), "{said}\n  should have\n{want}");
    }
    assert_eq!(bed.desk.ticket(1).unwrap().1.len(), 1, "nothing was sent");
    assert_eq!(bed.store.stats().tickets, 1, "no number was used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_and_closed_tickets_are_answered() {
    let bed = Bed::new(|_| {});
    bed.receive(QUESTION, Some("ada@example.org")).await;
    let other = QUESTION.replace("two@", "three@").replace("References: <zero@example.org> <one@example.org>\r\n", "");
    bed.receive(&other, Some("ada@example.org")).await;
    bed.desk.merge(1, 2, "eve").unwrap();
    let view = bed.reply(Order { close: true, ..order("Done.") }).await.unwrap();
    assert_eq!(view.row.ticket, Some(2));
    let state = |number| bed.store.ticket(number).unwrap().unwrap().state;
    assert_eq!(format!("{:?}", state(2)), "Closed");
    // A word after the end does not begin the case anew; only the customer's does.
    bed.reply(Order { about: About::Ticket(2), ..order("One more thing.") }).await.unwrap();
    assert_eq!(format!("{:?}", state(2)), "Closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_opened_by_a_mail_of_ours_and_its_answer_joins_it() {
    let bed = Bed::new(|_| {});
    let view = bed.reply(first("It is ready.")).await.unwrap();
    let row = &view.row;
    assert_eq!((row.filing.as_str(), row.ticket, row.author.as_deref()), ("opened", Some(1), Some("eve")));
    assert_eq!((row.kind, row.queue.as_str()), (EntryKind::Outbound, "Support"));
    let ticket = bed.store.ticket(1).unwrap().unwrap();
    assert_eq!((ticket.title.as_str(), ticket.entries, ticket.changed), ("Your printer", 1, row.seq));
    assert_eq!((ticket.requester.name.as_str(), ticket.requester.address.as_str()), ("Ada", "ada@example.org"));
    assert_eq!(ticket.participants, ["ada@example.org", "bob@example.org"]);
    let to = bed.store.recipients(row.seq, 0, 9).unwrap();
    assert_eq!(to.iter().map(|to| to.state.as_str()).collect::<Vec<_>>(), ["queued", "queued"]);
    let mail = view.mail.as_ref().unwrap();
    let back = Address::parse(&mail.summary.reply_to[0].address).unwrap();
    let id = mail.summary.message_id.clone().unwrap();
    assert_eq!(bed.keys.verify(&id), Some(1));
    assert_eq!(bed.keys.verify_address(&back), Some(1));
    assert_eq!(bed.keys.verify_address(mail.meta.envelope.mail_from.as_ref().unwrap()), Some(1));
    let raw = bed.raw(&row.id);
    let want = [("Subject", Some("Your printer")), ("In-Reply-To", None), ("References", None)];
    for (name, want) in want {
        assert_eq!(field(&raw, name).as_deref(), want, "{name} of\n{raw}");
    }
    // One answers by the Reply-To address alone, the other by what his mail program refers to.
    let answers = [
        format!("From: ada@example.org\r\nTo: {back}\r\nSubject: x\r\nMessage-ID: <a@x>\r\n\r\nFine.\r\n"),
        format!("From: bob@example.org\r\nSubject: x\r\nMessage-ID: <b@x>\r\nIn-Reply-To: <{id}>\r\n\r\nOk.\r\n"),
    ];
    for answer in answers {
        let answer = bed.receive(&answer, Some("ada@example.org")).await;
        let answer = bed.store.entry(&answer).unwrap().unwrap();
        assert_eq!((answer.ticket, answer.filing.as_str(), answer.needs_review), (Some(1), "appended", false));
    }
    // What comes in later has the next number.
    let other = bed.receive(QUESTION, Some("ada@example.org")).await;
    assert_eq!(bed.store.entry(&other).unwrap().unwrap().ticket, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_opened_once_under_one_key() {
    let bed = Bed::new(|_| {});
    let keyed = || Order { key: Some("k1".into()), ..first("It is ready.") };
    let opened = bed.reply(keyed()).await.unwrap();
    let again = bed.reply(keyed()).await.unwrap();
    assert_eq!((&opened.row.id, again.row.ticket), (&again.row.id, Some(1)));
    let refused = bed.reply(Order { subject: Some("Other".into()), ..keyed() }).await.unwrap_err();
    assert!(refused.to_string().contains("was used for another mail"), "{refused}");
    let refused = bed.reply(Order { key: Some("k1".into()), ..order("It is ready.") }).await.unwrap_err();
    assert!(matches!(refused, DeskError::NotPossible(_)), "{refused}");
    assert_eq!((bed.store.stats().tickets, bed.store.entries(0, 9).unwrap().len()), (1, 1));
    // A second record under the key, as after a crash between the log and filing, opens nothing.
    let stored = bed.store.mail(opened.row.mail.unwrap()).unwrap();
    let number = bed.store.step::<_, StoreError>(|step| step.set_ticket_number_aside()).unwrap();
    let meta = stored.meta;
    let mail = parts::Arrival {
        at: Clock::system().now(),
        envelope: meta.envelope,
        origin: meta.origin,
        deliveries: meta.deliveries,
        outgoing: meta.outgoing.map(|meta| OutgoingMeta { ticket: Some(number), ..meta }),
    };
    let id = parts::spool(&bed.store, mail, &stored.body.read().unwrap()).await.to_string();
    bed.until(|| bed.store.entry(&id).unwrap().is_some()).await;
    let repeated = bed.store.entry(&id).unwrap().unwrap();
    assert_eq!((repeated.filing.as_str(), repeated.ticket), ("duplicate", Some(1)));
    assert!(bed.store.ticket(number).unwrap().is_none());
    assert_eq!(bed.store.fsck(Depth::Deep).unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_acknowledged_once_and_machines_never() {
    let bed = Bed::new(|config| config.channels[0].acknowledge = true);
    let (trigger, shutdown) = shutdown::channel();
    let worker = tokio::spawn(bed.replies.clone().run_acknowledgements(shutdown));
    let backfill =
        RemoteMessage { channel: Address::parse("support@localhost").unwrap(), validity: 1, uid: 1, backfill: true };
    let mail = |id: &str, more: &str| {
        format!(
            "From: Ada <ada{id}@example.org>\r\nTo: support@localhost\r\nSubject: Re: q{id}\r\n\
             Message-ID: <{id}@example.org>\r\n{more}\r\nx\r\n"
        )
    };
    let table = [
        (mail("0", "References: <a@x> <b@x>\r\n"), Some("ada@example.org"), None, true),
        (mail("1", "Auto-Submitted: auto-replied\r\n"), Some("ada@example.org"), None, false),
        (mail("2", "Precedence: bulk\r\n"), Some("ada@example.org"), None, false),
        (mail("3", "List-Id: <users.x>\r\n"), Some("ada@example.org"), None, false),
        (mail("4", "X-Auto-Response-Suppress: All\r\n"), Some("ada@example.org"), None, false),
        (mail("5", ""), None, None, false),
        (mail("6", ""), Some("ada@example.org"), Some(backfill), false),
        (mail("7", "").replace("ada7@example.org", "support@localhost"), Some("ada@example.org"), None, false),
        // A follow-up, which opens no ticket.
        (mail("8", "In-Reply-To: <0@example.org>\r\n").replace("ada8@", "ada0@"), Some("ada@example.org"), None, false),
        (mail("9", ""), Some("ada@example.org"), None, true),
    ];
    let mut wanted = Vec::new();
    for (raw, from, remote, answered) in table {
        let id = bed.receive_as(&raw, from, remote).await;
        if answered {
            wanted.push(id);
        }
    }
    let acks = || {
        let rows = bed.store.entries(0, 100).unwrap().into_iter();
        rows.filter(|row| row.kind == EntryKind::Outbound).collect::<Vec<_>>()
    };
    bed.until(|| acks().len() >= wanted.len() && bed.store.acknowledgements(9).unwrap().is_empty()).await;
    let rows = acks();
    let views: Vec<EntryView> = rows.iter().map(|row| bed.desk.entry(&row.id).unwrap()).collect();
    let answers = |view: &EntryView| view.mail.as_ref().unwrap().meta.outgoing.as_ref().unwrap().answers.clone();
    assert_eq!(views.iter().filter_map(answers).collect::<Vec<_>>(), wanted);
    let mail = views[0].mail.as_ref().unwrap();
    let meta = mail.meta.outgoing.as_ref().unwrap();
    assert_eq!((meta.class, meta.key.clone()), (Class::Automatic, Some(format!("ack-{}", wanted[0]))));
    assert_eq!((rows[0].ticket, rows[0].filing.as_str()), (Some(1), "appended"));
    assert_eq!(bed.keys.verify_address(mail.meta.envelope.mail_from.as_ref().unwrap()), Some(1));
    let raw = bed.raw(&rows[0].id);
    let want = [
        ("To", "\"Ada\" <ada0@example.org>"),
        ("Subject", "Re: q0"),
        ("In-Reply-To", "<0@example.org>"),
        ("References", "<a@x> <b@x> <0@example.org>"),
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
    ];
    for (name, want) in want {
        assert_eq!(field(&raw, name).as_deref(), Some(want), "{name} of\n{raw}");
    }
    assert!(mail.content.text.contains("Its number is 1."), "{}", mail.content.text);
    // Another worker, as after a crash before the word was taken back, changes nothing.
    bed.store
        .step(|step| step.owe_acknowledgement(&bed.store.entry(&wanted[0]).unwrap().unwrap(), Clock::system().now()))
        .unwrap();
    bed.until(|| bed.store.acknowledgements(9).unwrap().is_empty()).await;
    assert_eq!(acks().len(), wanted.len());
    trigger.shut_down();
    worker.await.unwrap();
}

/// Of two mails the first has a subject that makes its acknowledgement too long: the second one is acknowledged all the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_cannot_be_written_keeps_back_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let template = dir.path().join("ack.txt");
    std::fs::write(&template, format!("Subject: x\n\n{}", "{{ticket.title}}".repeat(3_000))).unwrap();
    let bed = Bed::new(|config| {
        config.channels[0].acknowledge = true;
        config.channels[0].acknowledgement = Some(template);
    });
    let mail = |id: &str, subject: &str| {
        format!("From: <ada{id}@example.org>\r\nSubject: {subject}\r\nMessage-ID: <{id}@example.org>\r\n\r\nx\r\n")
    };
    bed.receive(&mail("0", &"q".repeat(500)), Some("ada0@example.org")).await;
    let second = bed.receive(&mail("1", "Printer"), Some("ada1@example.org")).await;
    assert_eq!(bed.store.acknowledgements(9).unwrap().len(), 2);
    let (trigger, shutdown) = shutdown::channel();
    let worker = tokio::spawn(bed.replies.clone().run_acknowledgements(shutdown));
    let acks = || {
        let rows = bed.store.entries(0, 100).unwrap().into_iter();
        rows.filter(|row| row.kind == EntryKind::Outbound).collect::<Vec<_>>()
    };
    bed.until(|| bed.store.acknowledgements(9).unwrap().is_empty()).await;
    bed.until(|| !acks().is_empty()).await;
    let view = bed.desk.entry(&acks()[0].id).unwrap();
    assert_eq!(view.mail.unwrap().meta.outgoing.unwrap().answers, Some(second));
    assert_eq!(acks().len(), 1);
    trigger.shut_down();
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_leaves_by_its_relay_as_it_was_written() {
    let bed = Bed::new(|_| {});
    bed.receive(QUESTION, Some("ada@example.org")).await;
    let (trigger, shutdown) = shutdown::channel();
    let worker = tokio::spawn(bed.outbox().run(shutdown));
    let words = Words { body: Body::Markdown("Grüße, *Eve*\n\n.\n..\n".into()), html: None };
    let view = bed.reply(Order { words, quote: true, ..order("") }).await.unwrap();
    bed.until(|| bed.store.outbox_row(view.row.seq).unwrap().is_some_and(|row| row.state.as_str() == "done")).await;
    let mut files = std::fs::read_dir(bed.dir.path().join("outbound/new")).unwrap();
    let file = std::fs::read_to_string(files.next().unwrap().unwrap().path()).unwrap();
    let (trace, left) = file.split_once("Date: ").unwrap();
    assert_eq!(format!("Date: {left}"), bed.raw(&view.row.id));
    let back = view.mail.as_ref().unwrap().meta.envelope.mail_from.clone().unwrap();
    assert!(trace.contains(&format!("Return-Path: <{back}>")) && trace.contains("ada@example.org"), "{trace}");
    assert_eq!(bed.store.recipients(view.row.seq, 0, 9).unwrap()[0].state.as_str(), "relayed");
    trigger.shut_down();
    worker.await.unwrap().unwrap();
}
