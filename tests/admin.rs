//! The admin socket over a real Unix socket, with a real store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use ticketgate::accounts::{Account, Accounts, Cause, Flow, Login, OauthUse, Probe, Problem, Setup};
use ticketgate::admin::{self, About, Admin, AdminListener, Upkeep};
use ticketgate::clock::Clock;
use ticketgate::config::{ChannelConfig, Config};
use ticketgate::desk::{Desk, Replies, reply};
use ticketgate::mail::message::Limits;
use ticketgate::mail::origin::{OriginKind, RemoteMessage};
use ticketgate::mail::{Address, Envelope, Origin, Reason};
use ticketgate::metrics::Metrics;
use ticketgate::net::connect::Connectors;
use ticketgate::net::dns;
use ticketgate::net::oauth::ProviderConfig;
use ticketgate::outbox::Board;
use ticketgate::relay::{self, RelayConfig, Relays};
use ticketgate::shutdown;
use ticketgate::store::rows::{DeliveryState, LedgerRow, LedgerState, PersonRow, SourceRow};
use ticketgate::store::vault::Vault;
use ticketgate::store::{
    Bounced, Delivery, NewEntry, NewOutgoing, NewRecipient, OutgoingMeta, Settled, SettledRecipient, Spooled, Store,
    StoreError, Suppress,
};
use ticketgate::ticket::loops::{Limit, Scope};
use ticketgate::ticket::token::TokenKeys;
use ticketgate::ticket::{Decision, Filing, TraceStep};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

#[path = "support/parts.rs"]
mod parts;

const MAIL: &[u8] = b"From: Ada <ada@example.org>\r\nTo: support@localhost\r\nSubject: Printer\r\n\
    Message-ID: <one@example.org>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nIt is on fire.\r\n";

/// A daemon that has an admin socket and nothing else.
struct Bed {
    dir: tempfile::TempDir,
    store: Store,
    accounts: Accounts,
    trigger: shutdown::Trigger,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        let sales = ChannelConfig { address: "sales@localhost".into(), ..ChannelConfig::default() };
        config.channels.push(sales);
        let replies =
            reply::Config { wait: Duration::from_millis(50), max_request_bytes: 1 << 20, ..reply::Config::default() };
        let clock = Clock::system();
        let (store, _) = Store::open(&dir.path().join("data"), &config.store, clock.clone()).unwrap();
        let (trigger, shutdown) = shutdown::channel();
        let about = About {
            hostname: "localhost".into(),
            started_at: clock.now(),
            listeners: vec![("smtp".into(), "127.0.0.1:2525".parse().unwrap())],
            low_water_bytes: 0,
        };
        let accounts = accounts(&store, dir.path(), &clock);
        let shared = relay::Shared {
            accounts: accounts.clone(),
            connectors: Connectors::default(),
            dns: dns::Config::default(),
            hostname: "localhost".into(),
            data_dir: dir.path().to_owned(),
            clock: clock.clone(),
            metrics: Metrics::new(),
        };
        let admin = Admin {
            board: Board::default(),
            relays: Relays::new(&[RelayConfig::sandbox()], &[], shared).unwrap(),
            replies: Replies::new(
                Desk::new(store.clone(), clock.clone(), Limits::default()),
                Arc::new(ArcSwap::from_pointee(config.directory())),
                TokenKeys::new(vec![[7; 32]]),
                Arc::new(ArcSwap::from_pointee(config.letters().unwrap())),
                Arc::new(ArcSwap::from_pointee(replies)),
            ),
            desk: Desk::new(store.clone(), clock.clone(), Limits::default()),
            store: store.clone(),
            directory: Arc::new(ArcSwap::from_pointee(config.directory())),
            accounts: accounts.clone(),
            keys: TokenKeys::new(vec![[7; 32]]),
            clock: clock.clone(),
            upkeep: Upkeep::default(),
            shutdown,
            about: Arc::new(about),
        };
        let listener = AdminListener::bind(&dir.path().join("admin.sock"), &config.admin).unwrap();
        let server = tokio::spawn(async move { admin::serve(listener, admin, &config.admin).await });
        Self { dir, store, accounts, trigger, server }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Takes up a mail and files it.
    async fn file(&self, raw: &[u8], filing: Filing) -> String {
        self.file_from(None, raw, filing).await
    }

    /// The same of a mail that came with a uid from the mailbox.
    async fn file_from(&self, uid: Option<u32>, raw: &[u8], filing: Filing) -> String {
        let now = ticketgate::clock::Clock::system().now();
        let address = Address::parse("support@localhost").unwrap();
        let remote = |uid| RemoteMessage { channel: address.clone(), validity: 7, uid, backfill: false };
        let kind = if uid.is_some() { OriginKind::Imap } else { OriginKind::Smtp };
        let arrival = parts::Arrival {
            at: now,
            envelope: Envelope { mail_from: Address::parse("ada@example.org").ok(), rcpt_to: vec![address.clone()] },
            origin: Origin { helo: Some("localhost".into()), remote: uid.map(remote), ..parts::origin(kind) },
            deliveries: vec![Delivery { channel: address.clone(), rcpt_to: vec![address] }],
            outgoing: None,
        };
        parts::spool(&self.store, arrival, raw).await;
        let mail = self.store.spooled(1, 1 << 20).unwrap().remove(0);
        let decision =
            Decision { filing, trace: vec![TraceStep { step: "thread", said: "nothing refers to it".into() }] };
        let ada = PersonRow { name: "Ada".into(), address: "ada@example.org".into() };
        let entry = NewEntry {
            mail: &mail,
            delivery: &mail.deliveries[0],
            queue: "Support",
            decision: &decision,
            message_id: Some("one@example.org"),
            content_key: &mail.sha256,
            outline: None,
            subject: "Printer",
            from: ada.clone(),
            requester: ada,
            others: Vec::new(),
            now,
        };
        let filed = self.store.step(|step| {
            let row = step.file(entry)?;
            step.filed(mail.position);
            Ok::<_, StoreError>(row)
        });
        filed.unwrap().id
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        request(&self.socket(), "GET", path, "").await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        request(&self.socket(), "POST", path, &body.to_string()).await
    }
}

async fn request(socket: &Path, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let stream = TokioIo::new(UnixStream::connect(socket).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let response = sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::String(text)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_read_noted_closed_and_erased() {
    let bed = Bed::new();
    let id = bed.file(MAIL, Filing::Open { related: None, needs_review: false }).await;

    let (_, page) = bed.get("/v1/entries?after=0").await;
    let entry = &page["entries"][0];
    let wanted = [
        ("/id", json!(id)),
        ("/filing", json!("opened")),
        ("/ticket", json!(1)),
        ("/direction", json!("inbound")),
        ("/envelope", json!({"mail_from": "ada@example.org", "rcpt_to": ["support@localhost"]})),
        ("/origin/kind", json!("smtp")),
        ("/origin/tls", json!(false)),
        ("/origin/spf", json!("none")),
        ("/message_id", json!("one@example.org")),
        ("/from", json!({"name": "Ada", "address": "ada@example.org"})),
        ("/date", json!("2026-11-22T10:00:00Z")),
        ("/subject", json!("Printer")),
        ("/html", Value::Null),
        ("/attachments", json!([])),
        ("/automatic", json!("no")),
        ("/bounce", Value::Null),
        ("/also_seen", json!([])),
        ("/size", json!(MAIL.len())),
    ];
    for (path, want) in wanted {
        assert_eq!(entry.pointer(path), Some(&want), "{path} of {entry:#}");
    }
    assert!(entry["text"].as_str().unwrap().contains("on fire"));
    assert_eq!(page["next"], entry["seq"]);
    let (_, rest) = bed.get(&format!("/v1/entries?after={}", page["next"])).await;
    assert_eq!(rest, json!({"entries": [], "next": page["next"]}));

    assert_eq!(bed.get(&format!("/v1/entries/{id}/raw")).await.1, json!(String::from_utf8_lossy(MAIL)));
    assert_eq!(bed.post("/v1/tickets/1/notes", &json!({"text": "call them"})).await.0, StatusCode::OK);
    assert_eq!(bed.post("/v1/tickets/1/close", &json!({"author": "eve"})).await.1["state"], "closed");
    assert_eq!(bed.get("/v1/tickets?state=open").await.1["tickets"], json!([]));
    let (_, ticket) = bed.get("/v1/tickets/1").await;
    assert_eq!((ticket["entries"].as_array().unwrap().len(), &ticket["entries"][1]["text"]), (2, &json!("call them")));
    let (_, told) = bed.get("/v1/explain?message_id=%3Cone%40example.org%3E").await;
    assert_eq!(told["entries"][0]["id"], json!(id));
    assert_eq!(bed.post(&format!("/v1/entries/{id}/erase"), &json!({})).await.1, json!({"done": true}));
    assert_eq!(bed.get(&format!("/v1/entries/{id}/raw")).await.0, StatusCode::GONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_problems_that_say_what_to_do() {
    let bed = Bed::new();
    let table = [
        ("GET", "/v1/nothing", "", 404, "no-such-route"),
        ("DELETE", "/v1/tickets", "", 405, "no-such-method"),
        ("GET", "/v1/tickets/7", "", 404, "not-found"),
        ("GET", "/v1/tickets/seven", "", 400, "unusable"),
        ("GET", "/v1/tickets?state=lost", "", 400, "unusable"),
        ("GET", "/v1/tickets?limit=0", "", 400, "unusable"),
        ("GET", "/v1/entries?befor=1", "", 400, "unusable"),
        ("GET", "/v1/explain", "", 400, "unusable"),
        ("GET", "/v1/explain?message_id=%3Cx%40y%3E", "", 404, "not-found"),
        ("GET", "/v1/entries/none/raw", "", 404, "not-found"),
        ("POST", "/v1/tickets/7/close", "", 404, "not-found"),
        ("POST", "/v1/tickets/7/notes", "{\"txt\": 1}", 400, "unusable"),
        ("POST", "/v1/tickets/7/merge", "{\"into\": 7}", 400, "unusable"),
        ("POST", "/v1/tickets/7/notes", &format!("{{\"text\": \"{}\"}}", "x".repeat(100_000)), 413, "too-large"),
    ];
    for (method, path, body, status, kind) in table {
        let (got, problem) = request(&bed.socket(), method, path, body).await;
        assert_eq!(got.as_u16(), status, "{method} {path}: {problem:#}");
        assert_eq!(problem["type"], format!("urn:ticketgate:problem:{kind}"), "{method} {path}");
        let said = ["title", "detail", "action"].iter().all(|key| !problem[key].as_str().unwrap().is_empty());
        assert!(said && problem["status"] == status, "{problem:#}");
    }
}

/// A mail that opens a ticket, with changes.
fn first(changes: Value) -> Value {
    let mut body = json!({
        "channel": "support@localhost", "to": ["Ada <ada@example.org>"], "subject": "Your printer", "text": "It is ready.",
    });
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_accepted_or_told_what_is_wrong_with_them() {
    let bed = Bed::new();
    bed.file(MAIL, Filing::Open { related: None, needs_review: false }).await;
    // Nobody files here, so that an answer is only accepted.
    let answer = json!({
        "markdown": "It is **out**.", "cc": ["Bob <bob@example.org>"], "quote": true, "author": "eve",
        "attachments": [{"name": "a.txt", "content_type": "text/plain", "content_base64": "aGFsbG8="}],
    });
    let (status, said) = bed.post("/v1/tickets/1/replies", &answer).await;
    assert_eq!(status, 202, "{said:#}");
    assert_eq!(said["id"].as_str().unwrap().len(), 13);
    let mail = bed.store.spooled(9, 1 << 20).unwrap().pop().unwrap();
    let meta = mail.outgoing.as_ref().unwrap();
    assert_eq!((meta.author.as_str(), meta.ticket, meta.recipients.len()), ("eve", Some(1), 2));
    assert_eq!(mail.origin.kind, OriginKind::Api);
    let table = [
        ("/v1/tickets/7/replies", json!({"text": "x"}), 404, "there is no ticket 7"),
        ("/v1/tickets/1/replies", json!({}), 400, "there is nothing to send"),
        ("/v1/tickets/1/replies", json!({"txt": "x"}), 400, "unknown field `txt`"),
        ("/v1/tickets/1/replies", json!({"text": "x", "markdown": "y"}), 400, "exclude each other"),
        ("/v1/tickets/1/replies", json!({"text": "x", "to": ["nobody"]}), 400, "\"nobody\" is not an address"),
        (
            "/v1/tickets/1/replies",
            json!({"text": "x", "attachments": [{"name": "f", "content_base64": "%"}]}),
            400,
            "content_base64 of the attachment \"f\" is not base64",
        ),
        ("/v1/tickets/1/replies", json!({"text": "x".repeat(2 << 20)}), 413, "replies.max_request_bytes, 1MiB"),
        ("/v1/tickets", json!({"to": ["a@b.example"], "subject": "s", "text": "x"}), 400, "missing field `channel`"),
        ("/v1/tickets", first(json!({"chanel": "x"})), 400, "unknown field `chanel`"),
        (
            "/v1/tickets",
            first(json!({"channel": "x@y.example"})),
            400,
            "channel: \"x@y.example\" is no support address",
        ),
        ("/v1/tickets", first(json!({"to": []})), 400, "to: nobody is named"),
        ("/v1/tickets", first(json!({"markdown": "y"})), 400, "exclude each other"),
        ("/v1/tickets", first(json!({"to": ["support@localhost"]})), 400, "mail to it would loop"),
        ("/v1/tickets", first(json!({"text": "x".repeat(2 << 20)})), 413, "replies.max_request_bytes, 1MiB"),
        ("/v1/tickets", first(json!({"cc": ["b@example.org"], "idempotency_key": "k"})), 202, "it stands on disk"),
        // More than other routes take.
        ("/v1/tickets/1/replies", json!({"text": "x ".repeat(100_000)}), 202, ""),
    ];
    for (path, body, status, wanted) in table {
        let (got, said) = bed.post(path, &body).await;
        assert_eq!(got, status, "{wanted}: {said:#}");
        assert!(said.to_string().replace("\\\"", "\"").contains(wanted), "{said:#}\n  should have {wanted}");
    }
    let opens = |mail: &Spooled| mail.outgoing.as_ref().is_some_and(|meta| meta.opens);
    let opened = bed.store.spooled(9, 1 << 20).unwrap().into_iter().find(opens).unwrap();
    let meta = opened.outgoing.unwrap();
    assert_eq!((meta.ticket, meta.recipients.len(), meta.key.as_deref()), (Some(2), 2, Some("api k")));
    // Nobody was named, so the trace names the user at the other end of the socket.
    let uid = rustix::process::geteuid().as_raw();
    assert!(meta.author.contains(&format!("uid {uid}")), "{}", meta.author);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_listed_and_status_and_channels_answer() {
    let bed = Bed::new();
    bed.file(MAIL, Filing::Quarantine { reason: Reason::TooDeep }).await;
    let (_, rejects) = bed.get("/v1/rejects").await;
    assert_eq!(rejects["rejects"][0]["reason"], "too_deep");
    let (_, channels) = bed.get("/v1/channels").await;
    assert_eq!(channels["channels"][0]["address"], "support@localhost");
    let (_, status) = bed.get("/v1/status").await;
    assert_eq!((&status["ready"], &status["problems"]), (&json!(true), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_begins_anywhere_goes_on_live_and_ends_at_the_shutdown() {
    use tokio::io::AsyncWriteExt;
    let bed = Bed::new();
    bed.file(MAIL, Filing::Open { related: None, needs_review: false }).await;
    let mut stream = UnixStream::connect(bed.socket()).await.unwrap();
    stream.write_all(b"GET /v1/events?after=0 HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut text = String::new();
    read_until(&mut stream, &mut text, "event: entry").await;
    bed.post("/v1/tickets/1/close", &json!({"author": "eve"})).await;
    read_until(&mut stream, &mut text, "event: ticket_closed").await;
    assert!(text.contains("\"author\":\"eve\""), "{text}");
    bed.trigger.shut_down();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await;
    ended.expect("the feed ends").unwrap();
    bed.server.await.unwrap().unwrap();
}

async fn read_until(stream: &mut UnixStream, text: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "the feed ended before {wanted}: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

/// Runs the command as people do; returns its exit status and both outputs.
async fn command(bed: &Bed, line: &str) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ticketgate"));
    command.args(line.split(' ')).env("TICKETGATE_SOCKET", bed.socket()).env("USER", "eve");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The command that opens a ticket, but for its text.
const NEW: &str = "tickets new --channel support@localhost --to ada@example.org --subject Printer";

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_they_did_and_fail_with_one_line() {
    let bed = Bed::new();
    let id = bed.file(MAIL, Filing::Open { related: None, needs_review: false }).await;
    let large = bed.dir.path().join("large");
    std::fs::write(&large, vec![b'x'; 20 << 20]).unwrap();
    let large = large.display();
    let table = [
        ("status", 0, "accepts mail"),
        ("channels list", 0, "support@localhost *"),
        ("channels show support@localhost", 0, "Largest mail   50MiB"),
        ("channels show other@localhost", 1, "see `ticketgate channels list`"),
        ("channels ledger support@localhost --state gone", 0, "the ledger has no such mail"),
        ("channels parity support@localhost --since 30d", 0, "keep forwarding: the channel has no mailbox"),
        ("channels parity support@localhost --since 1y", 1, "at most 92d"),
        // Before anybody types a password.
        ("connect other@localhost", 1, "there is no channel \"other@localhost\"; see"),
        ("connect sales@localhost", 1, "has no mailbox that is looked into; add its [channel.source]"),
        ("disconnect support@localhost", 1, "make another one the default first"),
        ("channels default sales@localhost", 0, "sales@localhost is the default channel now"),
        ("channels list", 0, "sales@localhost *"),
        ("status", 0, "2, the default is sales@localhost"),
        ("disconnect support@localhost", 0, "goes on where it stopped"),
        ("tickets list", 0, "ada@example.org"),
        ("tickets list --json --state open", 0, "\"number\": 1"),
        ("tickets note 1 hello", 0, "noted on ticket 1"),
        ("tickets show 1", 0, "   It is on fire."),
        ("tickets show 1", 0, " eve (noted, "),
        ("tickets reply 1 --text Soon", 0, "follow it with: ticketgate outbox show "),
        ("tickets reply 1 --text Soon --json", 0, "\"said\": \"it stands on disk"),
        ("tickets reply 1 --text x --to nobody", 1, "ticketgate: to: \"nobody\" is not an address: no \"@\" between"),
        ("tickets reply 1 --text x --attach /none/at/all", 1, "ticketgate: /none/at/all cannot be read ("),
        (&format!("{NEW} --text x --attach {large}"), 1, "replies.max_request_bytes, 1MiB; send a link"),
        (&format!("{NEW} --file {large}"), 1, "is larger than 1MiB; attach it with --attach"),
        ("tickets reply 1 --text x --file y", 2, "cannot be used with"),
        ("tickets reply 9 --text x", 1, "ticketgate: there is no ticket 9; "),
        (&format!("{NEW} --text x"), 0, "follow it with: ticketgate outbox show "),
        (&format!("{NEW} --text x --json"), 0, "\"said\": \"it stands on disk"),
        (&format!("{NEW} --text x --cc nobody"), 1, "ticketgate: cc: \"nobody\" is not an address: no \"@\" between"),
        (
            "tickets new --channel a@b.example --to a@b.example --subject s --text x",
            1,
            "ticketgate: channel: \"a@b.example\"",
        ),
        ("tickets new --channel support@localhost --text x", 2, "--to <ADDRESS>"),
        ("tickets close 1", 0, "ticket 1 is closed now"),
        ("tickets reopen 1", 0, "ticket 1 is open now"),
        ("tickets show 9", 1, "ticketgate: there is no ticket 9; look for it with the list commands"),
        ("tickets merge 1 1", 1, "ticket 1 cannot be merged into itself; "),
        ("tickets show x", 2, "invalid value"),
        // As with a variable that is there and empty.
        ("tickets list --socket= --config /none/at/all", 1, "/none/at/all: it cannot be read"),
        ("rejects list", 0, "nothing was rejected"),
        ("explain <one@example.org>", 0, "opened, ticket 1"),
        (&format!("explain {id}"), 0, "<one@example.org>"),
        // As the log and the decisions about other mails name it.
        ("explain 1", 0, "<one@example.org>"),
        ("explain 77", 1, "it never came, or was turned away"),
        ("outbox retry --channel support@localhost", 2, "\n  --all\n\nUsage"),
        ("export", 0, "\"message_id\":\"one@example.org\""),
        (&format!("raw {id}"), 0, "Message-ID: <one@example.org>"),
        (&format!("erase {id}"), 1, "add --yes to do it"),
        (&format!("erase {id} --yes"), 0, "are erased"),
        ("secrets show", 0, "encrypts"),
        ("secrets rotate", 0, "0 secrets are encrypted with a fresh key"),
        ("secrets rotate --prune --json", 0, "\"dropped\": 2"),
        ("completions bash", 0, "complete -F"),
        ("man", 0, ".TH ticketgate"),
    ];
    for (line, status, wanted) in table {
        let (got, said) = command(&bed, line).await;
        assert!(got == Some(status) && said.contains(wanted), "{line}: {got:?}\n{said}\nshould have {wanted}");
        assert!(status != 1 || said.lines().count() == 1, "{line}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_silent_is_waited_for_only_so_long() {
    let bed = Bed::new();
    let hangs = bed.dir.path().join("hangs.sock");
    let _nobody_accepts = std::os::unix::net::UnixListener::bind(&hangs).unwrap();
    for line in ["status", "tickets close 1", "export", "connect support@localhost --known-password"] {
        let (status, said) = command(&bed, &format!("--socket {} --timeout 200ms {line}", hangs.display())).await;
        assert_eq!(status, Some(1), "{line}: {said}");
        assert!(
            said.contains("hangs.sock has said nothing for 200ms; ") && said.lines().count() == 1,
            "{line}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_leaves_is_explained_in_words_that_no_state_contradicts() {
    let bed = Bed::new();
    let id = send(&bed, &[("ann@example.org", DeliveryState::Queued, None)]).await;
    let (status, said) = command(&bed, &format!("explain {id}")).await;
    assert_eq!(status, Some(0), "{said}");
    for heading in ["Recipients", "Delivery", "Decisions"] {
        assert_eq!(said.matches(&format!("\n{heading}")).count(), 1, "{heading}: {said}");
    }
    let line = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(!line("Received").contains('.') && line("Received").ends_with('Z'), "{said}");
    // It was not sent yet, whatever the word of the feed for such entries is.
    assert!(!said.contains("relayed"), "{said}");
}

/// Accounts of one mailbox whose password is "right".
fn accounts(store: &Store, dir: &std::path::Path, clock: &Clock) -> Accounts {
    let vault = Vault::open(dir, &Default::default()).unwrap();
    let probe: Probe = Arc::new(|_, login| {
        Box::pin(async move {
            match login {
                Login::Password { password, .. } if password.expose_secret() == "right" => Ok(()),
                _ => Err(Problem::new(Cause::WrongPassword, "the server refused the login: no")),
            }
        })
    });
    let accounts = Accounts::new(store.clone(), vault, probe, clock.clone(), Metrics::new());
    let channel = Address::parse("support@localhost").unwrap();
    let accounts_of = vec![Account::with_password(channel, "support", "imap.example")];
    accounts.configure(Setup { accounts: accounts_of, ..Setup::default() });
    accounts
}

#[tokio::test]
async fn a_mailbox_is_connected_only_with_what_works() {
    let bed = Bed::new();
    let connect = "/v1/channels/support@localhost/connect";
    let (status, said) = bed.post(connect, &json!({"password": "hush-hush"})).await;
    assert_eq!(status, 409, "{said}");
    assert!(said.to_string().contains("reconnect") && !said.to_string().contains("hush-hush"), "{said}");
    // Nothing is kept of what does not work.
    assert_eq!(bed.post(connect, &json!({})).await.0, 409);
    assert_eq!(bed.post(connect, &json!({"password": "right"})).await.0, 200);
    assert_eq!(bed.post(connect, &json!({})).await.0, 200);
    let (status, said) = bed.post("/v1/channels/support@localhost/disconnect", &json!({})).await;
    assert_eq!((status.as_u16(), &said["type"]), (409, &json!("urn:ticketgate:problem:default-channel")));
    assert_eq!(bed.post("/v1/channels/sales@localhost/default", &json!({})).await.1["default"], true);
    for (order, status) in
        [("pause", 200), ("resume", 200), ("disconnect", 200), ("look", 200), ("sweep", 200), ("x", 404)]
    {
        let (got, said) = bed.post(&format!("/v1/channels/support@localhost/{order}"), &json!({})).await;
        assert_eq!(got, status, "{order}: {said}");
    }
    assert_eq!(bed.post("/v1/channels/other@localhost/pause", &json!({})).await.0, 404);
    assert_eq!(bed.store.sources().unwrap().remove(0).wanted.as_str(), "disconnected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_stands_in_a_file_is_not_asked_for() {
    let bed = Bed::new();
    let file = bed.dir.path().join("support.password");
    std::fs::write(&file, "right\n").unwrap();
    let channel = Address::parse("support@localhost").unwrap();
    let account = Account { password_file: Some(file), ..Account::with_password(channel, "support", "imap.example") };
    bed.accounts.configure(Setup { accounts: vec![account], ..Setup::default() });
    let (status, said) = command(&bed, "connect support@localhost").await;
    assert!(status == Some(0) && said.contains("is connected to the mailbox"), "{status:?} {said}");
}

/// A provider that hands out device codes nobody uses, and nothing else.
async fn provider() -> String {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let place = url.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            let device = String::from_utf8_lossy(&head[..read]).contains("/device");
            let (status, body) = match device {
                true => (
                    200,
                    format!(
                        r#"{{"device_code":"d","user_code":"ABCD","verification_uri":"{place}/go","expires_in":300,"interval":5}}"#
                    ),
                ),
                false => (400, r#"{"error":"authorization_pending"}"#.to_owned()),
            };
            let kind = "Content-Type: application/json\r\nConnection: close";
            let answer = format!("HTTP/1.1 {status} X\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorisation_is_begun_shown_answered_and_cancelled() {
    let bed = Bed::new();
    let place = provider().await;
    let url = |path: &str| Some(format!("{place}/{path}"));
    let idp = ProviderConfig {
        name: "idp".into(),
        client_id: "gateway".into(),
        authorization_url: url("auth"),
        token_url: url("token"),
        device_url: url("device"),
        ..ProviderConfig::default()
    };
    let channel = Address::parse("support@localhost").unwrap();
    let oauth = Some(OauthUse { provider: "idp".into(), flow: Flow::Code, consent_as: None });
    let account = Account { oauth, ..Account::with_password(channel, "support@localhost", "imap.example") };
    bed.accounts.configure(Setup { accounts: vec![account], providers: vec![idp], ..Setup::default() });
    let base = "/v1/channels/support@localhost";
    assert_eq!(bed.post(&format!("{base}/connect"), &json!({"password": "x"})).await.0, 409);
    assert_eq!(bed.post(&format!("{base}/connect"), &json!({"flow": "magic"})).await.0, 400);

    let (status, begun) = bed.post(&format!("{base}/connect"), &json!({})).await;
    let shown = &begun["authorisation"];
    assert_eq!((status.as_u16(), &shown["flow"], &shown["state"]), (200, &json!("code"), &json!("waiting")), "{begun}");
    let address = shown["url"].as_str().unwrap();
    assert!(
        address.starts_with(&format!("{place}/auth?")) && address.contains("login_hint=support%40localhost"),
        "{address}"
    );
    let at = format!("{base}/authorisations/{}", shown["id"].as_str().unwrap());
    assert_eq!(bed.get(&at).await.1["state"], "waiting");
    let (status, said) =
        bed.post(&format!("{at}/answer"), &json!({"redirected_to": "http://x/?code=hush&state=x"})).await;
    assert!(status == 409 && !said.to_string().contains("hush"), "{said}");
    let state = address.split(['?', '&']).find_map(|part| part.strip_prefix("state=")).unwrap();
    let declined = json!({"redirected_to": format!("http://127.0.0.1/?error=access_denied&state={state}")});
    let (_, ended) = bed.post(&format!("{at}/answer"), &declined).await;
    assert_eq!((&ended["state"], &ended["code"]), (&json!("refused"), &json!("consent_declined")), "{ended}");
    assert!(ended["action"].as_str().unwrap().contains("ticketgate connect support@localhost"), "{ended}");

    let (_, begun) = bed.post(&format!("{base}/connect"), &json!({"flow": "device"})).await;
    let shown = &begun["authorisation"];
    assert_eq!((&shown["user_code"], &shown["url"]), (&json!("ABCD"), &Value::Null), "{begun}");
    let at = format!("{base}/authorisations/{}", shown["id"].as_str().unwrap());
    let (status, ended) = request(&bed.socket(), "DELETE", &at, "").await;
    assert_eq!((status.as_u16(), &ended["state"]), (200, &json!("refused")), "{ended}");
    assert_eq!(bed.get(&format!("{base}/authorisations/none")).await.0, 404);
    let (_, channels) = bed.get("/v1/channels").await;
    let credential = &channels["channels"][0]["connection"]["credential"];
    assert_eq!((&credential["kind"], &credential["provider"]), (&json!("oauth"), &json!("idp")), "{channels}");
    let (code, said) = command(&bed, "connect support@localhost --flow device --no-wait").await;
    assert!(code == Some(0) && said.contains("ABCD") && said.contains("/go"), "{said}");
    let (code, said) = command(&bed, "channels show support@localhost").await;
    assert!(code == Some(0) && said.contains("oauth, idp, code"), "{said}");
}

/// A recipient, its state, and the brake that holds it.
type To<'a> = (&'a str, DeliveryState, Option<(Scope, Limit)>);

/// A mail that leaves is taken up and filed, as the outbox would find it.
async fn send(bed: &Bed, recipients: &[To<'_>]) -> String {
    let now = ticketgate::clock::Clock::system().now();
    let channel = Address::parse("support@localhost").unwrap();
    let to = |text: &str| Address::parse(text).unwrap();
    let meta = OutgoingMeta { author: "bea".into(), ..OutgoingMeta::default() };
    let arrival = parts::Arrival {
        at: now,
        envelope: Envelope {
            mail_from: Some(channel.clone()),
            rcpt_to: recipients.iter().map(|(who, ..)| to(who)).collect(),
        },
        origin: Origin { peer: "socket".into(), ..parts::origin(OriginKind::Api) },
        deliveries: vec![Delivery { channel: channel.clone(), rcpt_to: Vec::new() }],
        outgoing: Some(meta.clone()),
    };
    parts::spool(&bed.store, arrival, b"From: support@localhost\r\nSubject: Re: Printer\r\n\r\nTry again\r\n").await;
    let mail = bed.store.spooled(1, 1 << 20).unwrap().remove(0);
    let recipient = |(who, state, brake): &To<'_>| NewRecipient {
        address: to(who),
        notify: None,
        orcpt: None,
        state: *state,
        why: None,
        brake: *brake,
    };
    let new = NewOutgoing {
        mail: &mail,
        meta: &meta,
        channel: &channel,
        queue: "Support",
        message_id: Some("out@localhost"),
        subject: "Re: Printer",
        from: PersonRow { name: String::new(), address: "support@localhost".into() },
        ticket: None,
        matched_by: None,
        opens: None,
        recipients: recipients.iter().map(recipient).collect(),
        attachments: false,
        orders: Vec::new(),
        repeats: None,
        trace: Vec::new(),
        now,
    };
    let filed = bed.store.step(|step| {
        let row = step.file_outgoing(&new)?;
        step.filed(mail.position);
        Ok::<_, StoreError>(row)
    });
    filed.unwrap().id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_may_come_twice_is_rerouted_by_force_only() {
    let bed = Bed::new();
    let id = send(&bed, &[("ann@example.org", DeliveryState::Queued, None)]).await;
    let now = ticketgate::clock::Clock::system().now();
    let seq = bed.store.entry(&id).unwrap().unwrap().seq;
    let unanswered = SettledRecipient {
        state: DeliveryState::Delayed,
        unanswered: true,
        next: Some(now),
        ..SettledRecipient::default()
    };
    let relay = Some("silent".to_owned());
    let settled = Settled { seq, at: now, relay, recipients: vec![unanswered], ..Settled::default() };
    let suppress = Suppress { after: 3, within: jiff::SignedDuration::from_hours(1) };
    bed.store.step(|step| step.settle(&[settled], suppress)).unwrap();
    let (_, mail) = bed.get(&format!("/v1/outbox/{id}")).await;
    assert_eq!(mail["delivery"][0]["unanswered"], "silent");
    let path = |order: &str| format!("/v1/outbox/{id}/{order}");
    // Order, body; status, and the end of the problem's type.
    let table = [
        ("reroute", json!({"relay": "sandbox"}), StatusCode::CONFLICT, "may-come-twice"),
        ("retry", json!({"force": true}), StatusCode::BAD_REQUEST, "unusable"),
        ("reroute", json!({"relay": "sandbox", "force": true}), StatusCode::OK, ""),
    ];
    for (order, body, status, kind) in table {
        let (got, answer) = bed.post(&path(order), &body).await;
        assert_eq!(got, status, "{order}: {answer}");
        assert!(answer["type"].as_str().unwrap_or_default().ends_with(kind), "{answer}");
        assert!(status != StatusCode::CONFLICT || answer.to_string().contains("--force"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_is_listed_and_steered() {
    let bed = Bed::new();
    let id = send(&bed, &[("ann@example.org", DeliveryState::Queued, None)]).await;
    let held = [("bob@example.org", DeliveryState::Held, Some((Scope::Recipient, (10, 30))))];
    let braked = send(&bed, &held).await;
    let (_, page) = bed.get("/v1/outbox?state=waiting").await;
    assert_eq!(page["mails"][0]["id"], json!(id));
    assert_eq!(page["mails"][0]["delivery"][0]["address"], "ann@example.org");
    assert_eq!(bed.get("/v1/outbox?limit=1").await.1["mails"][0]["id"], json!(braked));
    let path = |order: &str| format!("/v1/outbox/{id}/{order}");
    // Order, body, status, state afterwards.
    let table = [
        ("release", json!({}), StatusCode::CONFLICT, ""),
        ("hold", json!({"author": "eve"}), StatusCode::OK, "held"),
        ("release", json!({}), StatusCode::OK, "waiting"),
        ("reroute", json!({"relay": "nowhere"}), StatusCode::BAD_REQUEST, ""),
        ("reroute", json!({"relay": "sandbox"}), StatusCode::OK, "waiting"),
        ("retry", json!({"relay": "sandbox"}), StatusCode::BAD_REQUEST, ""),
        ("retry", json!({}), StatusCode::OK, "waiting"),
        ("cancel", json!({}), StatusCode::OK, "cancelled"),
        ("explode", json!({}), StatusCode::NOT_FOUND, ""),
    ];
    for (order, body, status, state) in table {
        let (got, answer) = bed.post(&path(order), &body).await;
        assert_eq!(got, status, "{order}: {answer}");
        if status == StatusCode::OK {
            assert_eq!(answer["state"], state, "{order}");
        }
    }
    let (_, mail) = bed.get(&format!("/v1/outbox/{id}")).await;
    assert_eq!((&mail["relay"], &mail["delivery"][0]["state"]), (&json!("sandbox"), &json!("cancelled")));
    let (_, entry) = bed.get(&format!("/v1/entries/{id}")).await;
    assert_eq!((&entry["direction"], &entry["filing"]), (&json!("outbound"), &json!("relayed")));
    assert_eq!(entry["delivery"][0]["state"], "cancelled");
    assert_eq!(bed.get("/v1/outbox/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(bed.get("/v1/outbox?state=lost").await.0, StatusCode::BAD_REQUEST);

    let (_, loops) = bed.get("/v1/loops").await;
    let brake = loops["brakes"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&loops["brakes"][0]["held"], &loops["brakes"][0]["mails"]), (&json!(1), &json!(30)));
    let (_, status) = bed.get("/v1/status").await;
    assert!(status["problems"].to_string().contains("loop_brakes"), "{status}");
    assert_eq!(bed.post(&format!("/v1/loops/{brake}/release"), &json!({})).await.0, StatusCode::OK);
    assert_eq!(bed.post(&format!("/v1/loops/{brake}/release"), &json!({})).await.0, StatusCode::CONFLICT);
    assert_eq!(bed.get(&format!("/v1/outbox/{braked}")).await.1["state"], "waiting");

    let report = |word| Bounced {
        addresses: vec!["bob@example.org".into()],
        word,
        said: "spam".into(),
        hard: false,
        at: ticketgate::clock::Clock::system().now(),
    };
    let seq = bed.store.entry(&braked).unwrap().unwrap().seq;
    let suppress = Suppress { after: 3, within: jiff::SignedDuration::from_hours(1) };
    let now = ticketgate::clock::Clock::system().now();
    // A complaint counts once the mail has left.
    let taken = SettledRecipient { n: 0, state: DeliveryState::Relayed, ..SettledRecipient::default() };
    let (recipients, notes, delayed) = (vec![taken], Vec::new(), Vec::new());
    let relay = Some("sandbox".to_owned());
    let settled = Settled { seq, at: now, relay, recipients, notes, delayed, ..Settled::default() };
    bed.store.step(|step| step.settle(&[settled], suppress)).unwrap();
    bed.store.step(|step| step.bounced(seq, &[report("complaint")], suppress, now)).unwrap();
    assert_eq!(bed.get("/v1/suppressions").await.1["suppressions"][0]["address"], "bob@example.org");
    let clear = "/v1/suppressions/bob@example.org/clear";
    assert_eq!(bed.post(clear, &json!({})).await.0, StatusCode::OK);
    assert_eq!(bed.post(clear, &json!({})).await.0, StatusCode::CONFLICT);
    assert_eq!(bed.get("/v1/suppressions?all=true").await.1, json!({"suppressions": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mail_of_the_outbox_takes_one_order() {
    let bed = Bed::new();
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(send(&bed, &[(&format!("ann{n}@example.org"), DeliveryState::Queued, None)]).await);
    }
    bed.post(&format!("/v1/outbox/{}/cancel", ids[2]), &json!({})).await;
    // Order, how many it changes, states afterwards.
    let table = [
        (json!({"order": "release"}), 0, ["waiting", "waiting"]),
        (json!({"order": "hold", "channel": "nobody@localhost"}), 0, ["waiting", "waiting"]),
        (json!({"order": "retry", "author": "eve"}), 2, ["waiting", "waiting"]),
        (json!({"order": "hold"}), 2, ["held", "held"]),
        (json!({"order": "retry"}), 0, ["held", "held"]),
        (json!({"order": "release", "after": u64::MAX}), 0, ["held", "held"]),
        (json!({"order": "release"}), 2, ["waiting", "waiting"]),
    ];
    for (body, changed, states) in table {
        let (status, done) = bed.post("/v1/outbox", &body).await;
        assert_eq!((status, done), (StatusCode::OK, json!({"changed": changed, "after": null})), "{body}");
        for (id, state) in ids.iter().zip(states) {
            assert_eq!(bed.get(&format!("/v1/outbox/{id}")).await.1["state"], state, "after {body}");
        }
    }
    for body in [json!({"order": "cancel"}), json!({}), json!({"order": "hold", "relay": "sandbox"})] {
        assert_eq!(bed.post("/v1/outbox", &body).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brake_says_how_many_mails_it_holds_now() {
    let bed = Bed::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let brake = Some((Scope::Recipient, (10, 30)));
        ids.push(send(&bed, &[("bob@example.org", DeliveryState::Held, brake)]).await);
    }
    let held = async || bed.get("/v1/loops").await.1["brakes"][0]["held"].clone();
    assert_eq!(held().await, 3);
    bed.post(&format!("/v1/outbox/{}/cancel", ids[0]), &json!({})).await;
    assert_eq!(held().await, 2);
    let (_, done) = bed.post("/v1/outbox", &json!({"order": "release"})).await;
    assert_eq!((&done["changed"], held().await), (&json!(2), json!(0)));
    // It stays until it is released itself, since the loop may go on.
    let brake = bed.get("/v1/loops").await.1["brakes"][0]["id"].as_str().unwrap().to_owned();
    let (_, said) = command(&bed, &format!("loops release {brake}")).await;
    assert!(said.ends_with("is released; it held no mail any more\n"), "{said}");
}

#[tokio::test]
async fn a_chosen_default_channel_is_used_at_once_and_told() {
    let bed = Bed::new();
    let default = async || bed.get("/v1/status").await.1["default_channel"].clone();
    assert_eq!(default().await, "support@localhost");
    for _ in 0..2 {
        let (status, said) = bed.post("/v1/channels/sales@localhost/default", &json!({"author": "eve"})).await;
        assert_eq!((status.as_u16(), &said["default"]), (200, &json!(true)));
    }
    assert_eq!(default().await, "sales@localhost");
    assert_eq!(bed.store.default_channel().unwrap().as_deref(), Some("sales@localhost"));
    let told: Vec<String> = bed.store.events(0, 10).unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(told, ["default_channel_changed"], "once, however often it is asked for");
    assert_eq!(bed.post("/v1/channels/other@localhost/default", &json!({})).await.0, 404);
    // One that has left the configuration is named as a problem.
    let gone = Address::parse("gone@localhost").unwrap();
    bed.store.step(|step| step.set_default_channel(&gone, "eve", Clock::system().now())).unwrap();
    let (_, status) = bed.get("/v1/status").await;
    assert_eq!(status["problems"][0]["code"], "default_channel_gone");
}

#[tokio::test]
async fn a_mailbox_is_shown_with_its_ledger_and_its_two_ways() {
    let bed = Bed::new();
    let (channel, now) = (Address::parse("support@localhost").unwrap(), Clock::system().now());
    let source = SourceRow {
        channel: channel.to_string(),
        connected_at: Some(now - Duration::from_secs(60)),
        validity: 7,
        cursor: 12,
        unaccounted: 2,
        read_elsewhere: 3,
        vanished: 4,
        ..SourceRow::default()
    };
    let seen = LedgerRow {
        uid: 12,
        validity: 7,
        state: LedgerState::ReadElsewhere,
        reason: None,
        mail: None,
        at: now,
        labelled: true,
        label_refused: false,
        rejected_before: false,
    };
    let written = bed.store.step(|step| {
        step.put_source(&channel, &source)?;
        step.ledger(&channel, &[seen])
    });
    written.unwrap();
    bed.file(MAIL, Filing::Open { related: None, needs_review: false }).await;
    let repeat = Filing::Duplicate { of: 1, reason: Reason::DuplicateMessageId };
    let pulled = bed.file_from(Some(11), MAIL, repeat).await;
    let (_, shown) = bed.get("/v1/channels/support@localhost").await;
    let wanted = [
        ("/address", json!("support@localhost")),
        ("/mailbox/cursor", json!(12)),
        ("/mailbox/unaccounted", json!(2)),
        ("/mailbox/vanished", json!(4)),
        ("/mailbox/ledger", json!({"imported": 1, "read_elsewhere": 1})),
        ("/mailbox/labels_owed", json!(1)),
        ("/mailbox/unfiled", json!(0)),
    ];
    for (path, want) in wanted {
        assert_eq!(shown.pointer(path), Some(&want), "{path} of {shown:#}");
    }
    let (_, status) = bed.get("/v1/status").await;
    let line = &status["mailboxes"][0];
    assert_eq!((&line["channel"], &line["unaccounted"]), (&json!("support@localhost"), &json!(2)), "{status:#}");
    assert_eq!(line["read_elsewhere"], json!(3));
    let ledger = "/v1/channels/support@localhost/ledger";
    let table = [
        ("", vec![(11, "imported", "owed"), (12, "read_elsewhere", "none")], Value::Null),
        ("?limit=1", vec![(11, "imported", "owed")], json!(11)),
        ("?limit=1&after=11", vec![(12, "read_elsewhere", "none")], json!(12)),
        ("?after=12", vec![], Value::Null),
        ("?state=read_elsewhere", vec![(12, "read_elsewhere", "none")], Value::Null),
    ];
    for (query, rows, next) in table {
        let (_, page) = bed.get(&format!("{ledger}{query}")).await;
        let got: Vec<(u64, &str, &str)> = page["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["uid"].as_u64().unwrap(), row["state"].as_str().unwrap(), row["label"].as_str().unwrap()))
            .collect();
        assert_eq!((got, &page["next"]), (rows, &next), "{query}");
    }
    assert_eq!(bed.get(&format!("{ledger}?state=lost")).await.0, 400);
    let (_, told) = bed.get(&format!("/v1/explain?message_id={pulled}")).await;
    let mailbox = &told["entries"][0]["mailbox"];
    assert_eq!(
        (&mailbox["uid"], &mailbox["state"], &mailbox["label"]),
        (&json!(11), &json!("imported"), &json!("owed"))
    );
    bed.store.step(|step| step.labelled(&channel, &[(7, 11)])).unwrap();
    assert!(
        command(&bed, &format!("explain {pulled}")).await.1.contains("uid 11 of UIDVALIDITY 7: imported, label set")
    );
    let (_, parity) = bed.get("/v1/channels/support@localhost/parity?since=1h").await;
    assert_eq!(
        (&parity["both"], &parity["only_forwarded"], &parity["can_switch_off"]),
        (&json!(1), &json!(0), &json!(false))
    );
    assert!(parity["verdict"].as_str().unwrap().contains("7 days are needed"), "{parity:#}");
}
