//! The submission door (RFC 6409): programs that write their own mail hand it in here, and it leaves as they wrote it.
//!
//! It speaks through the same sessions and connections as the door for forwarded mail. Owned here: who may log in and
//! under which addresses they send. Must not know: tickets, relays, when the mail leaves.

pub mod config;
pub mod handed;
pub mod logins;
pub mod sasl;

pub use config::Config;
pub use logins::{Login, Logins};
