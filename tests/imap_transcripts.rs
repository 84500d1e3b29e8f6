//! IMAP sessions as transcripts: a server on loopback plays the lines `S:`, and expects the lines `C:`.
//!
//! `do:` names what the client does, one after the other; `=` lines are what it tells. A dot at the beginning stands
//! for the tag of the command. After its last line the server closes the connection.

use std::path::Path;
use std::time::Duration;

use ticketgate::accounts::Login;
use ticketgate::net::connect::{ConnectConfig, Connector};
use ticketgate::pull::imap::{Idle, ImapError, Mailbox, Marks, Mechanism, Security, Settings};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Plays the server's part; returns what the client said otherwise than expected.
async fn play(socket: TcpStream, script: Vec<String>) -> Result<(), String> {
    let mut stream = BufReader::new(socket);
    let mut tag = String::new();
    for line in script {
        if let Some(wanted) = line.strip_prefix("C: ") {
            let mut said = String::new();
            stream.read_line(&mut said).await.map_err(|error| error.to_string())?;
            let mut said = said.trim_end().to_owned();
            if wanted.starts_with(". ")
                && let Some((theirs, rest)) = said.clone().split_once(' ')
            {
                tag = theirs.to_owned();
                said = format!(". {rest}");
            }
            if said != wanted {
                return Err(format!("the client said {said:?} instead of {wanted:?}"));
            }
        } else if let Some(text) = line.strip_prefix("S: ") {
            let text = text.strip_prefix(". ").map_or(text.to_owned(), |rest| format!("{tag} {rest}"));
            stream.write_all(format!("{text}\r\n").as_bytes()).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

async fn act(port: u16, steps: &str, told: &mut Vec<String>) -> Result<(), ImapError> {
    let connect = ConnectConfig { ca_file: None, proxy: None, timeout: Duration::from_secs(5) };
    let connector = Connector::new(&connect).unwrap();
    let settings = Settings {
        host: "127.0.0.1".into(),
        port,
        security: Security::None,
        mechanism: Mechanism::Auto,
        folder: "INBOX".into(),
        command_timeout: Duration::from_secs(5),
    };
    let login = Login::Password { user: "user".into(), password: "pass".to_owned().into() };
    let mut mailbox = Mailbox::open(&connector, &settings, &login).await?;
    told.push("open".into());
    for step in steps.split_whitespace().skip(1) {
        match step {
            "select" => {
                let f = mailbox.select("INBOX").await?;
                told.push(format!(
                    "select validity={} next={} exists={} labels={:?}",
                    f.validity, f.next, f.exists, f.labels
                ));
            }
            "list" => {
                told.extend(mailbox.list(10, None).await?.iter().map(|mail| {
                    format!("{} size={} seen={} labelled={}", mail.uid, mail.size, mail.seen, mail.labelled)
                }))
            }
            "mark" => {
                mailbox.mark(&[10, 11], Marks { seen: true, imported: true, rejected: true }).await?;
                told.push("marked".into());
            }
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

fn in_words(error: &ImapError) -> String {
    match error {
        ImapError::Connect(error) => format!("Connect: {error}"),
        ImapError::LoginRefused(said) => format!("LoginRefused: {said}"),
        ImapError::Refused { command, said } => format!("Refused: {command} {said}"),
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
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let steps = lines.iter().find_map(|line| line.strip_prefix("do: ")).expect("a line `do:`");
        let wanted: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("= ")).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = lines.clone();
        let server = tokio::spawn(async move { play(listener.accept().await.unwrap().0, script).await });
        let mut told = Vec::new();
        if let Err(error) = act(port, steps, &mut told).await {
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
