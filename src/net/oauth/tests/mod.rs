mod assertions;
mod flows;
mod server;
mod troubles;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use self::server::{Asked, Script};
use super::*;

/// A provider on loopback, our registration there, and a clock that only moves by hand.
struct Bed {
    script: Script,
    url: String,
    dir: TempDir,
    now: Arc<Mutex<Timestamp>>,
}

const START: &str = "2026-03-01T12:00:00Z";

/// A grant with everything in it.
const FULL: &str = r#"{"access_token":"acc","token_type":"Bearer","expires_in":3600,"refresh_token":"ref-2"}"#;

impl Bed {
    async fn new() -> Self {
        let script = Script::default();
        let url = script.listen().await;
        let now = Arc::new(Mutex::new(START.parse().unwrap()));
        Self { script, url, dir: tempfile::tempdir().unwrap(), now }
    }

    fn clock(&self) -> Clock {
        let now = self.now.clone();
        Clock::from_fn(move || *now.lock().unwrap())
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += SignedDuration::try_from(time).unwrap();
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A registration with every URL at the bed, and a secret.
    fn config(&self, preset: Preset) -> ProviderConfig {
        let at = |path: &str| Some(format!("{}{path}", self.url));
        ProviderConfig {
            name: "bed".into(),
            preset,
            client_id: "me".into(),
            client_secret_file: Some(self.file("secret", "hush-hush\n")),
            issuer: Some(self.url.clone()),
            authorization_url: at("/auth"),
            token_url: at("/token"),
            device_url: at("/device"),
            userinfo_url: at("/userinfo"),
            timeout: Duration::from_secs(5),
            ..ProviderConfig::default()
        }
    }

    fn oauth(&self, config: &ProviderConfig) -> OAuth {
        OAuth::new(config, self.clock()).unwrap()
    }

    /// The only question since the last call.
    fn asked(&self) -> Asked {
        let mut asked = self.script.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    /// A grant with an ID token for `addresses`.
    fn grant(&self, nonce: Option<&str>, email: &str, more: &str) -> String {
        let end = self.clock().now().as_second() + 300;
        let nonce = nonce.map(|nonce| format!(r#","nonce":"{nonce}""#)).unwrap_or_default();
        let email = if email.is_empty() { String::new() } else { format!(r#","email":"{email}""#) };
        let claims = format!(r#"{{"iss":"{}","aud":"me","sub":"7","exp":{end}{nonce}{email}}}"#, self.url);
        let token = format!("e30.{}.c2ln", BASE64_URL.encode(claims));
        FULL.replace('}', &format!(r#","id_token":"{token}"{more}}}"#))
    }
}

/// A parameter of a URL.
fn param(url: &str, key: &str) -> Option<String> {
    let url = url::Url::parse(url).unwrap();
    url.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
}

/// What tells errors apart for a caller.
fn word(error: &OAuthError) -> String {
    match error {
        OAuthError::Connect(_) => "connect".into(),
        OAuthError::ProviderTrouble { retry_after: Some(wait), .. } => format!("trouble {}", wait.as_secs()),
        OAuthError::ProviderTrouble { .. } => "trouble".into(),
        OAuthError::GrantDead { kind, .. } => format!("grant {kind:?}"),
        OAuthError::ClientWrong { kind, .. } => format!("client {kind:?}"),
        OAuthError::ConsentDeclined(_) => "declined".into(),
        OAuthError::ConsentNeeded(_) => "consent".into(),
        OAuthError::ScopeMissing(scopes) => format!("missing {}", scopes.join(" ")),
        OAuthError::StateMismatch => "state".into(),
        OAuthError::NonceMismatch => "nonce".into(),
        OAuthError::Expired => "expired".into(),
        OAuthError::Clock(_) => "clock".into(),
        OAuthError::Config(_) => "config".into(),
        OAuthError::Protocol(_) => "protocol".into(),
    }
}

/// A key that was made for these tests and is used nowhere else: ring cannot make one of RSA.
fn rsa_key() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/oauth/tests/rsa_key.pem")).unwrap()
}
