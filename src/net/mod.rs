//! Sockets and what lies around them: listening, TLS, the PROXY protocol, DNS and the verification of senders.
//!
//! Must not know: channels, tickets, the store.

pub mod backoff;
pub mod conceal;
pub mod connect;
pub mod der;
mod dial;
pub mod dns;
pub mod http;
pub mod listen;
pub mod names;
pub mod oauth;
mod outproxy;
mod pinned;
pub mod proxy;
pub mod redirect;
pub mod tls;
pub mod trust;
mod verdicts;
pub mod verify;

/// A name server for tests, which the tests outside the library have too.
#[cfg(test)]
#[path = "../../tests/support/dns.rs"]
pub(crate) mod stub;
