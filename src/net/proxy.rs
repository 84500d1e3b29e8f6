//! The PROXY protocol, versions 1 and 2: how a load balancer tells us whom it speaks for.
//!
//! Pure: bytes in, header out. `parse` says how many bytes more surely belong to the header, so that a reader never
//! takes a byte of what follows it, which may be a TLS handshake.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection is made for this client.
    Client(IpAddr),
    /// The proxy speaks for itself, such as in a health check, or does not tell for whom: the socket's own address
    /// holds.
    Local,
}

/// How far the header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least so many bytes more belong to it.
    Need(usize),
    /// It is complete.
    Done(Header),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("the connection does not begin with a PROXY header")]
    Absent,
    #[error("the PROXY header is broken")]
    Broken,
    #[error("the PROXY header is longer than {MAX_HEADER} bytes")]
    TooLong,
}

/// The longest header that is read; version 2 allows 64 KiB, but balancers send addresses and a few small fields.
pub const MAX_HEADER: usize = 1024;

/// The shortest header of version 1, `PROXY UNKNOWN` with its line end.
const SHORTEST_V1: usize = 15;
/// The longest header of version 1, two IPv6 addresses in full.
const LONGEST_V1: usize = 107;
const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_V2: usize = 16;

/// Looks at the bytes received so far.
pub fn parse(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let seen = bytes.len().min(6);
    if bytes[..seen] == b"PROXY "[..seen] {
        return if bytes.len() < SHORTEST_V1 {
            Ok(Progress::Need(SHORTEST_V1 - bytes.len()))
        } else {
            version_1(bytes)
        };
    }
    let seen = bytes.len().min(SIGNATURE_V2.len());
    if bytes[..seen] != SIGNATURE_V2[..seen] {
        return Err(ProxyError::Absent);
    }
    if bytes.len() < FIXED_V2 {
        return Ok(Progress::Need(FIXED_V2 - bytes.len()));
    }
    version_2(bytes)
}

fn version_1(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        if bytes.len() >= LONGEST_V1 {
            return Err(ProxyError::TooLong);
        }
        return Ok(Progress::Need(if bytes.ends_with(b"\r") { 1 } else { 2 }));
    };
    if end + 1 != bytes.len() || end >= LONGEST_V1 {
        return Err(ProxyError::Broken);
    }
    let line = std::str::from_utf8(&bytes[..end]).ok().and_then(|line| line.strip_suffix('\r'));
    let mut words = line.ok_or(ProxyError::Broken)?.split(' ').skip(1);
    let protocol = words.next().ok_or(ProxyError::Broken)?;
    if protocol == "UNKNOWN" {
        return Ok(Progress::Done(Header::Local));
    }
    let mut address = || words.next().and_then(|word| word.parse::<IpAddr>().ok()).ok_or(ProxyError::Broken);
    let (source, destination) = (address()?, address()?);
    let mut port = || words.next().and_then(port).ok_or(ProxyError::Broken);
    let _ports = (port()?, port()?);
    let fits = match protocol {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if !fits || words.next().is_some() {
        return Err(ProxyError::Broken);
    }
    Ok(Progress::Done(Header::Client(source.to_canonical())))
}

/// Digits only: `u16::from_str` would take a sign as well.
fn port(word: &str) -> Option<u16> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

fn version_2(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let (kind, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if kind >> 4 != 2 {
        return Err(ProxyError::Broken);
    }
    if FIXED_V2 + length > MAX_HEADER {
        return Err(ProxyError::TooLong);
    }
    if bytes.len() < FIXED_V2 + length {
        return Ok(Progress::Need(FIXED_V2 + length - bytes.len()));
    }
    let addresses = &bytes[FIXED_V2..FIXED_V2 + length];
    let client = match (kind & 0x0f, family >> 4) {
        (0, _) | (1, 0 | 3) => return Ok(Progress::Done(Header::Local)),
        (1, 1) if addresses.len() >= 12 => {
            let octets: [u8; 4] = addresses[..4].try_into().map_err(|_| ProxyError::Broken)?;
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        (1, 2) if addresses.len() >= 36 => {
            let octets: [u8; 16] = addresses[..16].try_into().map_err(|_| ProxyError::Broken)?;
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return Err(ProxyError::Broken),
    };
    Ok(Progress::Done(Header::Client(client)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(kind: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE_V2.to_vec();
        header.extend([kind, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    /// Feeds a header as a reader would: never more than the parser asked for.
    fn read(all: &[u8]) -> Result<(Header, usize), ProxyError> {
        let mut have = 0;
        loop {
            match parse(&all[..have])? {
                Progress::Done(header) => return Ok((header, have)),
                Progress::Need(more) if have + more > all.len() => return Err(ProxyError::Broken),
                Progress::Need(more) => have += more,
            }
        }
    }

    #[test]
    fn both_versions_are_read_to_their_last_byte_and_no_further() {
        let client = |text: &str| Ok(Header::Client(text.parse().unwrap()));
        let v6 = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[7], &[0; 16], &[0; 4]].concat();
        let table: Vec<(Vec<u8>, Result<Header, ProxyError>)> = vec![
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 25\r\n".to_vec(), client("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 ::1 5000 25\r\n".to_vec(), client("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(Header::Local)),
            (b"PROXY UNKNOWN ffff::1 ffff::1 1 2\r\n".to_vec(), Ok(Header::Local)),
            (b"PROXY TCP4 2001:db8::7 ::1 5000 25\r\n".to_vec(), Err(ProxyError::Broken)),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 +5 25\r\n".to_vec(), Err(ProxyError::Broken)),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 5 25 x\r\n".to_vec(), Err(ProxyError::Broken)),
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 5 65536\r\n".to_vec(), Err(ProxyError::Broken)),
            ([b"PROXY ".as_slice(), &[b'x'; 120]].concat(), Err(ProxyError::TooLong)),
            (b"EHLO mx.example.com\r\n".to_vec(), Err(ProxyError::Absent)),
            (v2(0x21, 0x11, &[192, 0, 2, 9, 1, 2, 3, 4, 0, 1, 0, 25]), client("192.0.2.9")),
            (v2(0x21, 0x21, &v6), client("2001:db8::7")),
            (v2(0x20, 0x00, &[]), Ok(Header::Local)),
            (v2(0x21, 0x31, &[0; 216]), Ok(Header::Local)),
            (v2(0x21, 0x11, &[1, 2, 3]), Err(ProxyError::Broken)),
            (v2(0x22, 0x11, &[0; 12]), Err(ProxyError::Broken)),
            (v2(0x11, 0x11, &[0; 12]), Err(ProxyError::Broken)),
            (v2(0x21, 0x11, &[0; 2000]), Err(ProxyError::TooLong)),
        ];
        for (bytes, want) in table {
            let followed = [bytes.as_slice(), b"EHLO x\r\n"].concat();
            let got = read(&followed);
            assert_eq!(got.map(|(header, _)| header), want, "{}", bytes.escape_ascii());
            if let Ok((_, taken)) = got {
                assert_eq!(taken, bytes.len());
            }
        }
    }
}
