//! Pieces that tests put a gateway together from: a mail in the log, an outbox, a wait that ends.

#![allow(dead_code, reason = "no test uses every piece")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use ticketgate::accounts::{Accounts, Probe};
use ticketgate::clock::Clock;
use ticketgate::filing::Loops;
use ticketgate::mail::auth::AuthResults;
use ticketgate::mail::origin::OriginKind;
use ticketgate::mail::{Envelope, MailId, Origin};
use ticketgate::metrics::Metrics;
use ticketgate::net::connect::Connectors;
use ticketgate::net::dns;
use ticketgate::outbox::{self, Board};
use ticketgate::relay::{self, RelayConfig, Relays};
use ticketgate::store::vault::{self, Vault};
use ticketgate::store::{Delivery, Incoming, OutgoingMeta, Store};
use ticketgate::ticket::channel::Directory;

/// A mail that is accepted, but for its bytes.
pub struct Arrival {
    pub at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    pub deliveries: Vec<Delivery>,
    pub outgoing: Option<OutgoingMeta>,
}

/// A peer on loopback of whose mail nothing is verified.
pub fn origin(kind: OriginKind) -> Origin {
    Origin {
        kind,
        peer: "127.0.0.1".into(),
        helo: None,
        tls: None,
        client_certificate: None,
        auth: AuthResults::default(),
        remote: None,
    }
}

/// Writes a mail to the log, as a door does.
pub async fn spool(store: &Store, mail: Arrival, bytes: &[u8]) -> MailId {
    let id = MailId::fresh(mail.at);
    let mut body = store.body(id, 1 << 30);
    body.push(bytes).await.unwrap();
    let incoming = Incoming {
        id,
        received_at: mail.at,
        envelope: mail.envelope,
        origin: mail.origin,
        deliveries: mail.deliveries,
        review: false,
        outgoing: mail.outgoing,
        body: body.finish().await.unwrap(),
    };
    store.spool(incoming).await.unwrap();
    id
}

/// Accounts with a vault in this directory; every login works.
pub fn accounts(store: &Store, dir: &Path, clock: &Clock, metrics: &Metrics) -> Accounts {
    let vault = Vault::open(dir, &vault::Config::default()).unwrap();
    let login: Probe = Arc::new(|_, _| Box::pin(async { Ok(()) }));
    Accounts::new(store.clone(), vault, login, clock.clone(), metrics.clone())
}

/// An outbox with relays and accounts of its own and the defaults of a configuration.
pub fn outbox(
    store: &Store,
    dir: &Path,
    relays: &[RelayConfig],
    dns: dns::Config,
    directory: &Arc<ArcSwap<Directory>>,
    clock: &Clock,
) -> outbox::Worker {
    let (clock, metrics) = (clock.clone(), Metrics::new());
    let accounts = accounts(store, dir, &clock, &metrics);
    let shared = relay::Shared {
        accounts: accounts.clone(),
        connectors: Connectors::default(),
        dns,
        hostname: "gw.example.com".into(),
        data_dir: dir.to_owned(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    outbox::Worker {
        store: store.clone(),
        relays: Relays::new(relays, &[], shared).unwrap(),
        accounts,
        directory: Arc::clone(directory),
        config: Arc::default(),
        suppress: Arc::new(ArcSwap::from_pointee(Loops::default().suppress)),
        letters: Arc::default(),
        never: Arc::default(),
        board: Board::default(),
        clock,
        metrics,
    }
}

/// Asks until something is so, and says what is not if that takes too long.
pub async fn until(what: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(15);
    while !done() {
        assert!(tokio::time::Instant::now() < end, "{}", what());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
