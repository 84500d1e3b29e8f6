//! Whatever a server of IMAP says, and in whatever pieces: what comes of it is what was asked for, and every command
//! comes to its end.
//!
//! The input is what the server says from its greeting on; our tags are known beforehand (T1, T2 and so on). Its first
//! byte says how large the pieces are. The server hangs up after its last one, so nobody waits.

use std::future::ready;
use std::sync::OnceLock;
use std::time::Duration;

use secrecy::SecretString;
use ticketgate::accounts::{Cause, Login, absence, holds_for_all, wait_asked};
use ticketgate::net::connect::{ConnectConfig, Connector};
use ticketgate::pull::imap::{Idle, ImapError, Labels, Mailbox, Marks, Mechanism, Security, Settings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Longer than any input is talked over.
const PATIENCE: Duration = Duration::from_secs(60);

/// What must not stand in an error.
const PASSWORD: &str = "tr0ub4dor&3";

pub fn run(data: &[u8]) {
    let Some((&piece, said)) = data.split_first() else { return };
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let said = said.to_vec();
    let ended = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (ended, kept) = tokio::join!(client(port), serve(listener, said, usize::from(piece)));
        // Thousands of connections a minute would use up the ports that wait for stray packets.
        let _ = kept.map(|stream| stream.set_zero_linger());
        ended
    });
    if let Err(error) = ended {
        let shown = error.to_string();
        assert!(!matches!(error, ImapError::Timeout(_) | ImapError::Connect(_)), "{shown}");
        assert!(!shown.contains('\n') && shown.len() < 2000, "{shown:?}");
        // Who has not been told it can only have guessed it.
        assert!(!matches!(error, ImapError::LoginRefused(_)) || !shown.contains(PASSWORD), "{shown:?}");
        let _ = (absence(&shown), holds_for_all(&shown), wait_asked(&shown), Cause::Protocol);
    }
}

/// Says everything, then hangs up for its part.
async fn serve(listener: TcpListener, said: Vec<u8>, piece: usize) -> Option<tokio::net::TcpStream> {
    let (mut stream, _) = listener.accept().await.ok()?;
    let _ = stream.set_nodelay(true);
    // Many small pieces would take long, and say no more than a few.
    let piece = piece.max(said.len() / 64).max(1);
    for piece in said.chunks(piece) {
        stream.write_all(piece).await.ok()?;
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.ok()?;
    Some(stream)
}

/// What an account's task does in a mailbox, one after the other.
async fn client(port: u16) -> Result<(), ImapError> {
    let settings = Settings {
        host: "127.0.0.1".to_owned(),
        port,
        security: Security::None,
        mechanism: Mechanism::Auto,
        folder: "INBOX".to_owned(),
        command_timeout: PATIENCE,
    };
    let login = Login::Password { user: "anna".to_owned(), password: SecretString::from(PASSWORD) };
    let mut mailbox = Mailbox::open(connector(), &settings, &login).await?;
    let folder = mailbox.select("Done").await?;
    assert!(folder.validity != 0);
    let listed = mailbox.list(3, Some(9)).await?;
    assert!(listed.windows(2).all(|pair| pair[0].uid < pair[1].uid), "{listed:?}");
    assert!(listed.iter().all(|mail| (3..=9).contains(&mail.uid)), "{listed:?}");
    let fetching = mailbox.fetch(vec![3, 4]).await?;
    while let Some((uid, _)) = mailbox.fetched(&fetching).await? {
        assert!(matches!(uid, 3 | 4));
    }
    assert!(mailbox.fetch_part(5, 0, 100).await?.is_none_or(|bytes| bytes.len() <= 100));
    mailbox.message_ids(&[3, 4, 5]).await?;
    mailbox.mark(&[3, 4], Marks { seen: true, imported: true, ..Marks::default() }).await?;
    mailbox.wait(Duration::ZERO, Idle::IfOffered, ready(())).await?;
    assert!(folder.labels != Labels::Gmail || mailbox.offers("X-GM-EXT-1"));
    mailbox.move_to(&[4], "Away").await?;
    mailbox.close().await;
    Ok(())
}

fn connector() -> &'static Connector {
    static CONNECTOR: OnceLock<Connector> = OnceLock::new();
    CONNECTOR.get_or_init(|| {
        let config = ConnectConfig { ca_file: None, proxy: None, timeout: PATIENCE };
        Connector::new(&config).expect("a connector")
    })
}
