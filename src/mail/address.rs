//! `local@domain`, as SMTP envelopes and header fields name a mailbox (RFC 5321 section 4.1.2, RFC 6531).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

/// The longest address we take, in octets: a path is at most 256 with its brackets (RFC 5321 section 4.5.3.1.3).
pub const MAX_ADDRESS: usize = 254;

/// One address. The local part is kept as received, but for quotes that it does not need; the domain is kept in lower
/// case.
///
/// Two addresses are equal when their domains are and their local parts are but for ASCII case: no provider that is
/// in use tells `Support@` from `support@`, and a help desk must not either. A domain is the same in U-labels and in
/// A-labels (RFC 5890 section 2.3.2.1): servers without SMTPUTF8 know `müller.example` as `xn--mller-kva.example` only.
#[derive(Clone, Debug)]
pub struct Address {
    local: String,
    domain: String,
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("no \"@\" between a local part and a domain")]
    NoAt,
    #[error("the local part is empty")]
    EmptyLocal,
    #[error("the domain is empty or not a domain name")]
    BadDomain,
    #[error("longer than {MAX_ADDRESS} octets")]
    TooLong,
    #[error("a control character, a space or an angle bracket stands in it")]
    BadCharacter,
}

impl Address {
    /// Reads `local@domain`; the last `@` divides. A quoted local part keeps its quotes where it needs them: `"a"@b` is
    /// `a@b` (RFC 5321 section 4.1.2), and must be nothing else to whoever looks an address up.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        if local.is_empty() {
            return Err(AddressError::EmptyLocal);
        }
        let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
        let foul = |c: char| c.is_control() || (!quoted && (c.is_whitespace() || matches!(c, '<' | '>')));
        if local.chars().any(foul) {
            return Err(AddressError::BadCharacter);
        }
        if !is_domain(domain) {
            return Err(AddressError::BadDomain);
        }
        let local = unquoted(local).unwrap_or_else(|| local.to_owned());
        Ok(Self { local, domain: domain.to_lowercase() })
    }

    /// The part before the `@`, as received.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part after the `@`, in lower case.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The local part without its plus detail, and the detail: `support+x` is (`support`, `Some("x")`) (RFC 5233).
    pub fn split_detail(&self) -> (&str, Option<&str>) {
        match self.local.split_once('+') {
            Some((user, detail)) if !user.is_empty() => (user, Some(detail)),
            _ => (&self.local, None),
        }
    }

    /// The address in lower case: what indexes use.
    pub fn key(&self) -> String {
        format!("{}@{}", self.local.to_lowercase(), self.domain)
    }

    /// The address as look-ups in memory compare it: `key` with its domain in A-labels. What is on disk goes by `key`.
    pub fn lookup(&self) -> String {
        format!("{}@{}", self.local.to_lowercase(), self.ascii_domain())
    }

    /// The domain as DNS has it: in A-labels.
    pub fn ascii_domain(&self) -> Cow<'_, str> {
        if self.domain.is_ascii() {
            return Cow::Borrowed(&self.domain);
        }
        ascii_domain(&self.domain).map_or(Cow::Borrowed(&self.domain), Cow::Owned)
    }
}

/// A domain in A-labels (RFC 5891), `None` if it has none.
pub fn ascii_domain(domain: &str) -> Option<String> {
    if domain.is_ascii() {
        return Some(domain.to_owned());
    }
    match url::Host::parse(domain) {
        Ok(url::Host::Domain(ascii)) if ascii.is_ascii() => Some(ascii),
        _ => None,
    }
}

/// What stands in the quotes of a local part, if it says the same without them: a dot-string (RFC 5321 section 4.1.2).
fn unquoted(local: &str) -> Option<String> {
    let inner = local.strip_prefix('"')?.strip_suffix('"')?;
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        plain.push(if c == '\\' { characters.next()? } else { c });
    }
    let atext = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
    plain.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext)).then_some(plain)
}

/// Whether a domain is another one or lies below it; both in lower case.
pub fn is_under(domain: &str, above: &str) -> bool {
    domain.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A domain name or an address literal: letters, digits, hyphens, dots and non-ASCII (RFC 6531), or `[...]`.
fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !literal.is_empty()
            && literal.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-'));
    }
    !domain.is_empty()
        && domain.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63 * 4
                && label.chars().all(|c| {
                    c.is_ascii_alphanumeric()
                        || matches!(c, '-' | '_')
                        || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
                })
        })
}

/// An IP address as it stands for a domain (RFC 5321 section 4.1.3).
pub fn literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        let same_domain = || self.domain == other.domain || self.ascii_domain() == other.ascii_domain();
        self.local.eq_ignore_ascii_case(&other.local) && same_domain()
    }
}

impl Eq for Address {}

impl std::hash::Hash for Address {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.local.to_ascii_lowercase().hash(state);
        self.ascii_domain().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, AddressError, is_under};

    #[test]
    fn reads_what_mail_carries_and_names_what_it_refuses() {
        let table: &[(&str, Result<&str, AddressError>)] = &[
            ("a@b", Ok("a@b")),
            ("A.b+c@Example.COM", Ok("A.b+c@example.com")),
            ("\"a b\"@example.com", Ok("\"a b\"@example.com")),
            ("\"a.b\"@example.com", Ok("a.b@example.com")),
            ("\"a\\.\\b\"@example.com", Ok("a.b@example.com")),
            ("\"a..b\"@example.com", Ok("\"a..b\"@example.com")),
            ("\"\"@example.com", Ok("\"\"@example.com")),
            ("\"a\\\"@example.com", Ok("\"a\\\"@example.com")),
            ("\"a@b\"@example.com", Ok("\"a@b\"@example.com")),
            ("user@[127.0.0.1]", Ok("user@[127.0.0.1]")),
            ("jürgen@müller.example", Ok("jürgen@müller.example")),
            ("ab", Err(AddressError::NoAt)),
            ("@b", Err(AddressError::EmptyLocal)),
            ("a@", Err(AddressError::BadDomain)),
            ("a@b..c", Err(AddressError::BadDomain)),
            ("a b@c", Err(AddressError::BadCharacter)),
            ("a\rb@c", Err(AddressError::BadCharacter)),
        ];
        for (text, want) in table {
            assert_eq!(Address::parse(text).map(|a| a.to_string()), want.map(str::to_owned), "{text:?}");
        }
        assert_eq!(Address::parse(&format!("{}@b", "a".repeat(300))), Err(AddressError::TooLong));
    }

    #[test]
    fn domains_lie_below_whole_labels() {
        let table = [
            ("a.example", "a.example", true),
            ("b.a.example", "a.example", true),
            ("ba.example", "a.example", false),
            ("example", "a.example", false),
            ("a.example", "", false),
        ];
        for (domain, above, want) in table {
            assert_eq!(is_under(domain, above), want, "{domain} {above}");
        }
    }

    #[test]
    fn a_domain_is_the_same_in_both_kinds_of_labels() {
        let parse = |text: &str| Address::parse(text).unwrap();
        let (unicode, ascii) = (parse("Hilfe@Müller.example"), parse("hilfe@XN--mller-kva.example"));
        assert_eq!(unicode, ascii);
        assert_eq!(std::collections::HashSet::from([unicode.clone(), ascii.clone()]).len(), 1);
        assert_eq!((unicode.ascii_domain(), unicode.domain()), (ascii.domain().into(), "müller.example"));
        assert_ne!(unicode, parse("hilfe@muller.example"));
    }

    #[test]
    fn case_does_not_tell_addresses_apart_and_details_split() {
        assert_eq!(Address::parse("Support@EXAMPLE.com"), Address::parse("support@example.com"));
        let plus = Address::parse("Support+t9@example.com").unwrap();
        assert_eq!(plus.split_detail(), ("Support", Some("t9")));
        assert_eq!(plus.key(), "support+t9@example.com");
    }
}
