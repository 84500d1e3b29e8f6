//! Accounts against a provider on loopback, a real store and a real vault.

mod provider;

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;

use self::provider::Provider;
use super::credential::Token;
use super::*;
use crate::net::oauth::ProviderConfig;

const LIFE: i64 = 3600;

pub(super) struct Bed {
    dir: tempfile::TempDir,
    provider: Provider,
    pub(super) accounts: Accounts,
    store: Store,
    time: Arc<AtomicI64>,
    /// Tokens that the mailbox's server refuses.
    refused: Arc<Mutex<Vec<String>>>,
}

fn support() -> Address {
    Address::parse("support@localhost").unwrap()
}

impl Bed {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicI64::new(1_795_000_000));
        let ticks = time.clone();
        let clock = Clock::from_fn(move || Timestamp::from_second(ticks.load(Ordering::SeqCst)).unwrap());
        let (store, _) = Store::open(&dir.path().join("data"), &Default::default(), clock.clone()).unwrap();
        let refused: Arc<Mutex<Vec<String>>> = Arc::default();
        let refuses = refused.clone();
        let probe: Probe = Arc::new(move |_, login| {
            let refuses = refuses.clone();
            Box::pin(async move {
                match login {
                    Login::Bearer { token, .. }
                        if refuses.lock().unwrap().contains(&token.expose_secret().to_owned()) =>
                    {
                        Err(Problem::new(Cause::TokenRefused, "no"))
                    }
                    _ => Ok(()),
                }
            })
        });
        let vault = Vault::open(dir.path(), &Default::default()).unwrap();
        let accounts = Accounts::new(store.clone(), vault, probe, clock, Metrics::new());
        let bed = Self { provider: Provider::start().await, dir, accounts, store, time, refused };
        bed.configure(Flow::Code, None);
        bed
    }

    fn configure(&self, flow: Flow, consent_as: Option<&str>) {
        self.configure_with(flow, consent_as, None, &[support()]);
    }

    fn configure_with(&self, flow: Flow, consent_as: Option<&str>, redirect_url: Option<String>, channels: &[Address]) {
        let secret = self.dir.path().join("secret");
        std::fs::write(&secret, "client-secret\n").unwrap();
        let url = |path: &str| Some(format!("{}/{path}", self.provider.url));
        let provider = ProviderConfig {
            name: "idp".into(),
            client_id: "gateway".into(),
            client_secret_file: Some(secret),
            authorization_url: url("auth"),
            token_url: url("token"),
            device_url: url("device"),
            userinfo_url: url("userinfo"),
            scopes: Some(vec!["mail".into(), "email".into()]),
            redirect_url,
            ..ProviderConfig::default()
        };
        let consent_as = consent_as.map(str::to_owned);
        let account = |channel: &Address| Account {
            oauth: Some(OauthUse { provider: "idp".into(), flow, consent_as: consent_as.clone() }),
            ..Account::with_password(channel.clone(), "support@localhost", "imap.example")
        };
        let accounts = channels.iter().map(account).collect();
        self.accounts.configure(Setup { accounts, providers: vec![provider], ..Setup::default() });
    }

    /// Consents in the way of a browser; returns the page that it ends on.
    async fn consent(&self) -> (Authorisation, String) {
        let begun = self.accounts.authorise(&support(), Some(Flow::Code), "eve").await.unwrap();
        let query: HashMap<String, String> =
            url::Url::parse(begun.url.as_ref().unwrap()).unwrap().query_pairs().into_owned().collect();
        let page = browse(&format!("{}?code=c&state={}", query["redirect_uri"], query["state"])).await;
        (self.accounts.authorisation(&support(), &begun.id).unwrap(), page)
    }

    async fn token(&self) -> Result<String, Problem> {
        match self.accounts.login(&support()).await? {
            Login::Bearer { token, .. } => Ok(token.expose_secret().to_owned()),
            Login::Password { .. } => panic!("a password"),
        }
    }

    /// What lies on the disk, read as the next start would.
    fn kept(&self) -> Option<Token> {
        let vault = Vault::open(self.dir.path(), &Default::default()).unwrap();
        match Credential::read(&vault.get(&support().key()).unwrap()?).unwrap() {
            Credential::Token(token) => Some(*token),
            Credential::Password(_) => panic!("a password"),
        }
    }

    fn pass(&self, seconds: i64) {
        self.time.fetch_add(seconds, Ordering::SeqCst);
    }
}

async fn browse(url: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let url = url::Url::parse(url).unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let target = &url[url::Position::BeforePath..];
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

fn refusal(shown: &Authorisation) -> &Problem {
    match &shown.outcome {
        Outcome::Refused(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_is_kept_once_the_mailbox_has_taken_it() {
    let bed = Bed::new().await;
    assert_eq!(bed.token().await.unwrap_err().cause, Cause::ConsentMissing);
    let (shown, page) = bed.consent().await;
    assert!(matches!(shown.outcome, Outcome::Granted(_)), "{shown:?}");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("support@localhost is connected"), "{page}");
    assert_eq!(bed.kept().unwrap().refresh.unwrap().expose_secret(), "refresh-1");
    // Key rotation finds its file by this row.
    assert_eq!(bed.store.sources().unwrap()[0].channel, "support@localhost");
    assert_eq!(bed.token().await.unwrap(), "access-1");
    let credential = bed.accounts.credential(&support()).unwrap();
    assert_eq!((credential.kind, credential.account.as_deref()), ("oauth", Some("support@localhost")));
    assert!(!format!("{shown:?} {:?} {credential:?}", bed.kept()).contains("access-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_right_is_refused_and_not_stored() {
    let bed = Bed::new().await;
    bed.provider.state.lock().unwrap().account = "eve@localhost".into();
    let (shown, page) = bed.consent().await;
    let problem = refusal(&shown);
    assert_eq!(problem.cause, Cause::WrongAccount);
    assert!(problem.said.contains("eve@localhost") && problem.said.contains("support@localhost"), "{problem}");
    assert!(page.contains("eve@localhost has signed in"), "{page}");
    assert!(bed.kept().is_none());
    // A shared mailbox names who may consent for it.
    bed.configure(Flow::Code, Some("Eve@localhost"));
    assert!(matches!(bed.consent().await.0.outcome, Outcome::Granted(_)));
    let before = bed.kept().unwrap();
    bed.provider.state.lock().unwrap().scope = Some("email".into());
    let (shown, _) = bed.consent().await;
    assert_eq!(
        (refusal(&shown).cause, refusal(&shown).said.as_str()),
        (Cause::ScopeMissing, "the account could not be verified: permission mail is missing; grant it and retry")
    );
    bed.provider.state.lock().unwrap().scope = None;
    bed.refused.lock().unwrap().push("access-4".into());
    bed.provider.state.lock().unwrap().account = "support@localhost".into();
    bed.consent().await;
    let (shown, _) = bed.consent().await;
    let kept = bed.kept().unwrap();
    assert!(before.about != kept.about && kept.about.account() == Some("support@localhost"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_logins_at_once_refresh_once() {
    let bed = Bed::new().await;
    bed.consent().await;
    bed.pass(LIFE);
    let asked = bed.provider.asked();
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let accounts = bed.accounts.clone();
        logins.spawn(async move { accounts.login(&support()).await.unwrap() });
    }
    let tokens: std::collections::BTreeSet<String> = logins
        .join_all()
        .await
        .into_iter()
        .map(|login| match login {
            Login::Bearer { token, .. } => token.expose_secret().to_owned(),
            Login::Password { .. } => panic!("a password"),
        })
        .collect();
    assert_eq!((tokens.into_iter().collect::<Vec<_>>(), bed.provider.asked() - asked), (vec!["access-2".into()], 1));
    assert_eq!(bed.kept().unwrap().refresh.unwrap().expose_secret(), "refresh-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_outlives_the_session_that_asked_for_it() {
    let bed = Bed::new().await;
    bed.consent().await;
    bed.pass(LIFE);
    bed.provider.gate.forget_permits(Semaphore::MAX_PERMITS);
    let asked = bed.provider.asked();
    let accounts = bed.accounts.clone();
    let session = tokio::spawn(async move { accounts.login(&support()).await });
    // The refresh token is on its way: that is noted on the disk before it is sent.
    let noted = async {
        // By way of the same vault: opening another one clears away what is being written.
        while !matches!(
            bed.accounts.read(&support()).await,
            Ok(Some(Credential::Token(token))) if token.about.refreshing_since.is_some()
        ) {}
    };
    tokio::time::timeout(Duration::from_secs(20), noted).await.expect("the refresh begins");
    session.abort();
    assert!(session.await.unwrap_err().is_cancelled());
    bed.provider.gate.add_permits(10);
    bed.accounts.settle(Duration::from_secs(20)).await;
    let kept = bed.kept().unwrap();
    assert_eq!((kept.refresh.unwrap().expose_secret(), bed.provider.asked() - asked), ("refresh-2", 1));
    assert_eq!(kept.about.refreshing_since, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_not_spent_while_its_successor_could_not_be_kept() {
    let bed = Bed::new().await;
    bed.consent().await;
    bed.pass(LIFE);
    let asked = bed.provider.asked();
    let file = std::fs::read_dir(bed.dir.path().join("vault")).unwrap().next().unwrap().unwrap().path();
    let fresh = file.with_extension("new");
    // A folder in the place of the file that is written aside: nothing can be written.
    std::fs::create_dir(&fresh).unwrap();
    assert_eq!(bed.token().await.unwrap_err().cause, Cause::VaultKey);
    assert_eq!(bed.provider.asked(), asked);
    std::fs::remove_dir(&fresh).unwrap();
    assert_eq!(bed.token().await.unwrap(), "access-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_the_provider_keeps_a_token_that_lives() {
    let bed = Bed::new().await;
    bed.consent().await;
    bed.pass(LIFE - 200);
    bed.provider.fail(2, (503, "{}"));
    let asked = bed.provider.asked();
    assert_eq!(bed.token().await.unwrap(), "access-1");
    // It is left alone for a while.
    assert_eq!(bed.token().await.unwrap(), "access-1");
    assert_eq!(bed.provider.asked() - asked, 1);
    bed.pass(250);
    assert_eq!(bed.token().await.unwrap_err().cause, Cause::OauthProviderTrouble);
    assert!(bed.accounts.renew(&support()).await.is_ok());
    bed.pass(250);
    assert_eq!(bed.token().await.unwrap(), "access-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_grant_is_a_problem_and_reconnecting_mends_it() {
    let bed = Bed::new().await;
    bed.consent().await;
    bed.pass(LIFE);
    bed.provider.state.lock().unwrap().refresh = None;
    let problem = bed.accounts.renew(&support()).await.unwrap_err();
    assert_eq!(problem.cause, Cause::ConsentExpired, "{problem}");
    assert!(problem.action_for(&support()).contains("ticketgate reconnect support@localhost"));
    assert!(!problem.said.contains("was lost"), "{problem}");
    // The note of that refresh is still there, as after a crash.
    let problem = bed.token().await.unwrap_err();
    assert!(problem.said.contains("was lost, in a crash or on the way"), "{problem}");
    bed.consent().await;
    assert_eq!(bed.token().await.unwrap(), "access-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_exchanged_once() {
    let bed = Bed::new().await;
    bed.consent().await;
    let login = bed.accounts.login(&support()).await.unwrap();
    let other = bed.accounts.login_instead(&support(), &login).await.unwrap().unwrap();
    // Whoever still holds the old one gets the one that is there.
    bed.accounts.login_instead(&support(), &login).await.unwrap().unwrap();
    assert_eq!((bed.token().await.unwrap().as_str(), bed.provider.asked()), ("access-2", 2));
    let again = bed.accounts.login_instead(&support(), &other).await.unwrap_err();
    assert_eq!((again.cause, bed.provider.asked()), (Cause::TokenRefused, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_holds_nothing_up() {
    let bed = Bed::new().await;
    bed.consent().await;
    bed.pass(LIFE - 200);
    bed.provider.fail(1, (503, "{}"));
    assert_eq!(bed.token().await.unwrap(), "access-1");
    // The next try, and the age of the token, were noted by a clock that was an hour ahead.
    bed.pass(-3600);
    assert_eq!(bed.token().await.unwrap(), "access-2");
    let asked = bed.provider.asked();
    let login = bed.accounts.login(&support()).await.unwrap();
    assert_eq!(bed.provider.asked(), asked);
    // So was the last exchange of a refused token.
    let other = bed.accounts.login_instead(&support(), &login).await.unwrap().unwrap();
    bed.pass(-3600);
    assert!(bed.accounts.login_instead(&support(), &other).await.unwrap().is_some());
    assert_eq!(bed.token().await.unwrap(), "access-4");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_belong_to_their_authorisation_and_those_that_wait_can_be_ended() {
    let bed = Bed::new().await;
    let begun = bed.accounts.authorise(&support(), None, "eve").await.unwrap();
    let (id, channel) = (begun.id.as_str(), support());
    let patience = Duration::from_secs(10);
    let foreign = bed.accounts.answer_authorisation(&channel, id, "http://x/?code=c&state=other", patience).await;
    assert!(matches!(foreign, Err(AccountError::ForeignAnswer)));
    // A newer one takes its place.
    let newer = bed.accounts.authorise(&support(), Some(Flow::Device), "eve").await.unwrap();
    assert_eq!(newer.user_code.as_deref(), Some("ABCD-EFGH"));
    assert!(refusal(&bed.accounts.authorisation(&channel, id).unwrap()).said.contains("newer"));
    bed.accounts.cancel_authorisation(&channel, &newer.id);
    assert!(refusal(&bed.accounts.authorisation(&channel, &newer.id).unwrap()).said.contains("cancelled"));
    assert!(bed.kept().is_none());
}

/// A port that is free, and that nobody is given who asks for any: those lie higher.
fn named_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let taken = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_err();
    loop {
        let port = 20_000 + (std::process::id() as u16).wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst)) % 12_000;
        if !taken(port) {
            return port;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_configuration_names_is_there_for_all_that_wait() {
    let bed = Bed::new().await;
    let port = named_port();
    let other = Address::parse("sales@localhost").unwrap();
    let back = format!("http://127.0.0.1:{port}/back");
    bed.configure_with(Flow::Code, None, Some(back.clone()), &[support(), other.clone()]);
    // One that somebody has left alone, another channel's, and the one that is gone on with.
    let mut begun = Vec::new();
    for channel in [&support(), &other, &support()] {
        begun.push(bed.accounts.authorise(channel, None, "eve").await.unwrap());
    }
    for (channel, shown) in [(&other, &begun[1]), (&support(), &begun[2])] {
        let url = url::Url::parse(shown.url.as_ref().unwrap()).unwrap();
        let state = url.query_pairs().find(|(key, _)| key == "state").unwrap().1.into_owned();
        let page = browse(&format!("{back}?code=c&state={state}")).await;
        let ended = bed.accounts.authorisation(channel, &shown.id).unwrap();
        assert!(matches!(ended.outcome, Outcome::Granted(_)) && page.contains("is connected"), "{ended:?} {page}");
    }
    assert!(matches!(
        refusal(&bed.accounts.authorisation(&support(), &begun[0].id).unwrap()).cause,
        Cause::ConsentMissing
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_port_is_free_when_the_last_authorisation_has_ended() {
    let bed = Bed::new().await;
    let port = named_port();
    bed.configure_with(Flow::Code, None, Some(format!("http://127.0.0.1:{port}/back")), &[support()]);
    for _ in 0..20 {
        let begun = bed.accounts.authorise(&support(), None, "eve").await.unwrap();
        bed.accounts.cancel_authorisation(&support(), &begun.id);
    }
    let closed = async {
        while std::net::TcpListener::bind(("127.0.0.1", port)).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.expect("the port stays taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_needs_nobody() {
    let bed = Bed::new().await;
    bed.configure(Flow::App, None);
    assert_eq!(bed.token().await.unwrap(), "access-1");
    bed.pass(LIFE);
    assert_eq!(bed.token().await.unwrap(), "access-2");
    assert!(bed.kept().is_some() && bed.store.sources().unwrap().len() == 1);
}

#[tokio::test]
async fn a_warning_is_told_once_a_day() {
    let bed = Bed::new().await;
    bed.consent().await;
    let mut setup = (*bed.accounts.setup()).clone();
    setup.providers[0].client_secret_expires = Some("2026-11-20".parse().unwrap());
    bed.accounts.configure(setup);
    let seq = || bed.store.stats().seq;
    let before = seq();
    bed.accounts.look_at_credentials().await;
    bed.accounts.look_at_credentials().await;
    assert_eq!(seq() - before, 1);
    bed.pass(86_400);
    bed.accounts.look_at_credentials().await;
    assert_eq!(seq() - before, 2);
    assert_eq!(bed.accounts.credential(&support()).unwrap().warnings[0].code, "client_secret_expires");
    // A clock that has stepped back far tells once more, and not never again.
    bed.pass(-86_400 * 3);
    bed.accounts.look_at_credentials().await;
    assert_eq!(seq() - before, 3);
}

#[tokio::test]
async fn passwords_of_earlier_versions_are_read() {
    let bed = Bed::new().await;
    let account = Account::with_password(support(), "support", "imap.example");
    bed.accounts.configure(Setup { accounts: vec![account], ..Setup::default() });
    let vault = Vault::open(Path::new(bed.dir.path()), &Default::default()).unwrap();
    for (bytes, want) in [
        (&b"hush hush"[..], Some("hush hush")),
        (br#"{"a":1}"#, Some(r#"{"a":1}"#)),
        (br#"{"ticketgate_credential":1,"kind":"password","password":"new"}"#, Some("new")),
        (br#"{"ticketgate_credential":2,"kind":"passkey"}"#, None),
        (br#"{"ticketgate_credential":1,"kind":"oauth"}"#, None),
    ] {
        vault.put(&support().key(), bytes).unwrap();
        match (bed.accounts.login(&support()).await, want) {
            (Ok(Login::Password { password, .. }), Some(want)) => assert_eq!(password.expose_secret(), want),
            (Err(problem), None) => assert_eq!(problem.cause, Cause::VaultKey),
            (got, want) => panic!("{got:?} {want:?}"),
        }
    }
    bed.accounts.connect(&support(), Some("typed".to_owned().into()), "eve").await.unwrap();
    assert!(vault.get(&support().key()).unwrap().unwrap().starts_with(b"{\"ticketgate_credential\":1"));
}
