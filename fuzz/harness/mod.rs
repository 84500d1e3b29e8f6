//! What is fuzzed: one file a target, and its name here. A test of the main package runs the same functions over the
//! corpus.

mod bounces;
mod certificate;
mod compose;
mod config;
mod headers;
mod imap;
mod policy;
mod proxy;
mod recognition;
mod relay_reply;
mod smtp_command;
mod smtp_data;
mod smtp_session;
mod texts;

/// What a target does with one input.
pub type Target = fn(&[u8]);

/// Name and function of each target; the corpus of a target lies in the directory of its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("bounces", bounces::run),
    ("certificate", certificate::run),
    ("compose", compose::run),
    ("config", config::run),
    ("headers", headers::run),
    ("imap", imap::run),
    ("policy", policy::run),
    ("proxy", proxy::run),
    ("recognition", recognition::run),
    ("relay_reply", relay_reply::run),
    ("smtp_command", smtp_command::run),
    ("smtp_data", smtp_data::run),
    ("smtp_session", smtp_session::run),
    ("texts", texts::run),
];
