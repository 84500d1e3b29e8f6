//! A scripted SMTP server on loopback, which remembers what it heard and what it took.

#![allow(dead_code, reason = "no test asks for all of it")]

use std::sync::{Arc, Mutex};

use ticketgate::relay::{Kind, RelayConfig, Security};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is answered to a command in capitals, and after so many recipients; `None` is the usual answer. The end of a mail
/// is the command ".".
pub type Say = fn(&str, usize) -> Option<&'static str>;

/// A mail that the server took: its recipients, and its lines as they came.
#[derive(Debug)]
pub struct Taken {
    pub to: Vec<String>,
    pub lines: Vec<String>,
}

/// The server. Where `say` says nothing, it refuses local parts that begin with "bad", and those that are busy.
#[derive(Clone)]
pub struct Peer {
    pub port: u16,
    /// Local parts that are refused for now.
    pub busy: Arc<Mutex<Vec<String>>>,
    /// The commands, in their order.
    pub heard: Arc<Mutex<Vec<String>>>,
    pub taken: Arc<Mutex<Vec<Taken>>>,
    /// Before it takes a mail it waits until this is open.
    pub gate: Arc<watch::Sender<bool>>,
    /// What it offers beside the usual, as a line of its answer to EHLO.
    offers: &'static str,
    say: Say,
}

impl Peer {
    pub async fn start() -> Self {
        Self::offering("").await
    }

    pub async fn offering(offers: &'static str) -> Self {
        Self::listening(offers, true, |_, _| None).await
    }

    /// One that a test leads.
    pub async fn led(open: bool, say: Say) -> Self {
        Self::listening("250-AUTH PLAIN\r\n", open, say).await
    }

    async fn listening(offers: &'static str, open: bool, say: Say) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::new(watch::channel(open).0);
        let peer = Self { port, busy: Arc::default(), heard: Arc::default(), taken: Arc::default(), gate, offers, say };
        let shared = peer.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(socket));
            }
        });
        peer
    }

    /// How often somebody got a mail.
    pub fn count(&self, who: &str) -> usize {
        self.taken.lock().unwrap().iter().flat_map(|mail| &mail.to).filter(|to| *to == who).count()
    }

    /// How often it heard a command.
    pub fn heard(&self, verb: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|line| line.to_uppercase().starts_with(verb)).count()
    }

    async fn serve(self, socket: TcpStream) {
        socket.set_nodelay(true).unwrap();
        let (read, mut write) = socket.into_split();
        let mut lines = BufReader::new(read).lines();
        let (mut to, mut data) = (Vec::new(), None::<Vec<String>>);
        if write.write_all(b"220 peer ESMTP\r\n").await.is_err() {
            return;
        }
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(text) = data.as_mut().filter(|_| line != ".") {
                text.push(line);
                continue;
            }
            let verb = line.to_uppercase();
            self.heard.lock().unwrap().push(line.clone());
            let answer = match ((self.say)(&verb, to.len()), data.take()) {
                (Some(said), _) => said.to_owned(),
                (None, Some(lines)) => {
                    if self.gate.subscribe().wait_for(|open| *open).await.is_err() {
                        return;
                    }
                    self.taken.lock().unwrap().push(Taken { to: std::mem::take(&mut to), lines });
                    "250 2.0.0 taken\r\n".to_owned()
                }
                (None, None) => self.usual(&verb, &line, &mut to),
            };
            data = answer.starts_with("354").then(Vec::new);
            if write.write_all(answer.as_bytes()).await.is_err() || answer.starts_with("221") {
                return;
            }
        }
    }

    fn usual(&self, verb: &str, line: &str, to: &mut Vec<String>) -> String {
        if verb.starts_with("EHLO") {
            return format!("250-peer\r\n{}250-PIPELINING\r\n250 8BITMIME\r\n", self.offers);
        }
        if verb.starts_with("MAIL") {
            to.clear();
        }
        if verb.starts_with("RCPT") {
            return self.recipient(line, to).to_owned();
        }
        let said = match verb {
            "DATA" if to.is_empty() => "503 5.5.1 no recipient\r\n",
            "DATA" => "354 go on\r\n",
            "QUIT" => "221 2.0.0 bye\r\n",
            _ => "250 2.0.0 ok\r\n",
        };
        said.to_owned()
    }

    fn recipient(&self, line: &str, to: &mut Vec<String>) -> &'static str {
        let who = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let local = who.split('@').next().unwrap_or_default().to_owned();
        if self.busy.lock().unwrap().contains(&local) {
            return "451 4.3.2 try later\r\n";
        }
        if local.starts_with("bad") {
            return "550 5.1.1 no such user\r\n";
        }
        to.push(who);
        "250 2.1.5 ok\r\n"
    }
}

/// A relay by the server at this port.
pub fn smtp(name: &str, port: u16) -> RelayConfig {
    RelayConfig {
        name: name.into(),
        kind: Kind::Smtp,
        host: Some("127.0.0.1".into()),
        port: Some(port),
        security: Some(Security::None),
        ..RelayConfig::default()
    }
}
