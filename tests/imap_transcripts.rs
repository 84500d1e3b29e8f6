//! IMAP sessions as transcripts: a server on loopback plays the lines `S:`, and expects the lines `C:`.
//!
//! `do:` names what the client does, one after the other; `=` lines are what it tells. A dot at the beginning stands
//! for the tag of the command. `with:` says how the client is set up. `TLS` has the server begin TLS, `HELLO` waits for
//! the client's first bytes without taking them, a `¶` is a line end within one write. After its last line the server
//! closes the connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ticketgate::accounts::Login;
use ticketgate::net::connect::{ConnectConfig, Connector};
use ticketgate::pull::imap::{Idle, ImapError, Mailbox, Marks, Mechanism, Security, Settings};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A certificate for `localhost`, for the servers of all transcripts.
struct Authority {
    acceptor: TlsAcceptor,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self { acceptor: TlsAcceptor::from(Arc::new(tls)), file }
    }
}

/// Plays the server's part; returns what the client said otherwise than expected.
async fn play(socket: TcpStream, script: Vec<String>, acceptor: TlsAcceptor) -> Result<(), String> {
    let mut stream: BufReader<Box<dyn Duplex>> = BufReader::new(Box::new(socket));
    let mut tag = String::new();
    for line in script {
        if let Some(wanted) = line.strip_prefix("C: ") {
            let mut said = String::new();
            stream.read_line(&mut said).await.map_err(|error| error.to_string())?;
            let mut said = said.trim_end_matches(['\r', '\n']).to_owned();
            if wanted.starts_with(". ")
                && let Some((theirs, rest)) = said.clone().split_once(' ')
            {
                tag = theirs.to_owned();
                said = format!(". {rest}");
            }
            // A star stands for what no table can hold, such as a token.
            if wanted == "*" && !said.is_empty() {
                continue;
            }
            if said != wanted {
                return Err(format!("the client said {said:?} instead of {wanted:?}"));
            }
        } else if line == "HELLO" {
            stream.fill_buf().await.map_err(|error| error.to_string())?;
        } else if line == "TLS" {
            stream = BufReader::new(Box::new(acceptor.accept(stream).await.map_err(|error| error.to_string())?));
        } else if let Some(text) = line.strip_prefix("S: ") {
            let text = text.strip_prefix(". ").map_or(text.to_owned(), |rest| format!("{tag} {rest}"));
            // Lines that are split by `¶` go out in one write.
            let text = text.replace('¶', "\r\n");
            stream.write_all(format!("{text}\r\n").as_bytes()).await.map_err(|error| error.to_string())?;
            stream.flush().await.map_err(|error| error.to_string())?;
        }
    }
    // What the client still sends is taken, so that the end is an end and no reset.
    let _ = stream.shutdown().await;
    let rest = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
    drop(rest);
    Ok(())
}

/// The words of `with:`, such as `security=starttls token=secret`.
fn word<'a>(with: &'a str, name: &str) -> Option<&'a str> {
    with.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

async fn act(
    port: u16,
    steps: &str,
    with: &str,
    authority: &Authority,
    told: &mut Vec<String>,
) -> Result<(), ImapError> {
    let ca_file = Some(authority.file.path().to_owned());
    let connect = ConnectConfig { ca_file, proxy: None, timeout: Duration::from_secs(5) };
    let connector = Connector::new(&connect).unwrap();
    let settings = Settings {
        host: "localhost".into(),
        port,
        security: match word(with, "security") {
            None => Security::None,
            Some("starttls") => Security::Starttls,
            Some("tls") => Security::Tls,
            Some(other) => panic!("no such security: {other}"),
        },
        mechanism: match word(with, "mechanism") {
            None => Mechanism::Auto,
            Some("oauthbearer") => Mechanism::Oauthbearer,
            Some("xoauth2") => Mechanism::Xoauth2,
            Some("login") => Mechanism::Login,
            Some(other) => panic!("no such mechanism: {other}"),
        },
        folder: "INBOX".into(),
        command_timeout: Duration::from_secs(5),
    };
    let user = word(with, "user").unwrap_or("user").to_owned();
    let login = match word(with, "token") {
        Some(token) => Login::Bearer { user, token: token.to_owned().into() },
        None => Login::Password { user, password: word(with, "password").unwrap_or("pass").to_owned().into() },
    };
    let mut mailbox = Mailbox::open(&connector, &settings, &login).await?;
    told.push("open".into());
    for step in steps.split_whitespace().skip(1) {
        match step {
            step if step == "select" || step.starts_with("select:") => {
                let folder = step.split_once(':').map_or("INBOX", |(_, folder)| folder);
                let f = mailbox.select(folder).await?;
                told.push(format!(
                    "select validity={} next={} exists={} labels={:?}",
                    f.validity, f.next, f.exists, f.labels
                ));
            }
            "list" => told.extend(mailbox.list(10, None).await?.iter().map(|mail| {
                format!(
                    "{} size={} seen={} labelled={}",
                    mail.uid,
                    mail.size.map_or("?".to_owned(), |size| size.to_string()),
                    mail.seen,
                    mail.labelled
                )
            })),
            "mark" => {
                mailbox.mark(&[10, 11], Marks { seen: true, imported: true, rejected: true, cleared: false }).await?;
                told.push("marked".into());
            }
            "clear" => {
                mailbox.mark(&[10], Marks { seen: false, imported: true, rejected: false, cleared: true }).await?;
                told.push("cleared".into());
            }
            "notes" => {
                mailbox.open_notes("TicketgateLease").await?;
                told.push(format!("notes {:?}", uids(&mut mailbox).await?));
            }
            "append" => {
                mailbox.append("TicketgateLease", b"A: b\r\n\r\n").await?;
                told.push(format!("notes {:?}", uids(&mut mailbox).await?));
            }
            "remove" => {
                mailbox.remove(&[1], false).await?;
                told.push("removed".into());
            }
            "move" => {
                mailbox.move_to(&[10, 11], "Done & gone").await?;
                told.push("moved".into());
            }
            "part" => {
                let part = mailbox.fetch_part(10, 0, 512 << 10).await?;
                told.push(format!("part of {:?} bytes", part.map(|part| part.len())));
            }
            "tls" => told.push(format!("tls {}", mailbox.tls_info().is_some())),
            "offers" => told.push(format!("idle {}", mailbox.offers("IDLE"))),
            "fetch" => {
                let fetching = mailbox.fetch(vec![10, 11]).await?;
                while let Some((uid, bytes)) = mailbox.fetched(&fetching).await? {
                    told.push(format!("{uid} has {} bytes", bytes.len()));
                }
            }
            "wait" => {
                let never = std::future::pending();
                let woken = mailbox.wait(Duration::from_millis(300), Idle::IfOffered, never).await?;
                told.push(format!("woken by {woken:?}"));
            }
            other => panic!("no such step: {other}"),
        }
    }
    Ok(())
}

async fn uids(mailbox: &mut Mailbox) -> Result<Vec<u32>, ImapError> {
    Ok(mailbox.notes().await?.iter().map(|note| note.uid).collect())
}

fn in_words(error: &ImapError) -> String {
    match error {
        ImapError::Connect(error) => format!("Connect: {error}"),
        ImapError::LoginRefused(said) => format!("LoginRefused: {said}"),
        ImapError::Refused { command, said } => format!("Refused: {command} {said}"),
        ImapError::NoFolder { command, said, .. } => format!("NoFolder: {command} {said}"),
        ImapError::Lost(said) => format!("Lost: {said}"),
        ImapError::Timeout(command) => format!("Timeout: {command}"),
        ImapError::Protocol(said) => format!("Protocol: {said}"),
    }
}

#[tokio::test]
async fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imap_transcripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8);
    let authority = Authority::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let steps = lines.iter().find_map(|line| line.strip_prefix("do: ")).expect("a line `do:`");
        let with = lines.iter().find_map(|line| line.strip_prefix("with: ")).unwrap_or_default();
        let wanted: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("= ")).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (script, acceptor) = (lines.clone(), authority.acceptor.clone());
        let server = tokio::spawn(async move { play(listener.accept().await.unwrap().0, script, acceptor).await });
        let mut told = Vec::new();
        if let Err(error) = act(port, steps, with, &authority, &mut told).await {
            told.push(in_words(&error));
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(told.len(), wanted.len(), "{name}: {told:?}");
        for (told, wanted) in told.iter().zip(&wanted) {
            assert!(told.starts_with(wanted), "{name}: {told:?} instead of {wanted:?}");
        }
        assert_eq!(server.await.unwrap(), Ok(()), "{name}");
    }
}
