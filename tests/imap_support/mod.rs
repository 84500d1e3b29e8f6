//! What tests of pulled mailboxes share: a server with faults, and a gateway in this process.

pub mod gate;
#[path = "../support/parts.rs"]
mod parts;
pub mod server;
#[path = "../support/channel.rs"]
mod settled;

pub use gate::{Gate, Made, channel, source};
pub use server::{Fault, Server, mail};

/// A directory in memory where the machine has one.
pub fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
