//! Logs: text for people and journald, JSON for programs, one line an event.
//!
//! Every line about a mail carries its id in the field `mail`, from the door to the ticket. Must not know: any room.

use std::ffi::OsStr;
use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::filter::{EnvFilter, FilterFn};
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

/// Targets that speak too much, unless the level names them.
const CAPS: &[&str] = &["sled=warn", "hickory_proto=warn", "hickory_resolver=warn"];

/// Targets whose details hold passwords and mail: nothing finer than `info` of them is logged, whatever the level says.
const SECRETIVE: &[&str] = &["async_imap", "imap_proto"];

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
    let registry = tracing_subscriber::registry().with(filter).with(cap());
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
                    .with_ansi(may_colour(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref()))
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

/// A filter behind the level's own, because a directive for a module or a span would win over any cap in that one.
fn cap() -> FilterFn {
    FilterFn::new(|event| {
        let root = event.target().split("::").next().unwrap_or_default();
        *event.level() <= tracing::Level::INFO || !SECRETIVE.contains(&root)
    })
}

/// Whether lines may have colours: on a terminal, unless NO_COLOR is set to anything (no-color.org).
fn may_colour(terminal: bool, no_color: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty)
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
    use tracing::Level;
    use tracing_subscriber::prelude::*;

    use super::{cap, check_level, filter, may_colour};

    #[test]
    fn no_level_shows_what_holds_passwords() {
        for level in ["trace", "async_imap=trace", "async_imap::imap_stream=trace,imap_proto=debug", "warn,[x]=trace"] {
            let subscriber = tracing_subscriber::registry().with(filter(level).unwrap()).with(cap());
            tracing::subscriber::with_default(subscriber, || {
                assert!(!tracing::enabled!(target: "async_imap::imap_stream", Level::TRACE), "{level}");
                assert!(!tracing::enabled!(target: "async_imap", Level::DEBUG), "{level}");
                assert!(!tracing::enabled!(target: "imap_proto", Level::DEBUG), "{level}");
            });
        }
        let subscriber = tracing_subscriber::registry().with(filter("trace").unwrap()).with(cap());
        tracing::subscriber::with_default(subscriber, || {
            assert!(tracing::enabled!(target: "async_imap", Level::INFO));
            assert!(tracing::enabled!(target: "async_imaplike", Level::TRACE));
            assert!(!tracing::enabled!(target: "sled", Level::INFO));
        });
    }

    #[test]
    fn colours_are_for_terminals_whose_people_want_them() {
        for (terminal, no_color, want) in
            [(true, None, true), (true, Some(""), true), (true, Some("1"), false), (false, None, false)]
        {
            assert_eq!(may_colour(terminal, no_color.map(std::ffi::OsStr::new)), want, "{terminal} {no_color:?}");
        }
    }

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
