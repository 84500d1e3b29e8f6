//! A name server on loopback that answers from a table.

#![allow(dead_code, reason = "no test uses every kind of answer")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What the server says to one question.
#[derive(Clone, Debug)]
pub enum Answer {
    Txt(String),
    A(Ipv4Addr),
    /// Preference and host.
    Mx(u16, &'static str),
    /// Usage, selector, matching type and data.
    Tlsa(u8, u8, u8, Vec<u8>),
    Many(Vec<Answer>),
    /// The name is another one, of which this is known.
    Alias(&'static str, Box<Answer>),
    /// The same, and DNSSEC vouches for it.
    Secure(Box<Answer>),
    /// The same of an alias, and DNSSEC vouches for the alias only.
    HalfSecure(Box<Answer>),
    /// The server has trouble.
    ServFail,
    /// The server says nothing.
    Silence,
}

/// The server; it ends with this value. A name that is not in the table does not exist.
pub struct DnsServer {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_MX: u16 = 15;
const TYPE_TXT: u16 = 16;
const TYPE_TLSA: u16 = 52;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

impl DnsServer {
    /// Starts a server that knows these names.
    pub async fn start(table: &[(&str, Answer)]) -> Self {
        let table: HashMap<String, Answer> =
            table.iter().map(|(name, answer)| ((*name).to_lowercase(), answer.clone())).collect();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = [0u8; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(reply) = reply(&buffer[..length], &table) {
                    let _ = socket.send_to(&reply, peer).await;
                }
            }
        });
        Self { address, asked, task }
    }

    /// How many questions came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The reply to a query of one question (RFC 1035 section 4.1).
fn reply(query: &[u8], table: &HashMap<String, Answer>) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let question_end = at + 5;
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let name = labels.join(".");
    let (answer, secure) = match table.get(&name) {
        Some(Answer::Secure(answer)) => (Some(&**answer), true),
        Some(Answer::HalfSecure(answer)) => (Some(&**answer), kind == TYPE_CNAME),
        other => (other, false),
    };
    let (code, data) = match answer {
        Some(Answer::Silence) => return None,
        Some(Answer::ServFail) => (SERVFAIL, Vec::new()),
        Some(answer) => (0, records(&[0xc0, 12], answer, kind)),
        None => (NXDOMAIN, Vec::new()),
    };
    let mut reply = query[..2].to_vec();
    let authentic = if secure { 0x20 } else { 0 };
    reply.extend_from_slice(&[0x81, 0x80 | authentic | code, 0, 1, 0, data.len() as u8, 0, 0, 0, 0]);
    reply.extend_from_slice(query.get(12..question_end)?);
    for (owner, kind, data) in data {
        reply.extend_from_slice(&owner);
        reply.extend_from_slice(&kind.to_be_bytes());
        reply.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        reply.extend_from_slice(&(data.len() as u16).to_be_bytes());
        reply.extend_from_slice(&data);
    }
    Some(reply)
}

/// Owner, type and data of the records that answer a question for this type.
fn records(owner: &[u8], answer: &Answer, kind: u16) -> Vec<(Vec<u8>, u16, Vec<u8>)> {
    match answer {
        Answer::Many(answers) => answers.iter().flat_map(|answer| records(owner, answer, kind)).collect(),
        Answer::Alias(target, answer) => {
            let target = name_data(target);
            let alias = (owner.to_vec(), TYPE_CNAME, target.clone());
            let rest = if kind == TYPE_CNAME { Vec::new() } else { records(&target, answer, kind) };
            std::iter::once(alias).chain(rest).collect()
        }
        answer => data(answer, kind).map(|data| (owner.to_vec(), kind, data)).into_iter().collect(),
    }
}

/// A name as labels with their lengths.
fn name_data(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let octets = labels.flat_map(|label| std::iter::once(label.len() as u8).chain(label.bytes()));
    octets.chain([0]).collect()
}

/// The data of a record of this type, if the answer is one.
fn data(answer: &Answer, kind: u16) -> Option<Vec<u8>> {
    match answer {
        Answer::Txt(text) if kind == TYPE_TXT => Some(txt_data(text)),
        Answer::A(address) if kind == TYPE_A => Some(address.octets().to_vec()),
        Answer::Mx(preference, host) if kind == TYPE_MX => {
            Some([&preference.to_be_bytes()[..], &name_data(host)].concat())
        }
        Answer::Tlsa(usage, selector, matching, digest) if kind == TYPE_TLSA => {
            Some([&[*usage, *selector, *matching], &digest[..]].concat())
        }
        _ => None,
    }
}

/// A text as strings of at most 255 bytes (RFC 1035 section 3.3.14).
fn txt_data(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(255)
        .flat_map(|chunk| std::iter::once(chunk.len() as u8).chain(chunk.iter().copied()))
        .collect()
}
