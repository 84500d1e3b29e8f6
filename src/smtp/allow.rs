//! Who may forward mail to us: by network, or by TLS client certificate.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::net::tls::ClientCertificate;

/// A client certificate that is allowed, as configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateRule {
    /// `sha256:` and the fingerprint: this one certificate, whoever signed it.
    Fingerprint(String),
    /// A name: common name or DNS name of a certificate that one of our client authorities vouches for.
    Name(String),
}

/// Whether one of the networks holds the address.
pub fn in_networks(networks: &[IpNet], address: IpAddr) -> bool {
    // A listener on [::] sees IPv4 peers as ::ffff:a.b.c.d.
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Whether one of the rules holds for the certificate.
pub fn has_certificate(rules: &[CertificateRule], certificate: &ClientCertificate) -> bool {
    rules.iter().any(|rule| match rule {
        CertificateRule::Fingerprint(sha256) => *sha256 == certificate.sha256,
        CertificateRule::Name(name) => certificate.trusted && certificate.names.contains(name),
    })
}

impl std::str::FromStr for CertificateRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(digits) = text.strip_prefix("sha256:") else {
            return if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == ':') {
                Err(format!("{text:?} is neither a certificate's name nor \"sha256:\" and its fingerprint"))
            } else {
                Ok(Self::Name(text.to_lowercase()))
            };
        };
        let digits: String = digits.chars().filter(|c| *c != ':').collect::<String>().to_lowercase();
        if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self::Fingerprint(digits))
        } else {
            Err(format!("{text:?}: a SHA-256 fingerprint has 64 hexadecimal digits"))
        }
    }
}

impl fmt::Display for CertificateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(sha256) => write!(f, "sha256:{sha256}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl<'de> serde::Deserialize<'de> for CertificateRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_an_authority_and_fingerprints_do_not() {
        let sha256 = "ab".repeat(32);
        let names = vec!["mx.example.com".to_owned()];
        let mut shown = ClientCertificate { subject: names[0].clone(), names, sha256: sha256.clone(), trusted: false };
        let by_name = ["MX.example.com".parse().unwrap()];
        let by_print = [format!("sha256:{}", "AB:".repeat(32).trim_end_matches(':')).parse().unwrap()];
        assert_eq!(by_print[0], CertificateRule::Fingerprint(sha256));
        assert!(!has_certificate(&by_name, &shown));
        assert!(has_certificate(&by_print, &shown));
        shown.trusted = true;
        assert!(has_certificate(&by_name, &shown));
        for wrong in ["", "sha256:12", "a b", "12:34"] {
            assert!(wrong.parse::<CertificateRule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn mapped_addresses_are_looked_up_as_what_they_are() {
        let networks = ["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        for (address, want) in
            [("192.0.2.9", true), ("::ffff:192.0.2.9", true), ("2001:db8::1", true), ("198.51.100.1", false)]
        {
            assert_eq!(in_networks(&networks, address.parse().unwrap()), want, "{address}");
        }
    }
}
