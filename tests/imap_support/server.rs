//! A small IMAP server on loopback that keeps mailboxes and makes the faults that it is told to make.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Debug, Default)]
pub struct Mail {
    pub bytes: Vec<u8>,
    /// What RFC822.SIZE says.
    pub size: u64,
    pub flags: BTreeSet<String>,
    pub arrived: Timestamp,
}

impl Mail {
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|one| one.eq_ignore_ascii_case(flag))
    }
}

#[derive(Clone, Debug)]
pub struct Folder {
    pub validity: u32,
    pub next: u32,
    pub mails: BTreeMap<u32, Mail>,
}

/// What a FETCH of a body does for some mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Tagged NO for the whole command.
    Refuse,
    /// Tagged NO because there were too many requests.
    Throttle,
    /// The connection ends before the mail.
    Cut,
    /// The mail is left out.
    Silent,
    /// NIL for a body.
    Nil,
    /// Responses without end, none of them the mail.
    Endless,
    /// The mail is expunged as soon as it is asked for, and comes as NIL.
    Expunge,
    /// Its date of arrival is NIL, which no client can read.
    Dateless,
}

#[derive(Debug)]
pub struct State {
    pub folders: BTreeMap<String, Folder>,
    pub capabilities: String,
    pub keywords: bool,
    /// Connections are taken and nothing is said.
    pub hang: bool,
    pub faults: BTreeMap<u32, Fault>,
    /// STORE is refused for these.
    pub unlabelled: HashSet<u32>,
    /// Commands by their first word that are refused.
    pub refused: HashSet<String>,
    /// What a refusal says, and a FETCH that is throttled. A `%` in it is the refused command.
    pub refusal: String,
    /// The connection ends in the middle of this write, counted over all connections.
    pub cut_at: Option<usize>,
    pub writes: usize,
    pub was_cut: bool,
    pub commands: Vec<String>,
    /// How many bytes of mail went out.
    pub served: u64,
    pub logins: usize,
    /// The server's clock.
    pub now: Timestamp,
    /// Listings say nothing of the size of these, and nothing readable of the arrival of those.
    pub unsized_mails: HashSet<u32>,
    pub undated: HashSet<u32>,
    /// How long a body, or a part of one, takes to come.
    pub slow: Duration,
    /// A mail that comes with the next STORE, whose answer tells of it; IDLE does not tell of it again.
    pub with_store: Option<Vec<u8>>,
    /// IDLE is ended with words without end.
    pub endless_idle: bool,
    /// Every folder but INBOX has a name that begins like this.
    pub prefix: Option<String>,
}

impl State {
    pub fn inbox(&mut self) -> &mut Folder {
        self.folders.get_mut("INBOX").unwrap()
    }

    pub fn in_inbox(&mut self, uid: u32) -> &mut Mail {
        self.inbox().mails.get_mut(&uid).unwrap()
    }

    /// Puts a mail into the inbox without a word to whoever waits; returns its uid.
    pub fn put(&mut self, bytes: Vec<u8>) -> u32 {
        let arrived = self.now;
        let inbox = self.inbox();
        let (uid, size) = (inbox.next, bytes.len() as u64);
        inbox.next += 1;
        inbox.mails.insert(uid, Mail { bytes, size, flags: BTreeSet::new(), arrived });
        uid
    }
}

/// A handle; the server runs until the test ends.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

pub fn mail(name: &str) -> Vec<u8> {
    format!(
        "From: alice@example.net\r\nTo: support@localhost\r\nSubject: {name}\r\nMessage-ID: <{name}@client.example>\r\n\
         Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nPlease help with {name}.\r\n"
    )
    .into_bytes()
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inbox = Folder { validity: 7, next: 1, mails: BTreeMap::new() };
        let state = State {
            folders: BTreeMap::from([("INBOX".to_owned(), inbox)]),
            capabilities: "IMAP4rev1 IDLE UIDPLUS MOVE".into(),
            keywords: true,
            hang: false,
            faults: BTreeMap::new(),
            unlabelled: HashSet::new(),
            refused: HashSet::new(),
            refusal: "NO not that".into(),
            cut_at: None,
            writes: 0,
            was_cut: false,
            commands: Vec::new(),
            served: 0,
            logins: 0,
            now: Timestamp::from_second(1_795_000_000).unwrap(),
            unsized_mails: HashSet::new(),
            undated: HashSet::new(),
            slow: Duration::ZERO,
            with_store: None,
            endless_idle: false,
            prefix: None,
        };
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(state)),
            changed: watch::Sender::new(0),
        };
        let this = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let session = Session { server: this.clone(), stream: BufReader::new(socket), folder: String::new() };
                tokio::spawn(session.run());
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a mail into the inbox; returns its uid.
    pub fn put(&self, bytes: Vec<u8>) -> u32 {
        let uid = self.state().put(bytes);
        self.bump();
        uid
    }

    /// Refuses a command from now on, in these words.
    pub fn refuse(&self, command: &str, said: &str) {
        let mut state = self.state();
        state.refused.insert(command.into());
        state.refusal = said.into();
    }

    pub fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Waits until something holds; it is looked at whenever a client has said something.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                changed.mark_unchanged();
                if holds(&self.state()) {
                    return;
                }
                // The store may be behind what the server has seen.
                let _ = tokio::time::timeout(Duration::from_millis(100), changed.changed()).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), waiting).await.is_err() {
            let state = self.state();
            let last: Vec<_> = state.commands.iter().rev().take(25).rev().collect();
            panic!(
                "never: {what}\n{last:#?}\n{:?}",
                state.folders["INBOX"].mails.iter().map(|(u, m)| (u, &m.flags)).collect::<Vec<_>>()
            );
        }
    }
}

struct Session {
    server: Server,
    stream: BufReader<TcpStream>,
    folder: String,
}

type End = Result<(), ()>;

impl Session {
    async fn run(mut self) {
        let _ = self.serve().await;
        self.server.bump();
    }

    async fn write(&mut self, bytes: &[u8]) -> End {
        let cut = {
            let mut state = self.server.state();
            state.writes += 1;
            let cut = state.cut_at == Some(state.writes);
            state.was_cut |= cut;
            cut
        };
        let part = if cut { &bytes[..bytes.len() / 2] } else { bytes };
        self.stream.write_all(part).await.map_err(drop)?;
        self.stream.flush().await.map_err(drop)?;
        if cut { Err(()) } else { Ok(()) }
    }

    async fn line(&mut self, text: &str) -> End {
        self.write(format!("{text}\r\n").as_bytes()).await
    }

    async fn read(&mut self) -> Result<String, ()> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(0) | Err(_) => Err(()),
            Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    async fn serve(&mut self) -> End {
        if self.server.state().hang {
            let _ = self.read().await;
            std::future::pending::<()>().await;
        }
        self.line("* OK ready").await?;
        loop {
            let line = self.read().await?;
            let (tag, command) = line.split_once(' ').ok_or(())?;
            self.server.state().commands.push(command.to_owned());
            let refused = {
                let state = self.server.state();
                state.refused.iter().any(|word| command.starts_with(word.as_str()))
            };
            if refused && !command.starts_with("APPEND") {
                let said = self.server.state().refusal.replace('%', command);
                self.line(&format!("{tag} {said}")).await?;
            } else {
                self.command(tag, command, refused).await?;
            }
            self.server.bump();
        }
    }

    async fn command(&mut self, tag: &str, command: &str, refused: bool) -> End {
        let word = command.split(' ').next().unwrap_or_default();
        match word {
            "CAPABILITY" => {
                let list = self.server.state().capabilities.clone();
                self.line(&format!("* CAPABILITY {list}")).await?;
            }
            "LOGIN" => self.server.state().logins += 1,
            "SELECT" => return self.select(tag, &unquoted(command)).await,
            "CREATE" if !self.is_name(&unquoted(command)) => return self.line(&format!("{tag} NO no namespace")).await,
            "NAMESPACE" => {
                let prefix = self.server.state().prefix.clone().unwrap_or_default();
                self.line(&format!("* NAMESPACE ((\"{prefix}\" \".\")) NIL NIL")).await?;
            }
            "LIST" => {
                let delimiter = if self.server.state().prefix.is_some() { '.' } else { '/' };
                let name = command.split(' ').nth(2).unwrap_or_default().trim_matches('"').to_owned();
                if self.server.state().folders.contains_key(&name) {
                    self.line(&format!("* LIST () \"{delimiter}\" \"{name}\"")).await?;
                }
            }
            "CREATE" => {
                let folder = Folder { validity: 99, next: 1, mails: BTreeMap::new() };
                self.server.state().folders.entry(unquoted(command)).or_insert(folder);
            }
            "APPEND" => return self.append(tag, command, refused).await,
            "IDLE" => return self.idle(tag).await,
            "EXPUNGE" => self.expunge(None).await?,
            "UID" => {
                let mut words = command.splitn(4, ' ').skip(1);
                let (verb, set) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let rest = words.next().unwrap_or_default();
                let uids = self.uids(set);
                match verb {
                    "FETCH" => return self.fetch(tag, &uids, rest).await,
                    "STORE" => return self.store(tag, &uids, rest).await,
                    "EXPUNGE" => self.expunge(Some(uids)).await?,
                    "MOVE" => return self.move_to(tag, &uids, &unquoted(rest)).await,
                    _ => return self.line(&format!("{tag} BAD unknown")).await,
                }
            }
            "LOGOUT" => {
                self.line("* BYE").await?;
                self.line(&format!("{tag} OK")).await?;
                return Err(());
            }
            _ => {}
        }
        self.line(&format!("{tag} OK done")).await
    }

    async fn move_to(&mut self, tag: &str, uids: &[u32], name: &str) -> End {
        if !self.server.state().folders.contains_key(name) {
            return self.line(&format!("{tag} NO [TRYCREATE] no")).await;
        }
        {
            let mut state = self.server.state();
            for uid in uids {
                let from = state.folders.get_mut(&self.folder).ok_or(())?;
                let Some(mail) = from.mails.remove(uid) else { continue };
                let to = state.folders.get_mut(name).ok_or(())?;
                let next = to.next;
                to.next += 1;
                to.mails.insert(next, mail);
            }
        }
        self.line(&format!("{tag} OK done")).await
    }

    fn is_name(&self, folder: &str) -> bool {
        self.server.state().prefix.as_ref().is_none_or(|prefix| folder.starts_with(prefix))
    }

    async fn select(&mut self, tag: &str, folder: &str) -> End {
        let known = self.server.state().folders.get(folder).cloned();
        let Some(known) = known else { return self.line(&format!("{tag} NO [NONEXISTENT] no such folder")).await };
        self.folder = folder.to_owned();
        let keywords = if self.server.state().keywords { " \\*" } else { "" };
        self.line(&format!("* {} EXISTS", known.mails.len())).await?;
        self.line(&format!("* OK [PERMANENTFLAGS (\\Seen \\Deleted{keywords})] x")).await?;
        self.line(&format!("* OK [UIDVALIDITY {}] x", known.validity)).await?;
        self.line(&format!("* OK [UIDNEXT {}] x", known.next)).await?;
        self.line(&format!("{tag} OK [READ-WRITE] done")).await
    }

    async fn append(&mut self, tag: &str, command: &str, refused: bool) -> End {
        let size = command.rsplit_once('{').and_then(|(_, size)| size.trim_end_matches('}').parse().ok()).unwrap_or(0);
        let name = command.split('"').nth(1).unwrap_or_default().to_owned();
        if refused || !self.server.state().folders.contains_key(&name) {
            return self.line(&format!("{tag} NO [TRYCREATE] no")).await;
        }
        // Something unasked in between, which clients have to bear.
        self.line("* OK still here").await?;
        self.line("+ go on").await?;
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes).await.map_err(drop)?;
        self.read().await?;
        {
            let mut state = self.server.state();
            let arrived = state.now;
            let folder = state.folders.get_mut(&name).unwrap();
            let uid = folder.next;
            folder.next += 1;
            folder.mails.insert(uid, Mail { size: bytes.len() as u64, bytes, flags: BTreeSet::new(), arrived });
        }
        self.line(&format!("{tag} OK [APPENDUID 1 1] done")).await
    }

    async fn idle(&mut self, tag: &str) -> End {
        let mut changed = self.server.changed.subscribe();
        let count = |server: &Server, folder: &str| server.state().folders.get(folder).map_or(0, |f| f.mails.len());
        let mut known = count(&self.server, &self.folder);
        self.line("+ idling").await?;
        loop {
            let now = count(&self.server, &self.folder);
            if now > known {
                known = now;
                self.line(&format!("* {now} EXISTS")).await?;
            }
            let mut line = String::new();
            tokio::select! {
                read = self.stream.read_line(&mut line) => {
                    if read.map_err(drop)? == 0 {
                        return Err(());
                    }
                    while self.server.state().endless_idle {
                        self.line("* OK still here").await?;
                        tokio::task::yield_now().await;
                    }
                    return self.line(&format!("{tag} OK done")).await;
                }
                _ = changed.changed() => {}
            }
        }
    }

    async fn expunge(&mut self, uids: Option<Vec<u32>>) -> End {
        let gone = {
            let mut state = self.server.state();
            let Some(folder) = state.folders.get_mut(&self.folder) else { return Ok(()) };
            let before = folder.mails.len();
            folder.mails.retain(|uid, mail| !(mail.has("\\Deleted") && uids.as_ref().is_none_or(|u| u.contains(uid))));
            before - folder.mails.len()
        };
        for _ in 0..gone {
            self.line("* 1 EXPUNGE").await?;
        }
        Ok(())
    }

    async fn store(&mut self, tag: &str, uids: &[u32], rest: &str) -> End {
        let refused = uids.iter().any(|uid| self.server.state().unlabelled.contains(uid));
        if refused {
            return self.line(&format!("{tag} NO that mail is not to be touched")).await;
        }
        let flags: Vec<String> =
            rest.split(['(', ')']).nth(1).unwrap_or_default().split(' ').map(str::to_owned).collect();
        {
            let mut state = self.server.state();
            let keywords = state.keywords;
            let Some(folder) = state.folders.get_mut(&self.folder) else { return Err(()) };
            for (_, mail) in folder.mails.iter_mut().filter(|(uid, _)| uids.contains(uid)) {
                for flag in flags.iter().filter(|flag| keywords || flag.starts_with('\\')) {
                    if rest.starts_with('-') {
                        mail.flags.remove(flag);
                    } else {
                        mail.flags.insert(flag.clone());
                    }
                }
            }
        }
        let more = self.server.state().with_store.take();
        if let Some(bytes) = more {
            let count = {
                let mut state = self.server.state();
                state.put(bytes);
                state.inbox().mails.len()
            };
            self.line(&format!("* {count} EXISTS")).await?;
        }
        self.line(&format!("{tag} OK done")).await
    }

    async fn fetch(&mut self, tag: &str, uids: &[u32], items: &str) -> End {
        let bodies = items.contains("BODY.PEEK[]");
        let inbox = self.folder == "INBOX";
        if bodies || items.contains("BODY.PEEK[]<") {
            let slow = self.server.state().slow;
            tokio::time::sleep(slow).await;
        }
        let fault = |server: &Server, uid: &u32| server.state().faults.get(uid).copied().filter(|_| bodies && inbox);
        if uids.iter().any(|uid| fault(&self.server, uid) == Some(Fault::Refuse)) {
            return self.line(&format!("{tag} NO Server error")).await;
        }
        if uids.iter().any(|uid| fault(&self.server, uid) == Some(Fault::Throttle)) {
            let said = self.server.state().refusal.clone();
            return self.line(&format!("{tag} {said}")).await;
        }
        for uid in uids {
            let found = {
                let state = self.server.state();
                let folder = state.folders.get(&self.folder).ok_or(())?;
                let seq = folder.mails.keys().position(|one| one == uid).unwrap_or(0) + 1;
                folder.mails.get(uid).map(|mail| (seq, mail.clone()))
            };
            let Some((seq, mail)) = found else { continue };
            match fault(&self.server, uid) {
                Some(Fault::Cut) => return Err(()),
                Some(Fault::Silent) => continue,
                Some(Fault::Nil) => {
                    self.line(&format!("* {seq} FETCH (UID {uid} BODY[] NIL)")).await?;
                    continue;
                }
                Some(Fault::Expunge) => {
                    self.server.state().folders.get_mut(&self.folder).ok_or(())?.mails.remove(uid);
                    self.line(&format!("* {seq} FETCH (UID {uid} BODY[] {{0}}\r\n)")).await?;
                    continue;
                }
                Some(Fault::Endless) => loop {
                    self.line("* OK still here").await?;
                    tokio::task::yield_now().await;
                },
                _ => {}
            }
            self.fetch_one(seq, *uid, &mail, items).await?;
        }
        self.line(&format!("{tag} OK done")).await
    }

    async fn fetch_one(&mut self, seq: usize, uid: u32, mail: &Mail, items: &str) -> End {
        let flags = mail.flags.iter().cloned().collect::<Vec<_>>().join(" ");
        let (unsized_mail, undated) = {
            let state = self.server.state();
            (state.unsized_mails.contains(&uid), state.undated.contains(&uid))
        };
        let date = mail.arrived.strftime("%d-%b-%Y %H:%M:%S +0000").to_string();
        let date = if undated { "00-Jan-0000 00:00:00 +0000".to_owned() } else { date };
        let mut head = format!("* {seq} FETCH (UID {uid} FLAGS ({flags})");
        if items.contains("RFC822.SIZE") && !unsized_mail {
            head.push_str(&format!(" RFC822.SIZE {}", mail.size));
        }
        if items.contains("INTERNALDATE") && self.server.state().faults.get(&uid) == Some(&Fault::Dateless) {
            head.push_str(" INTERNALDATE NIL");
        } else if items.contains("INTERNALDATE") {
            head.push_str(&format!(" INTERNALDATE \"{date}\""));
        }
        let Some((_, section)) = items.split_once("BODY.PEEK[") else { return self.line(&format!("{head})")).await };
        let (section, rest) = section.split_once(']').ok_or(())?;
        let end = mail.bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(mail.bytes.len(), |at| at + 4);
        let mut bytes = if section.is_empty() { mail.bytes.clone() } else { mail.bytes[..end].to_vec() };
        let mut origin = String::new();
        if let Some((offset, len)) = rest.strip_prefix('<').and_then(|r| r.split_once('>')?.0.split_once('.')) {
            let (offset, len): (usize, usize) = (offset.parse().unwrap(), len.parse().unwrap());
            bytes = bytes.into_iter().skip(offset).take(len).collect();
            origin = format!("<{offset}>");
        }
        self.server.state().served += bytes.len() as u64;
        self.line(&format!("{head} BODY[{section}]{origin} {{{}}}", bytes.len())).await?;
        self.write(&bytes).await?;
        self.line(")").await
    }

    /// The uids of a set that are there.
    fn uids(&self, set: &str) -> Vec<u32> {
        let state = self.server.state();
        let Some(folder) = state.folders.get(&self.folder) else { return Vec::new() };
        let highest = folder.mails.keys().last().copied().unwrap_or(0);
        let number = |text: &str| if text == "*" { highest } else { text.parse().unwrap_or(0) };
        let mut found = BTreeSet::new();
        for part in set.split(',') {
            let (first, last) = part.split_once(':').unwrap_or((part, part));
            let (first, last) = (number(first), number(last));
            found.extend(folder.mails.range(first.min(last)..=first.max(last)).map(|(uid, _)| *uid));
        }
        found.into_iter().collect()
    }
}

fn unquoted(command: &str) -> String {
    command.split('"').nth(1).unwrap_or_default().to_owned()
}
