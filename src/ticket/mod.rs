//! What a ticket is: values and the pure decisions about mail that becomes one.
//!
//! Must not know: sockets, files, the store, the time of day. Everything that a decision needs comes in as `Facts`.

pub mod channel;
pub mod decide;
pub mod duplicate;
pub mod letter;
pub mod loops;
pub mod recipient;
pub mod template;
pub mod token;
pub mod window;

pub use channel::{Channel, Directory};
pub use decide::{Decision, Facts, Filing, MatchedBy, TicketFacts, TraceStep};
