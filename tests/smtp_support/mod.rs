//! A server on a loopback port, a client that speaks octets, and the reader of transcripts.

pub mod client;
#[path = "../support/channel.rs"]
mod settled;
pub mod transcript;

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use ticketgate::clock::Clock;
use ticketgate::intake::{self, Intake};
use ticketgate::mail::Address;
use ticketgate::metrics::Metrics;
use ticketgate::net::verify::{self, Verifier};
use ticketgate::net::{dns, tls};
use ticketgate::shutdown::{self, Trigger};
use ticketgate::smtp::submission::config::AccountConfig;
use ticketgate::smtp::submission::{self, LookUp, Submission};
use ticketgate::smtp::{BoundListener, Config, Live, Server, TlsMode};
use ticketgate::store::{self, Spooled, Store};
use ticketgate::ticket::Directory;
use ticketgate::ticket::channel::{AuthPolicy, Channel};
use tokio::net::TcpListener;

pub use client::Client;

use crate::name_server::{Answer, DnsServer};

/// A certificate with its key, as a TLS client shows it.
pub type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// What a test sets before the server starts.
pub struct Setup {
    pub config: Config,
    pub mode: TlsMode,
    pub proxy_from: Option<Vec<ipnet::IpNet>>,
    pub intake: intake::Config,
    pub state: StoreState,
    /// Accounts of the submission door, which makes it one.
    pub accounts: Vec<Account>,
    /// Peers that need no login there.
    pub trusted: Option<ipnet::IpNet>,
    /// Logins that a peer may have failed.
    pub failed_logins: u32,
    /// A domain and its SPF record: verification is on, and the DNS knows nothing else.
    pub spf: Option<(String, String)>,
    directory: TempDir,
    tls: Option<tls::Config>,
    client: Option<rcgen::CertifiedKey<rcgen::KeyPair>>,
}

/// An account of the submission door.
pub struct Account {
    pub name: String,
    pub sender: String,
    pub proof: Proof,
}

/// What its holder has.
pub enum Proof {
    Password(String),
    /// A token that the provider knows.
    Token(String),
}

/// How the store is that mail is taken into.
#[derive(Clone, Copy)]
pub enum StoreState {
    /// So many octets are free above the low-water mark.
    Room(u64),
    Roomy,
    Full,
    Closed,
}

/// A running server and its store, in which nobody files, so that what was accepted stays to be looked at.
pub struct Bed {
    address: std::net::SocketAddr,
    live: Arc<ArcSwap<Live>>,
    store: Store,
    metrics: Metrics,
    /// How many accepted and refused mails a test has looked at.
    looked: [Cell<usize>; 2],
    trigger: Option<Trigger>,
    task: Option<tokio::task::JoinHandle<()>>,
    _names: Option<DnsServer>,
    setup: Setup,
}

impl Setup {
    /// A certificate, so that STARTTLS is offered.
    pub fn with_tls(&mut self) {
        let (certificate, key) = self.write_certificate();
        self.tls = Some(tls::Config { certificate, key, client_ca: None, ask_client_certificate: false });
    }

    /// A certificate, and a client certificate that is allowed by its name or by its fingerprint.
    pub fn with_client(&mut self, name: &str, by_name: bool) {
        self.with_tls();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let client = rcgen::CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key };
        let tls = self.tls.as_mut().unwrap();
        tls.ask_client_certificate = true;
        let rule = if by_name {
            let path = self.directory.path().join("clients.pem");
            std::fs::write(&path, client.cert.pem()).unwrap();
            tls.client_ca = Some(path);
            name.to_owned()
        } else {
            use sha2::Digest;
            let digest = sha2::Sha256::digest(client.cert.der());
            format!("sha256:{}", digest.iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>().join(":"))
        };
        self.config.allow_certificates = vec![rule.parse().unwrap()];
        self.client = Some(client);
    }

    fn write_certificate(&self) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["mx.example.com".to_owned()]).unwrap();
        let (certificate, key) = (self.directory.path().join("cert.pem"), self.directory.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    fn live(&self) -> Live {
        let tls = self.tls.as_ref().map(|config| tls::Acceptor::load(config).unwrap());
        let live = Live { config: self.config.clone(), host: "mx.example.com".into(), tls, submission: None };
        if self.accounts.is_empty() && self.trusted.is_none() {
            return live;
        }
        live.at_submission(self.submission())
    }

    fn submission(&self) -> Submission {
        let mut config = submission::Config { trusted: self.trusted.into_iter().collect(), ..Default::default() };
        let mut providers = HashMap::new();
        for Account { name, sender, proof } in &self.accounts {
            let mut account =
                AccountConfig { name: name.clone(), senders: vec![sender.clone()], ..AccountConfig::default() };
            match proof {
                Proof::Password(password) => {
                    let file = self.directory.path().join(name);
                    std::fs::write(&file, password).unwrap();
                    account.password_file = Some(file);
                }
                Proof::Token(token) => {
                    account.oauth = Some(name.clone());
                    let (token, name) = (token.clone(), name.clone());
                    let ask: LookUp = Arc::new(move |asked| {
                        let owners = if asked.expose_secret() == token { vec![name.clone()] } else { Vec::new() };
                        Box::pin(async move { Ok(owners) })
                    });
                    providers.insert(account.name.clone(), ask);
                }
            }
            config.accounts.push(account);
        }
        config.max_failed_logins = self.failed_logins;
        Submission::load(&config, providers).unwrap()
    }
}

impl Bed {
    /// Starts a server whose section `[smtp]` is `settings`, after `change` has had its say.
    pub async fn start(settings: &str, change: impl FnOnce(&mut Setup)) -> Self {
        let config = toml::from_str(settings).unwrap();
        let directory = quick_dir();
        let mut setup = Setup {
            config,
            mode: TlsMode::StartTls,
            proxy_from: None,
            intake: intake::Config::default(),
            state: StoreState::Roomy,
            spf: None,
            accounts: Vec::new(),
            trusted: None,
            failed_logins: 4,
            directory,
            tls: None,
            client: None,
        };
        change(&mut setup);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let proxy_from = setup.proxy_from.clone();
        let listeners = vec![BoundListener { name: "test".into(), tls: setup.mode, proxy_from, socket }];
        let live = Arc::new(ArcSwap::from_pointee(setup.live()));
        let (trigger, shutdown) = shutdown::channel();
        let clock = Clock::from_fn(|| Timestamp::from_second(1_795_000_000).unwrap());
        let metrics = Metrics::new();
        let store = open_store(&setup, &clock);
        let directory = Arc::new(ArcSwap::from_pointee(directory_of_channels()));
        let (names, verifier) = verifier(setup.spf.as_ref()).await;
        let limits = Arc::new(ArcSwap::from_pointee(setup.intake.clone()));
        let server = Server {
            live: live.clone(),
            directory: directory.clone(),
            intake: Intake::new(store.clone(), directory, limits, metrics.clone()),
            verifier,
            metrics: metrics.clone(),
            clock,
        };
        let task = Some(tokio::spawn(server.run(listeners, shutdown)));
        let looked = [Cell::new(0), Cell::new(0)];
        Self { address, live, store, metrics, looked, trigger: Some(trigger), task, _names: names, setup }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Every mail that was accepted and not looked at yet.
    pub fn accepted(&self) -> Vec<Spooled> {
        self.spooled(|mail| mail.refused.is_none()).split_off(self.looked[0].get())
    }

    /// The oldest accepted mail that was not looked at yet.
    pub fn next_accepted(&self) -> Option<Spooled> {
        let next = self.accepted().into_iter().next()?;
        self.looked[0].set(self.looked[0].get() + 1);
        Some(next)
    }

    /// The oldest record of a refused mail that was not looked at yet. Nobody waits for these to be written, so this
    /// does.
    pub async fn next_refused(&self) -> Spooled {
        let mut progress = self.store.arrivals();
        let at = self.looked[1].get();
        loop {
            progress.mark_unchanged();
            if let Some(next) = self.spooled(|mail| mail.refused.is_some()).into_iter().nth(at) {
                self.looked[1].set(at + 1);
                return next;
            }
            progress.changed().await.unwrap();
        }
    }

    fn spooled(&self, wanted: impl Fn(&Spooled) -> bool) -> Vec<Spooled> {
        let mut mails = self.store.spooled(usize::MAX, u64::MAX).unwrap();
        mails.retain(wanted);
        mails
    }

    /// The metrics as they are exposed.
    pub fn metrics(&self) -> String {
        self.metrics.render()
    }

    pub fn stop(&mut self) {
        self.trigger.take().unwrap().shut_down();
    }

    /// Waits until the server has ended.
    pub async fn stopped(&mut self) {
        self.task.take().unwrap().await.unwrap();
    }

    /// Writes a new certificate and reloads; gives the certificate.
    pub fn reload_tls(&self) -> Option<CertificateDer<'static>> {
        use rustls::pki_types::pem::PemObject;
        let (certificate, _) = self.setup.write_certificate();
        self.live.store(Arc::new(self.setup.live()));
        CertificateDer::from_pem_file(certificate).ok()
    }

    pub fn client_certificate(&self) -> Option<Identity> {
        let client = self.setup.client.as_ref()?;
        Some((client.cert.der().clone(), PrivateKeyDer::try_from(client.signing_key.serialize_der()).unwrap()))
    }
}

/// Opens the store; a quick one, because tests open many.
fn open_store(setup: &Setup, clock: &Clock) -> Store {
    let dir = setup.directory.path().join("data");
    let roomy = store::Config { low_water_bytes: 0, ballast_bytes: 0, segment_bytes: 1 << 20, ..Default::default() };
    let open = |config: &store::Config| Store::open(&dir, config, clock.clone()).unwrap().0;
    let store = open(&roomy);
    let low_water_bytes = match setup.state {
        StoreState::Roomy => return store,
        StoreState::Closed => {
            store.close();
            return store;
        }
        StoreState::Full => u64::MAX,
        StoreState::Room(room) => store.free_bytes() - room,
    };
    drop(store);
    open(&store::Config { low_water_bytes, ..roomy })
}

/// A directory in memory where the machine has one.
fn quick_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Verification that is off, or that asks a name server with one SPF record.
async fn verifier(spf: Option<&(String, String)>) -> (Option<DnsServer>, Verifier) {
    let Some((domain, record)) = spf else {
        let off = verify::Config { enabled: false, ..verify::Config::default() };
        return (None, Verifier::new(&off, "mx.example.com"));
    };
    let names = DnsServer::start(&[(domain, Answer::Txt(record.clone()))]).await;
    let dns = dns::Config { name_servers: vec![names.address], ..dns::Config::default() };
    let config = verify::Config { exempt: Vec::new(), dns, ..verify::Config::default() };
    (Some(names), Verifier::new(&config, "mx.example.com"))
}

/// The store that a transcript names.
pub fn store_state(words: &str) -> StoreState {
    match words.split_once(' ').unwrap_or((words, "")) {
        ("full", "") => StoreState::Full,
        ("closed", "") => StoreState::Closed,
        ("room", octets) => StoreState::Room(octets.parse().unwrap()),
        _ => panic!("no store is {words:?}"),
    }
}

fn directory_of_channels() -> Directory {
    let named = |address: &str, aliases: &[&str]| Channel {
        aliases: aliases.iter().map(|alias| Address::parse(alias).unwrap()).collect(),
        ..settled::channel(address)
    };
    let channels = vec![
        named("support@example.com", &["help@example.com", "hilfe@müller.example"]),
        named("sales@example.com", &[]),
        Channel { max_mail_bytes: 1000, ..named("small@example.com", &[]) },
        Channel { auth_policy: AuthPolicy::Refuse, ..named("strict@example.com", &[]) },
    ];
    Directory::new(channels, Vec::new(), vec![Address::parse("intake@gw.example.com").unwrap()], None)
}
