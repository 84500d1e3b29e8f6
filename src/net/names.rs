//! What DNS says about where a domain's mail goes: MX, addresses, TLSA, TXT.
//!
//! DANE needs answers that DNSSEC vouches for (RFC 7672 section 2.1). They are asked of a name server on this machine
//! that validates, with the AD bit set in the question (RFC 6840 section 5.7); the resolver beside it cannot set that
//! bit, so these questions are sent by hand. An AD bit from anywhere else could have been set by anybody on the way.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::dns;

/// The largest answer over UDP; a longer one is asked for over TCP.
const DATAGRAM: usize = 4096;
/// Aliases of one answer that are followed.
const ALIASES: usize = 16;

/// Asks about mail; cheap to clone.
#[derive(Clone)]
pub struct Names {
    resolver: TokioResolver,
    /// The validating name server on this machine.
    validating: Option<SocketAddr>,
    query_timeout: Duration,
}

/// Why there is no answer; asking again later may give one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the question for {name} was not answered: {said}")]
pub struct NoAnswer {
    pub name: String,
    pub said: String,
}

/// Where a domain's mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mx {
    /// Preferences and hosts, in no order; whether DNSSEC vouches for them.
    Hosts {
        hosts: Vec<(u16, String)>,
        secure: bool,
    },
    /// There is no MX record: the domain itself is the host (RFC 5321 section 5.1).
    Implicit {
        secure: bool,
    },
    /// The domain takes no mail (RFC 7505).
    Null,
    NoDomain,
}

/// One TLSA record (RFC 6698 section 2.1), in its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    pub data: Vec<u8>,
}

/// The TLSA records of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dane {
    /// The name that they stand under, which the server has to be asked for and to show a certificate of.
    pub base: String,
    pub records: Vec<Tlsa>,
}

/// What came back for a question.
struct Answer {
    records: Vec<Record>,
    exists: bool,
    secure: bool,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("validating", &self.validating).finish_non_exhaustive()
    }
}

impl Names {
    /// With `validated`, the first name server is believed when it says that DNSSEC vouches for an answer; the
    /// configuration has made sure that it lies on this machine.
    pub fn new(config: &dns::Config, validated: bool) -> Result<Self, NetError> {
        let local = config.name_servers.first().copied().filter(|server| server.ip().is_loopback());
        Ok(Self {
            resolver: dns::resolver(config)?,
            validating: local.filter(|_| validated),
            query_timeout: config.query_timeout,
        })
    }

    /// The hosts for a domain's mail.
    pub async fn mx(&self, domain: &str) -> Result<Mx, NoAnswer> {
        let answer = self.ask(domain, RecordType::MX).await?;
        if !answer.exists {
            return Ok(Mx::NoDomain);
        }
        let host = |record: &Record| match &record.data {
            RData::MX(mx) => Some((mx.preference, plain(&mx.exchange))),
            _ => None,
        };
        let hosts: Vec<(u16, String)> = answer.records.iter().filter_map(host).collect();
        Ok(match hosts.as_slice() {
            [] => Mx::Implicit { secure: answer.secure },
            [(_, only)] if only.is_empty() => Mx::Null,
            _ => Mx::Hosts {
                hosts: hosts.into_iter().filter(|(_, host)| !host.is_empty()).collect(),
                secure: answer.secure,
            },
        })
    }

    /// The addresses of a host, IPv6 first and in turns. Empty when it has none.
    pub async fn addresses(&self, host: &str, ipv6: bool) -> Result<Vec<IpAddr>, NoAnswer> {
        let four = self.ask(host, RecordType::A).await;
        let six = if ipv6 { self.ask(host, RecordType::AAAA).await.ok() } else { None };
        let six: Vec<IpAddr> = six.iter().flat_map(|answer| &answer.records).filter_map(address).collect();
        let four: Vec<IpAddr> = match four {
            Ok(answer) => answer.records.iter().filter_map(address).collect(),
            // What is known is enough.
            Err(_) if !six.is_empty() => Vec::new(),
            Err(error) => return Err(error),
        };
        let longest = six.len().max(four.len());
        Ok((0..longest).flat_map(|at| [six.get(at), four.get(at)]).flatten().copied().collect())
    }

    /// The TLSA records of an SMTP server that DNSSEC vouches for, if there are any. A host that is an alias is asked
    /// about by the name at the end of its chain, and then by its own (RFC 7672 section 2.2.2).
    pub async fn tlsa(&self, host: &str, port: u16) -> Result<Option<Dane>, NoAnswer> {
        let Some(server) = self.validating else { return Ok(None) };
        let record = |record: &Record| match &record.data {
            RData::TLSA(tlsa) => Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            }),
            _ => None,
        };
        for base in self.bases(server, host).await? {
            let answer = self.ask(&format!("_{port}._tcp.{base}"), RecordType::TLSA).await?;
            let records: Vec<Tlsa> = answer.records.iter().filter(|_| answer.secure).filter_map(record).collect();
            if !records.is_empty() {
                return Ok(Some(Dane { base, records }));
            }
        }
        Ok(None)
    }

    /// The names under which a host may have TLSA records, the first choice first: where DNSSEC vouches for its
    /// addresses the one at the end of its aliases, and its own; where it vouches for the alias only, its own. Where it
    /// vouches for neither nothing is asked about TLSA: there is none that could count, and name servers of zones that
    /// are not signed are known not to answer such questions (RFC 7672 sections 2.1.2 and 2.2.2).
    async fn bases(&self, server: SocketAddr, host: &str) -> Result<Vec<String>, NoAnswer> {
        let none = |said: String| NoAnswer { name: host.to_owned(), said };
        let name = full(host).map_err(none)?;
        let addresses = ask_validated(server, name.clone(), RecordType::A, self.query_timeout).await.map_err(none)?;
        let own = host.to_owned();
        Ok(match (addresses.secure, end_of_aliases(&name, &addresses.records)) {
            (true, Some(end)) => vec![plain(&end), own],
            (true, None) => vec![own],
            (false, Some(_)) => {
                let alias = ask_validated(server, name, RecordType::CNAME, self.query_timeout).await.map_err(none)?;
                if alias.secure { vec![own] } else { Vec::new() }
            }
            (false, None) => Vec::new(),
        })
    }

    /// The texts of a name.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, NoAnswer> {
        let answer = self.ask(name, RecordType::TXT).await?;
        let text = |record: &Record| match &record.data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        Ok(answer.records.iter().filter_map(text).collect())
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Answer, NoAnswer> {
        let none = |said: String| NoAnswer { name: name.to_owned(), said };
        let full = full(name).map_err(none)?;
        if let Some(server) = self.validating
            && matches!(kind, RecordType::MX | RecordType::TLSA)
        {
            return ask_validated(server, full, kind, self.query_timeout).await.map_err(none);
        }
        match self.resolver.lookup(full, kind).await {
            Ok(found) => Ok(Answer { records: found.answers().to_vec(), exists: true, secure: false }),
            Err(error) if error.is_no_records_found() => {
                Ok(Answer { records: Vec::new(), exists: !error.is_nx_domain(), secure: false })
            }
            Err(error) => Err(none(error.to_string())),
        }
    }
}

/// Where the aliases of an answer lead to from a name, if it is one.
fn end_of_aliases(name: &Name, records: &[Record]) -> Option<Name> {
    let mut end = None;
    for _ in 0..ALIASES {
        let at = end.as_ref().unwrap_or(name);
        let next = records.iter().filter(|record| record.name == *at).find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
        match next {
            Some(next) => end = Some(next),
            None => break,
        }
    }
    end
}

/// A name with a dot at its end, so that nothing is searched for below domains of our own.
fn full(name: &str) -> Result<Name, String> {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).map_err(|error| error.to_string())
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

/// A name in lower case without the dot at its end; the root is the empty text.
fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_lowercase()
}

/// One question over UDP, and over TCP when the answer does not fit; twice, because datagrams get lost.
async fn ask_validated(server: SocketAddr, name: Name, kind: RecordType, patience: Duration) -> Result<Answer, String> {
    let mut last = String::new();
    for _ in 0..2 {
        match timeout(patience, exchange(server, &name, kind)).await {
            Ok(Ok(message)) => return judge(message),
            Ok(Err(said)) => last = said,
            Err(_) => last = "no answer in time".to_owned(),
        }
    }
    Err(format!("{server}: {last}"))
}

fn judge(message: Message) -> Result<Answer, String> {
    let secure = message.metadata.authentic_data;
    match message.metadata.response_code {
        ResponseCode::NoError => Ok(Answer { records: message.answers, exists: true, secure }),
        ResponseCode::NXDomain => Ok(Answer { records: Vec::new(), exists: false, secure }),
        other => Err(other.to_string()),
    }
}

async fn exchange(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, String> {
    let io = |error: std::io::Error| error.to_string();
    let mut question = Message::query();
    question.add_query(Query::query(name.clone(), kind));
    question.metadata.recursion_desired = true;
    question.metadata.authentic_data = true;
    let octets = question.to_vec().map_err(|error| error.to_string())?;
    let any: SocketAddr =
        if server.is_ipv4() { ([127, 0, 0, 1], 0).into() } else { (std::net::Ipv6Addr::LOCALHOST, 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(io)?;
    // A connected socket takes answers from the server only.
    socket.connect(server).await.map_err(io)?;
    socket.send(&octets).await.map_err(io)?;
    let mut buffer = vec![0; DATAGRAM];
    let read = socket.recv(&mut buffer).await.map_err(io)?;
    let answer = fitting(&question, &buffer[..read])?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let mut stream = TcpStream::connect(server).await.map_err(io)?;
    let length = u16::try_from(octets.len()).map_err(|error| error.to_string())?;
    stream.write_all(&[&length.to_be_bytes()[..], &octets].concat()).await.map_err(io)?;
    let length = stream.read_u16().await.map_err(io)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(io)?;
    fitting(&question, &buffer)
}

/// The answer, if it is one to this question.
fn fitting(question: &Message, octets: &[u8]) -> Result<Message, String> {
    let answer = Message::from_vec(octets).map_err(|error| error.to_string())?;
    if answer.metadata.id == question.metadata.id && answer.queries == question.queries {
        Ok(answer)
    } else {
        Err("an answer to another question".to_owned())
    }
}
