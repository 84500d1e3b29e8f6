//! The outbox worker: due mail → quota → relay → settle.

pub mod quota;
pub mod schedule;
