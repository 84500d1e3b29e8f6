//! One AUTH exchange (RFC 4954): what the client says in, challenges and the account out. The only file that knows
//! rsasl.
//!
//! rsasl speaks PLAIN (RFC 4616), LOGIN and SCRAM-SHA-256 (RFC 7677). OAUTHBEARER (RFC 7628) is read here, because
//! its token is looked up over the network, which rsasl's callbacks cannot wait for.

use std::sync::Arc;

use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::config::SASLConfig;
use rsasl::mechanisms::login::LOGIN;
use rsasl::mechanisms::plain::PLAIN;
use rsasl::mechanisms::scram::SCRAM_SHA256;
use rsasl::mechanisms::scram::properties::ScramStoredPassword;
use rsasl::prelude::{Mechanism, Mechname, Registry, SASLServer, Session, SessionError, State, Validation};
use rsasl::property::{AuthId, AuthzId, Password};
use rsasl::validate::{Validate, ValidationError};
use secrecy::SecretString;

use super::logins::{Login, Logins};

static MECHANISMS: [Mechanism; 3] = [PLAIN, LOGIN, SCRAM_SHA256];

/// What LOGIN asks; some clients look for just these words.
const LOGIN_NAME: &[u8] = b"Username:";
const LOGIN_PASSWORD: &[u8] = b"Password:";

/// How somebody proves who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Plain,
    Login,
    ScramSha256,
    OauthBearer,
}

impl Method {
    /// All, as EHLO names them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Login, Self::ScramSha256, Self::OauthBearer];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// The method with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(name))
    }
}

/// What follows a message of the client.
pub enum Progress {
    /// Send this challenge, and give the answer to the next step.
    Challenge(Vec<u8>),
    /// The account is proven.
    Proven(Arc<Login>),
    /// A bearer token is to be looked up for the account of this name.
    Bearer { name: String, token: SecretString },
    /// It is not proven, or the message cannot be read.
    Failed,
}

/// An exchange with a password. Its steps take processor time and belong on a thread that may block.
pub struct Exchange {
    session: Session<Proof>,
    method: Method,
    begun: bool,
    done: Option<Arc<Login>>,
}

/// What rsasl hands over once it is satisfied: the account, if there is one.
struct Proof;

impl Validation for Proof {
    type Value = Option<Arc<Login>>;
}

struct Callback(Arc<Logins>);

impl SessionCallback for Callback {
    fn callback(&self, _: &SessionData, context: &Context, request: &mut Request) -> Result<(), SessionError> {
        // Only SCRAM asks for keys, and rsasl hands its names over as they were written.
        let Some(name) = context.get_ref::<AuthId>() else { return Ok(()) };
        let keys = self.0.keys(&plain_name(name));
        let known = ScramStoredPassword::new(keys.iterations, &keys.salt, &keys.stored_key, &keys.server_key);
        request.satisfy::<ScramStoredPassword>(&known)?;
        Ok(())
    }

    fn validate(&self, _: &SessionData, context: &Context, proof: &mut Validate<'_>) -> Result<(), ValidationError> {
        let name = context.get_ref::<AuthId>().unwrap_or_default();
        // Nobody may act for somebody else (RFC 4616 section 2).
        let own = context.get_ref::<AuthzId>().is_none_or(|other| other.is_empty() || other.eq_ignore_ascii_case(name));
        let login = match context.get_ref::<Password>() {
            Some(password) => self.0.check(name, password),
            // SCRAM has proven it already, or the exchange has failed before this.
            None => self.0.find(&plain_name(name)),
        };
        proof.finalize::<Proof>(login.filter(|_| own));
        Ok(())
    }
}

impl Exchange {
    /// Begins an exchange with a password; `None` for OAUTHBEARER, which is read by [`bearer`].
    pub fn begin(method: Method, logins: &Arc<Logins>) -> Option<Self> {
        let config = SASLConfig::builder()
            .with_registry(Registry::with_mechanisms(&MECHANISMS))
            .with_callback(Callback(Arc::clone(logins)))
            .ok()?;
        let name = Mechname::parse(method.as_str().as_bytes()).ok()?;
        let session = SASLServer::<Proof>::new(config).start_suggested(name).ok()?;
        Some(Self { session, method, begun: false, done: None })
    }

    /// Takes the client's next message; `None` where it sent none with AUTH.
    pub fn step(&mut self, message: Option<&[u8]>) -> Progress {
        // SCRAM's last word from the server is a challenge to which the client has nothing more to say.
        if let Some(login) = self.done.take() {
            return if message.is_none_or(<[u8]>::is_empty) { Progress::Proven(login) } else { Progress::Failed };
        }
        let mut answer = Vec::new();
        if self.method == Method::Login && !std::mem::replace(&mut self.begun, true) {
            // rsasl asks for the name before it reads any, and many clients send it along with AUTH.
            if self.session.step(None, &mut answer).is_err() {
                return Progress::Failed;
            }
            answer.clear();
            if message.is_none() {
                return Progress::Challenge(LOGIN_NAME.into());
            }
        }
        if message.is_none() && !self.session.are_we_first() {
            return Progress::Challenge(Vec::new());
        }
        let state = self.session.step(message, &mut answer);
        let proven = self.session.validation().flatten();
        match (state, proven) {
            (Ok(State::Running), _) if self.method == Method::Login => Progress::Challenge(LOGIN_PASSWORD.into()),
            (Ok(State::Running), _) => Progress::Challenge(answer),
            (Ok(State::Finished(_)), Some(login)) if self.method == Method::ScramSha256 => {
                self.done = Some(login);
                Progress::Challenge(answer)
            }
            (Ok(State::Finished(_)), Some(login)) => Progress::Proven(login),
            _ => Progress::Failed,
        }
    }
}

/// A name as it is: `=2C` and `=3D` stand for comma and equals sign (RFC 5801 section 4, RFC 5802 section 5.1).
fn plain_name(written: &str) -> String {
    written.replace("=2C", ",").replace("=3D", "=")
}

/// Reads the one message of OAUTHBEARER: `n,a=NAME,^Ahost=…^Aport=…^Aauth=Bearer TOKEN^A^A`.
pub fn bearer(message: &[u8]) -> Progress {
    let read = || {
        let text = std::str::from_utf8(message).ok()?.strip_suffix("\u{1}\u{1}")?;
        let (head, fields) = text.split_once('\u{1}')?;
        let name = head.strip_prefix("n,a=")?.strip_suffix(',')?;
        let name = plain_name(name);
        let auth = fields.split('\u{1}').find_map(|field| field.strip_prefix("auth="))?;
        let (scheme, token) = auth.split_once(' ')?;
        let usable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        (scheme.eq_ignore_ascii_case("bearer") && usable)
            .then(|| Progress::Bearer { name, token: SecretString::from(token.to_owned()) })
    };
    read().unwrap_or(Progress::Failed)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::super::config::{AccountConfig, Config};
    use super::*;

    fn logins() -> Arc<Logins> {
        let dir = tempfile::tempdir().unwrap();
        let account = |(name, password): (&str, &str)| {
            let file = dir.path().join(name);
            std::fs::write(&file, password).unwrap();
            AccountConfig {
                name: name.into(),
                password_file: Some(file),
                senders: vec!["*".into()],
                ..AccountConfig::default()
            }
        };
        let accounts = [("user", "pencil"), ("bleistift", "grün"), ("cn=crm,o=x", "pencil")].map(account).to_vec();
        Arc::new(Logins::load(&Config { accounts, ..Config::default() }).unwrap())
    }

    /// Plays the messages; says what came in the end.
    fn play(method: Method, messages: &[Option<&[u8]>]) -> String {
        let mut exchange = Exchange::begin(method, &logins()).unwrap();
        let mut last = String::new();
        for message in messages {
            last = match exchange.step(*message) {
                Progress::Challenge(bytes) => format!("challenge {}", bytes.escape_ascii()),
                Progress::Proven(login) => format!("proven {}", login.name),
                Progress::Bearer { .. } => "bearer".into(),
                Progress::Failed => "failed".into(),
            };
        }
        last
    }

    #[test]
    fn passwords_prove_an_account_by_plain_and_login() {
        let plain = |message: &'static [u8]| play(Method::Plain, &[Some(message)]);
        assert_eq!(plain(b"\0user\0pencil"), "proven user");
        assert_eq!(plain(b"user\0user\0pencil"), "proven user");
        assert_eq!(plain(b"other\0user\0pencil"), "failed", "nobody acts for somebody else");
        assert_eq!(plain(b"\0user\0Pencil"), "failed");
        assert_eq!(plain(b"\0nobody\0pencil"), "failed");
        assert_eq!(plain(b"user"), "failed");
        assert_eq!(play(Method::Plain, &[None]), "challenge ");
        assert_eq!(play(Method::Login, &[None, Some(b"user"), Some(b"pencil")]), "proven user");
        assert_eq!(play(Method::Login, &[None, Some(b"user"), Some(b"pen")]), "failed");
        assert_eq!(play(Method::Login, &[None]), "challenge Username:");
        assert_eq!(play(Method::Login, &[None, Some(b"user")]), "challenge Password:");
        // An accent comes composed, or behind its letter.
        for password in ["grün", "gru\u{308}n"] {
            let message = format!("\0bleistift\0{password}");
            assert_eq!(play(Method::Plain, &[Some(message.as_bytes())]), "proven bleistift", "{password:?}");
            let messages = [Some(&b"bleistift"[..]), Some(password.as_bytes())];
            assert_eq!(play(Method::Login, &messages), "proven bleistift", "{password:?}");
        }
        // The name may come along with AUTH.
        assert_eq!(play(Method::Login, &[Some(b"user")]), "challenge Password:");
        assert_eq!(play(Method::Login, &[Some(b"user"), Some(b"pencil")]), "proven user");
        assert_eq!(play(Method::Login, &[Some(b"user"), Some(b"pen")]), "failed");
        assert_eq!(play(Method::Login, &[Some(b""), Some(b"pencil")]), "failed");
    }

    /// The client's side of SCRAM (RFC 5802 section 3), by hand.
    fn scram(gs2: &str, name: &str, password: &str) -> String {
        use base64::Engine;
        use base64::prelude::BASE64_STANDARD;
        use ring::{digest, hmac, pbkdf2};
        let mut exchange = Exchange::begin(Method::ScramSha256, &logins()).unwrap();
        let begin = format!("{gs2}n={name},r=abcdefgh");
        let Progress::Challenge(first) = exchange.step(Some(begin.as_bytes())) else { return "refused".into() };
        let first = String::from_utf8(first).unwrap();
        let part = |name: &str| first.split(',').find_map(|p| p.strip_prefix(name)).unwrap().to_owned();
        let salt = BASE64_STANDARD.decode(part("s=")).unwrap();
        let mut salted = [0u8; 32];
        let iterations = part("i=").parse().unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client_key = hmac::sign(&key, b"Client Key");
        let stored = digest::digest(&digest::SHA256, client_key.as_ref());
        let without_proof = format!("c={},r={}", BASE64_STANDARD.encode(gs2), part("r="));
        let message = format!("n={name},r=abcdefgh,{first},{without_proof}");
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored.as_ref()), message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let last = format!("{without_proof},p={}", BASE64_STANDARD.encode(proof));
        match exchange.step(Some(last.as_bytes())) {
            Progress::Challenge(answer) if answer.starts_with(b"v=") => match exchange.step(Some(b"")) {
                Progress::Proven(login) => format!("proven {}", login.name),
                _ => "failed at the end".into(),
            },
            _ => "failed".into(),
        }
    }

    #[test]
    fn scram_proves_an_account_without_its_password() {
        // What a client says of channel binding (RFC 5802 section 6), which is not offered here.
        let table = [
            ("n,,", "user", "pencil", "proven user"),
            ("n,,", "user", "Pencil", "failed"),
            ("y,,", "user", "pencil", "proven user"),
            ("y,,", "user", "Pencil", "failed"),
            ("p=tls-unique,,", "user", "pencil", "refused"),
            ("p=tls-exporter,,", "user", "pencil", "refused"),
            ("n,a=other,", "user", "pencil", "failed"),
            // A comma and an equals sign are written so (RFC 5802 section 5.1).
            ("n,,", "cn=3Dcrm=2Co=3Dx", "pencil", "proven cn=crm,o=x"),
            ("n,a=cn=3Dcrm=2Co=3Dx,", "cn=3Dcrm=2Co=3Dx", "pencil", "proven cn=crm,o=x"),
            ("n,,", "nobody", "pencil", "failed"),
        ];
        for (gs2, name, password, want) in table {
            assert_eq!(scram(gs2, name, password), want, "{gs2} {name} {password}");
        }
    }

    #[test]
    fn a_bearer_message_gives_name_and_token() {
        let read = |message: &[u8]| match bearer(message) {
            Progress::Bearer { name, token } => format!("{name} {}", token.expose_secret()),
            _ => "failed".into(),
        };
        let good = b"n,a=user@example.com,\x01host=x\x01port=587\x01auth=Bearer vF9dft4qmT=\x01\x01";
        assert_eq!(read(good), "user@example.com vF9dft4qmT=");
        let table: [&[u8]; 6] = [
            b"",
            b"n,,\x01auth=Bearer x\x01\x01",
            b"y,a=u,\x01auth=Bearer x\x01\x01",
            b"n,a=u,\x01auth=Basic x\x01\x01",
            b"n,a=u,\x01auth=Bearer x y\x01\x01",
            b"n,a=u,\x01auth=Bearer x\x01",
        ];
        for message in table {
            assert_eq!(read(message), "failed", "{}", message.escape_ascii());
        }
    }
}
