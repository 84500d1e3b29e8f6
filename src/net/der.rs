//! The few fields of an X.509 certificate that we show or compare (RFC 5280 section 4.1).
//!
//! Whether a certificate is to be trusted is decided by rustls; this only reads what it says.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// What a certificate says of its holder and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The common name of the subject, or nothing.
    pub common_name: String,
    /// The DNS names among its subject alternative names.
    pub dns_names: Vec<String>,
    /// When it begins to be valid, and when it expires.
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
}

const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const OID_ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// Reads a certificate in DER; a field that cannot be read is left empty.
pub fn read(certificate: &[u8]) -> Facts {
    let mut facts = Facts::default();
    let _ = read_into(certificate, &mut facts);
    facts
}

/// When the first certificate of a PEM file expires; None where it cannot be read.
pub fn expiry_of_file(path: &std::path::Path) -> Option<Timestamp> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    read(&CertificateDer::from_pem_file(path).ok()?).not_after
}

fn read_into(certificate: &[u8], facts: &mut Facts) -> Option<()> {
    let mut to_be_signed = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    if to_be_signed.peek() == Some(VERSION) {
        to_be_signed.next()?;
    }
    to_be_signed.expect(INTEGER)?;
    to_be_signed.expect(SEQUENCE)?;
    to_be_signed.expect(SEQUENCE)?;
    let mut validity = Der(to_be_signed.expect(SEQUENCE)?);
    let (kind, begin) = validity.next()?;
    facts.not_before = time(kind, begin);
    let (kind, end) = validity.next()?;
    facts.not_after = time(kind, end);
    facts.common_name = common_name(to_be_signed.expect(SEQUENCE)?).unwrap_or_default();
    while let Some((tag, content)) = to_be_signed.next() {
        if tag == EXTENSIONS {
            facts.dns_names = dns_names(Der(content).expect(SEQUENCE)?).unwrap_or_default();
        }
    }
    Some(())
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut sets = Der(subject);
    while let Some((_, set)) = sets.next() {
        let mut attribute = Der(Der(set).expect(SEQUENCE)?);
        if attribute.expect(OBJECT)? == OID_COMMON_NAME {
            let (_, value) = attribute.next()?;
            return Some(String::from_utf8_lossy(value).into_owned());
        }
    }
    None
}

fn dns_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut list = Der(extensions);
    while let Some((_, extension)) = list.next() {
        let mut extension = Der(extension);
        if extension.expect(OBJECT)? != OID_ALTERNATIVE_NAMES {
            continue;
        }
        // The last field is the value, behind an optional "critical".
        let mut value = None;
        while let Some((_, field)) = extension.next() {
            value = Some(field);
        }
        let mut names = Der(Der(value?).expect(SEQUENCE)?);
        let mut found = Vec::new();
        while let Some((tag, name)) = names.next() {
            if tag == DNS_NAME {
                found.push(String::from_utf8_lossy(name).to_lowercase());
            }
        }
        return Some(found);
    }
    None
}

/// `YYMMDDhhmmssZ` before 2050, `YYYYMMDDhhmmssZ` from then on (RFC 5280 section 4.1.2.5).
fn time(kind: u8, content: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let text = match kind {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let moment = DateTime::strptime("%Y%m%d%H%M%S", &text).ok()?;
    Offset::UTC.to_timestamp(moment).ok()
}

/// A run of DER elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element's tag and content. Lengths of more than four octets do not occur in certificates.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let octets = usize::from(first & 0x7f);
            if octets == 0 || octets > 4 || rest.len() < octets {
                return None;
            }
            let (digits, behind) = rest.split_at(octets);
            length = digits.iter().fold(0, |value, digit| (value << 8) | usize::from(*digit));
            rest = behind;
        }
        if rest.len() < length {
            return None;
        }
        let (content, rest) = rest.split_at(length);
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_end_are_read_and_rubbish_gives_nothing() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["MX.example.com".into(), "b.example".into()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Forwarder");
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let certificate = params.self_signed(&key).unwrap();
        let facts = read(certificate.der());
        assert_eq!(facts.common_name, "Forwarder");
        assert_eq!(facts.dns_names, ["mx.example.com", "b.example"]);
        assert_eq!(facts.not_after.unwrap().to_string(), "2031-02-03T00:00:00Z");
        let far = time(GENERALIZED_TIME, b"20510203040506Z").unwrap();
        assert_eq!(far.to_string(), "2051-02-03T04:05:06Z");
        for end in 0..certificate.der().len() {
            read(&certificate.der()[..end]);
        }
        assert_eq!(read(b"\x30\x84\xff\xff\xff\xff"), Facts::default());
    }
}
