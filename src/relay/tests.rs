//! Sessions as transcripts (tests/relay_transcripts): a server on loopback plays the lines `S:`, and expects `C:`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::body::nature;
use super::config::{Mechanism, Security};
use super::job::{Job, JobRecipient};
use super::pool::{Limits, Pool};
use super::server::{Parcel, Server, Slots};
use crate::accounts::Login;
use crate::mail::Address;
use crate::metrics::Metrics;
use crate::net::connect::{ConnectConfig, Connector};

pub(super) trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

type Wire = BufReader<Box<dyn Both>>;

/// `\r`, `\n`, `\0`, `\\` and `\xHH` as octets.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match (byte, (byte == b'\\').then(|| rest.next()).flatten()) {
            (_, Some(b'r')) => b'\r',
            (_, Some(b'n')) => b'\n',
            (_, Some(b'0')) => 0,
            (_, Some(b'x')) => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            (byte, _) => byte,
        });
    }
    out
}

/// Plays the server's part; says what the client did otherwise than expected.
async fn play(listener: TcpListener, acceptor: TlsAcceptor, script: Vec<String>) -> Result<(), String> {
    let mut wire: Option<Wire> = None;
    for line in script {
        let (kind, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match kind {
            "accept" => wire = Some(BufReader::new(Box::new(listener.accept().await.unwrap().0))),
            "tls" => {
                let plain = wire.take().unwrap().into_inner();
                let tls = acceptor.accept(plain).await.map_err(|error| format!("TLS: {error}"))?;
                wire = Some(BufReader::new(Box::new(tls)));
            }
            "tls_fails" => drop(acceptor.accept(wire.take().unwrap().into_inner()).await),
            "close" => wire = None,
            // The client sees no answer, and goes away by itself.
            "silence" => drop(wire.as_mut().unwrap().read_to_end(&mut Vec::new()).await),
            "S:" => wire.as_mut().unwrap().write_all(&[&unescape(rest)[..], b"\r\n"].concat()).await.unwrap(),
            "C:" => {
                let mut said = String::new();
                wire.as_mut().unwrap().read_line(&mut said).await.map_err(|error| error.to_string())?;
                if said != format!("{rest}\r\n") {
                    return Err(format!("the client said {said:?} instead of {rest:?}"));
                }
            }
            "D:" => {
                let wanted = unescape(rest);
                let mut said = vec![0; wanted.len()];
                wire.as_mut().unwrap().read_exact(&mut said).await.map_err(|error| error.to_string())?;
                if said != wanted {
                    return Err(format!("the client sent {:?}", String::from_utf8_lossy(&said)));
                }
            }
            _ => {}
        }
        if let Some(wire) = &mut wire {
            let _ = wire.flush().await;
        }
    }
    Ok(())
}

/// What stands in the head of a transcript.
#[derive(Default)]
struct Head {
    security: Option<Security>,
    mechanism: Option<Mechanism>,
    login: Option<Login>,
    /// What there is instead of a token that was refused.
    other: Option<Login>,
    stranger: bool,
    jobs: Vec<Job>,
    wanted: Vec<String>,
    /// Whether the server counts as one that answered: without answers its lane rests.
    answered: Option<bool>,
}

fn head(lines: &[String]) -> Head {
    let word = |text: &str| toml::Value::String(text.to_owned());
    let mut head = Head::default();
    for line in lines {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        match kind {
            "security:" => head.security = Some(word(rest).try_into().unwrap()),
            "mechanism:" => head.mechanism = Some(word(rest).try_into().unwrap()),
            "other:" => {
                head.other = Some(Login::Bearer { user: words[0].to_owned(), token: words[1].to_owned().into() })
            }
            "stranger" => head.stranger = true,
            "login:" => {
                let (user, secret) = (words[1].to_owned(), words[2].to_owned().into());
                head.login = Some(match words[0] {
                    "bearer" => Login::Bearer { user, token: secret },
                    _ => Login::Password { user, password: secret },
                });
            }
            "from:" => head.jobs.push(Job {
                id: "1".into(),
                sender: Address::parse(words[0]).ok(),
                recipients: Vec::new(),
                bytes: Arc::from(&b"X: y\r\n\r\nhi\r\n"[..]),
                smtputf8: words.contains(&"SMTPUTF8"),
                eight_bit: false,
                ret: words.iter().find_map(|word| word.strip_prefix("RET=")).map(str::to_owned),
                envid: words.iter().find_map(|word| word.strip_prefix("ENVID=")).map(str::to_owned),
                account: None,
            }),
            "to:" => head.jobs.last_mut().unwrap().recipients.push(JobRecipient {
                address: Address::parse(words[0]).unwrap(),
                notify: words.iter().find_map(|word| word.strip_prefix("NOTIFY=")).map(str::to_owned),
                orcpt: words.iter().find_map(|word| word.strip_prefix("ORCPT=")).map(str::to_owned),
            }),
            "mail:" => head.jobs.last_mut().unwrap().bytes = unescape(rest).into(),
            "answered:" => head.answered = Some(rest == "yes"),
            "=" => head.wanted.push(rest.to_owned()),
            _ => {}
        }
    }
    head
}

fn server(head: &Head, port: u16, ca: &Path) -> Server {
    let ca_file = (!head.stranger).then(|| ca.to_owned());
    let connect = ConnectConfig { ca_file, proxy: None, timeout: Duration::from_secs(5) };
    let (login, other) = (head.login.clone(), head.other.clone());
    Server {
        name: "test".into(),
        host: "localhost".into(),
        port,
        security: head.security.unwrap_or(Security::None),
        mechanism: head.mechanism.unwrap_or(Mechanism::Auto),
        hostname: "gw.example".into(),
        command_timeout: Duration::from_millis(300),
        data_timeout: Duration::from_millis(300),
        connector: Connector::new(&connect).unwrap(),
        ask: Arc::new(move |_, refused| {
            let login = if refused.is_some() { other.clone() } else { login.clone() };
            Box::pin(async move { Ok(login) })
        }),
        per_sender: false,
        pool: Pool::new(Limits { mails: 3, idle: Duration::from_secs(5), waiting: 2 }),
        slots: Slots::new(2),
        metrics: Metrics::new(),
    }
}

/// A server's side of TLS with a certificate for one name, which whoever reads `ca.pem` in the directory believes; and
/// the certificate's digest.
pub(super) fn certificate(dir: &Path, name: &str) -> (TlsAcceptor, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(dir.join("ca.pem"), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), Sha256::digest(made.cert.der()).to_vec())
}

#[tokio::test]
async fn transcripts() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = certificate(dir.path(), "localhost").0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay_transcripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "txt"));
    files.sort();
    assert!(files.len() >= 20, "{}", files.len());
    let mut faults = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let lines: Vec<String> = std::fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
        let head = head(&lines);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = server(&head, listener.local_addr().unwrap().port(), &dir.path().join("ca.pem"));
        let played = tokio::spawn(play(listener, acceptor.clone(), lines));
        let mut told = Vec::new();
        for job in &head.jobs {
            let parcel = Parcel { job, front: b"", nature: nature(&job.bytes) };
            let sent = server.deliver(parcel).await;
            if head.answered.is_some_and(|answered| sent.transport.is_some() != answered) {
                faults.push(format!("{name}: {:?} answered", sent.transport));
            }
            told.extend(sent.recipients.iter().map(|outcome| format!("{} {}", outcome.as_str(), outcome.reply())));
        }
        drop(server);
        let fits = told.len() == head.wanted.len()
            && told.iter().zip(&head.wanted).all(|(told, wanted)| told.starts_with(wanted.as_str()));
        if !fits {
            faults.push(format!("{name}: told {told:#?}\n  instead of {:#?}", head.wanted));
        }
        if let Err(fault) = played.await.unwrap() {
            faults.push(format!("{name}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
