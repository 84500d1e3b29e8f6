//! Sockets and what lies around them: listening, TLS, the PROXY protocol, DNS and the verification of senders.
//!
//! Must not know: channels, tickets, the store.

pub mod backoff;
pub mod connect;
mod der;
mod dial;
pub mod dns;
pub mod http;
pub mod listen;
pub mod oauth;
mod outproxy;
pub mod proxy;
pub mod tls;
mod verdicts;
pub mod verify;
