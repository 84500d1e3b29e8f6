//! The SMTP doors: for mail that other servers forward to us (RFC 5321), and for mail that programs hand in to leave
//! (RFC 6409, in `submission`).
//!
//! Owns the protocol: lines, commands, data, replies, limits, connections. `session` decides without sockets and
//! without a clock; `connection` reads, writes and waits. Must not know: tickets beyond the list of channels, what
//! becomes of a mail after it was accepted, how it is stored.

pub mod allow;
mod authenticate;
pub mod command;
pub mod config;
mod connection;
pub mod data;
pub mod fault;
pub mod line;
mod parameters;
mod peers;
mod receive;
pub mod reply;
mod server;
pub mod session;
mod stream;
pub mod submission;

pub use config::{BareNewlines, Config, Listener, TlsMode};
pub use fault::Fault;
pub use server::{BoundListener, Live, Server, bind};
