//! The outbox worker: due mail → quota → relay → settle.

pub mod judge;
pub mod lanes;
pub mod quota;
pub mod schedule;
