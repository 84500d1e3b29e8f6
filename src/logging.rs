//! Logs: text for people and journald, JSON for programs, one line an event.
//!
//! Every line about a mail carries its id in the field `mail`, from the door to the ticket. Must not know: any room.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

mod journal;

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub format: Format,
    /// A level, or `target=level` pairs with commas between them.
    pub level: String,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For journald where standard error is its stream, and `text` anywhere else.
    Auto,
    /// With time, and with colours on a terminal.
    Text,
    /// Text without time, with a priority in front that journald understands (sd-daemon(3)).
    Journal,
    Json,
}

/// Targets that speak too much, or whose details hold credentials, whatever the level says.
const CAPS: &[&str] =
    &["async_imap=info", "imap_proto=info", "sled=warn", "hickory_proto=warn", "hickory_resolver=warn"];

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".into() }
    }
}

/// Changes the level while the daemon runs.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<EnvFilter, Registry>);

impl LevelHandle {
    /// Sets a level that `check_level` has found sound; a faulty one changes nothing.
    pub fn set(&self, level: &str) {
        if let Ok(filter) = filter(level) {
            // It fails only when the subscriber is gone, and then nobody logs any more.
            let _ = self.0.reload(filter);
        }
    }
}

/// Starts logging to standard error; once in a process.
pub fn start(config: &Config) -> Result<LevelHandle, String> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let begun = match resolve(config.format) {
        Format::Json => registry
            .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init(),
        Format::Journal => registry
            .with(tracing_subscriber::fmt::layer().event_format(journal::JournalFormat).with_writer(std::io::stderr))
            .try_init(),
        Format::Text | Format::Auto => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_target(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    begun.map(|()| LevelHandle(handle)).map_err(|error| error.to_string())
}

/// Says what is wrong with a level, if anything is.
pub fn check_level(level: &str) -> Result<(), String> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    let known = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let wrong = |part: &str| format!("\"{part}\" is not a level");
    for part in level.split(',') {
        let word = part.rsplit_once('=').map_or(part, |(_, word)| word);
        if !known(word.trim()) {
            return Err(wrong(part));
        }
    }
    let mut filter = EnvFilter::try_new(level).map_err(|_| wrong(level))?;
    for cap in CAPS {
        let target = cap.split('=').next().unwrap_or_default();
        if !level.contains(target) {
            filter = filter.add_directive(cap.parse().map_err(|_| wrong(cap))?);
        }
    }
    Ok(filter)
}

fn resolve(format: Format) -> Format {
    match format {
        Format::Auto if journal::is_our_stream() => Format::Journal,
        Format::Auto => Format::Text,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::check_level;

    #[test]
    fn levels_are_words_or_pairs() {
        for sound in ["info", "warn,ticketgate::smtp=debug", "off"] {
            assert_eq!(check_level(sound), Ok(()), "{sound}");
        }
        for faulty in ["", "loud", "info,smtp=verbose", "inof"] {
            assert!(check_level(faulty).is_err(), "{faulty}");
        }
    }
}
