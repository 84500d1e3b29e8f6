//! What is fuzzed: one file a target, and its name here. A test of the main package runs the same functions over the
//! corpus.

mod headers;
mod proxy;
mod smtp_command;
mod smtp_data;
mod smtp_session;

/// What a target does with one input.
pub type Target = fn(&[u8]);

/// Name and function of each target; the corpus of a target lies in the directory of its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("headers", headers::run),
    ("proxy", proxy::run),
    ("smtp_command", smtp_command::run),
    ("smtp_data", smtp_data::run),
    ("smtp_session", smtp_session::run),
];
