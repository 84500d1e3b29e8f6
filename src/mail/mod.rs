//! What mail is: values and pure functions over them.
//!
//! Must not know: sockets, files, the store, the time of day, tickets. No async, no serde of stored or public formats.

pub mod address;
mod attachment;
mod attribution;
pub mod auth;
pub mod authors;
mod automated;
mod bounce;
mod bounce_fields;
mod bounce_letter;
mod bounce_notice;
mod bounce_people;
mod bounce_phrases;
mod bounce_signs;
pub mod class;
pub mod compose;
mod content;
pub mod date;
pub mod envelope;
mod fields;
pub mod fingerprint;
pub mod headers;
mod html;
pub mod id;
mod mailboxes;
pub mod message;
pub mod notify;
pub mod origin;
mod quote_heads;
mod quoted;
pub mod reason;
mod signature;
pub mod status;
mod structure;
pub mod survival;
mod text;
mod uuencode;
mod words;

pub use address::Address;
pub use class::Class;
pub use envelope::Envelope;
pub use fingerprint::{Fingerprint, Outline};
pub use headers::HeaderSection;
pub use id::MailId;
pub use message::{Limits, Mailbox, Parsed, Summary};
pub use origin::Origin;
pub use reason::Reason;
